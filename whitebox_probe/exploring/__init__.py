"""Widgets for a notebook: a few samples seen from inside, layer by layer."""
