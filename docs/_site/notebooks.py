"""The notebooks, which live beside docs/, as pages of the site: copied in, never run here."""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HERE = Path(__file__).parents[1]
FROM = HERE.parent / "notebooks"
TO = HERE / "notebooks"


def copy(app: Sphinx) -> None:
    """Copy what is new, and take away what is gone."""
    TO.mkdir(exist_ok=True)
    kept = {file.name: file.read_bytes() for file in sorted(FROM.glob("*.ipynb"))}
    for old in TO.glob("*.ipynb"):
        if old.name not in kept:
            old.unlink()
    for name, content in kept.items():
        file = TO / name
        if not file.is_file() or file.read_bytes() != content:
            file.write_bytes(content)


def setup(app: Sphinx) -> dict[str, Any]:
    """Before Sphinx looks for pages."""
    app.connect("builder-inited", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
