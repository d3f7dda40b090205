"""Commands killed at random and chosen points: `python -m tests.kills --help`."""
