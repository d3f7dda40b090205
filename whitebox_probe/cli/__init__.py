"""The command line: `main` and one file a command, found by its place in this folder."""
