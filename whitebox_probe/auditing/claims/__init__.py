"""The claims of the sparse rate reduction principle: one file each."""
