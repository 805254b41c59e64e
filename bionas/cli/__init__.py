"""The command line and the notebook runner."""
