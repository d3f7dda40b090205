"""Hostile files and values through the command line, by seed: `python -m tests.fuzz --help`."""
