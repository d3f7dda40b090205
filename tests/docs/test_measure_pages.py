"""Each measure's page is what its own words make, and its picture is there."""

import importlib.util
from pathlib import Path

import pytest

from whitebox_probe.metrics.catalogue import catalogue

DOCS = Path(__file__).parents[2] / "docs"
MEASURES = DOCS / "measures"


@pytest.fixture(scope="module")
def pages():
    pytest.importorskip("skdim")
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    return tables.pages()


def test_every_page_is_what_the_code_gives_and_no_other_is_there(pages):
    there = {file.stem: file.read_text() for file in MEASURES.glob("*.md")}
    assert set(there) == set(pages)
    stale = [name for name, text in pages.items() if there[name] != text]
    assert stale == [], "run: python docs/tables.py"


def test_a_page_tells_what_the_catalogue_tells(pages):
    for name, text in pages.items():
        kind = catalogue()[name]
        for part in (kind.tex, kind.unit, kind.cost, f"figures/measures/{name}.png"):
            assert part in text, (name, part)


def test_nulls_are_those_that_move_a_measure(pages):
    assert (
        "| `gaussian`, `random_subspaces`, `random_weights`, `shuffled` |" in pages["compression"]
    )
    assert "| `gaussian`, `random_weights` |" in pages["l0"]  # other orders have as many zeros
    assert "`gaussian`" not in pages["lasso_change"]  # Gaussian tokens are no codes


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_its_picture_is_there_and_small(name):
    picture = (DOCS / "figures" / "measures" / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert 3_000 < len(picture) < 300_000
