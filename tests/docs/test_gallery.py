"""The gallery shows every figure, by a call that can be made."""

import re
import runpy
from pathlib import Path

import pytest

import whitebox_probe as wp

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "gallery.md").read_text()


def own():
    """The package's own figures: other packages add theirs where they are installed."""
    return [n for n, f in wp.plots.figures.items() if f.__module__.startswith("whitebox_probe.")]


def test_every_figure_is_in_the_gallery_and_nothing_else():
    assert re.findall(r"^## `(\w+)`$", PAGE, flags=re.M) == sorted(own())


@pytest.mark.parametrize("name", own())
def test_its_picture_is_there_and_small(name):
    picture = DOCS / "figures" / "gallery" / f"{name}.png"
    assert f"(figures/gallery/{name}.png)" in PAGE
    assert 3_000 < picture.stat().st_size < 300_000
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", own())
def test_its_call_names_keywords_that_the_figure_has(name):
    import inspect

    of, keywords = runpy.run_path(str(DOCS / "gallery.py"))["recipe"](name)
    assert set(keywords) <= set(inspect.signature(wp.plots.figures[name]).parameters)
    assert f"wp.plots.{name}(" in PAGE
    assert of
