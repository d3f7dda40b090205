"""One streaming pass of a model over data."""
