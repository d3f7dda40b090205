"""The nulls: one file each."""
