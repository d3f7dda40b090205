"""Mutation testing: `python -m tests.mutants whitebox_probe/stats`."""
