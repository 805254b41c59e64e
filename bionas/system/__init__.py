"""The machine: files written whole, folders, progress bars."""
