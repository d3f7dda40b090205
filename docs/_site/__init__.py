"""What the documentation site needs beside Sphinx: formulas, docstrings, links, notebooks."""
