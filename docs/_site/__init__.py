"""What the documentation site needs beside Sphinx: mathematics, docstrings, links, notebooks."""
