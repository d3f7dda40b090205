"""External links come from one list, links.toml: a page names an address, and never holds it."""

import sys
from functools import cache
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIST = Path(__file__).parents[1] / "links.toml"


@cache
def listed() -> dict[str, Any]:
    """The list as it is written."""
    return tomllib.loads(LIST.read_text(encoding="utf-8"))


def define(app: Sphinx, docname: str, source: list[str]) -> None:
    """Give a page of Markdown the addresses that its `[words][name]` stand for."""
    if app.env.doc2path(docname).suffix == ".md":
        named = [f"[{name}]: {address}" for name, address in listed()["links"].items()]
        source[0] = "\n".join([source[0].rstrip("\n"), "", *named, ""])


def schemes(app: Sphinx, config: Config) -> None:
    """Let `arxiv:2306.01129` and the like be addresses."""
    known = {name: {"url": address} for name, address in listed()["schemes"].items()}
    config.myst_url_schemes = {"http": None, "https": None, "mailto": None, **known}


def setup(app: Sphinx) -> dict[str, Any]:
    """Before MyST looks at its settings, and whenever a page is read."""
    app.connect("config-inited", schemes, priority=100)
    app.connect("source-read", define)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
