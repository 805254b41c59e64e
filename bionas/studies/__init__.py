"""The experiments: each study runs the method many times and writes one table."""
