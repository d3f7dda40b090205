"""Cross-references to other packages, from the list in links.toml and without a network.

Sphinx's intersphinx reads an inventory of each package; those of the packages are fetched, and
these are written from the few names that our signatures use.
"""

import zlib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

from _site.links import listed


def packed(project: str, objects: dict[str, dict[str, str]]) -> bytes:
    """An inventory of version 2: role -> name -> page."""
    lines = [
        f"{name} py:{role} 1 {page} -"
        for role, pages in objects.items()
        for name, page in pages.items()
    ]
    head = f"# Sphinx inventory version 2\n# Project: {project}\n# Version: \n"
    note = "# The remainder of this file is compressed using zlib.\n"
    return (head + note).encode() + zlib.compress(("\n".join(lines) + "\n").encode())


def write(app: Sphinx, config: Config) -> None:
    """Write the inventories into the build, and name them to intersphinx."""
    folder = Path(app.doctreedir) / "inventories"
    folder.mkdir(parents=True, exist_ok=True)
    for project, entry in listed()["objects"].items():
        file = folder / f"{project}.inv"
        objects = {role: pages for role, pages in entry.items() if role != "url"}
        file.write_bytes(packed(project, objects))
        config.intersphinx_mapping[project] = (entry["url"], str(file))


def setup(app: Sphinx) -> dict[str, Any]:
    """Before intersphinx looks at its settings."""
    app.connect("config-inited", write, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
