"""Specimens (section IV): what one is, where they come from, how they are divided and drawn in batches."""
