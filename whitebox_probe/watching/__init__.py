"""Measures while a model is trained, which is left as it would have been without."""
