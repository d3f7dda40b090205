"""The explorer: what its widgets show when they are moved, in and out of a kernel."""

import sys
import time

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import MissingDependency, ProbeError
from whitebox_probe.exploring.panes import Panes

IMAGES = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def panes(model="crate", **options):
    module = small_crate() if model == "crate" else small_vit()
    whole = wp.wrap(module, name=model)
    seen = wp.view(whole, IMAGES, **options)
    return Panes(seen, wp.probe(whole, IMAGES, metrics=["l0", "coding_rate"], progress=False))


def test_without_ipywidgets_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(MissingDependency, match=r"ipywidgets is missing.*\[notebooks\]"):
        wp.explore("crate-tiny-fmnist", "fashion-mnist")


@pytest.mark.parametrize("model", ["crate", "vit"])
def test_pictures_are_made_once_and_differ(model):
    found = panes(model)
    for draw in (found.tokens, found.colours):
        assert draw(0, 1).startswith(b"\x89PNG")
        assert draw(0, 1) is draw(0, 1)
        assert len({draw(0, 1), draw(1, 1), draw(0, 2)}) == 3
    several = [found.attention(0, 1, head) for head in (None, 1, 2)]
    assert len(set(several)) == 3


def test_the_table_has_the_sample_s_own_numbers():
    found = panes(seed=4)
    assert found.view.ids == tuple(found.result.samples.index)
    text = found.measures(1, 2)
    values = found.result.values("coding_rate")
    assert f"{values[1, 1]:.2f}" in text or f"{values[1, 1]:.3f}" in text
    assert found.measures(1, 2) != found.measures(1, 3)


def test_what_a_view_does_not_hold_is_told():
    found = panes(sites=["z_out"])
    with pytest.raises(ProbeError, match="does not hold 'attn_weights'"):
        found.attention(0, 1, None)
    assert found.heads == 0


@pytest.fixture
def explorer():
    pytest.importorskip("ipywidgets")
    whole = wp.wrap(small_crate(), name="<b>crate</b>")
    return wp.explore(whole, IMAGES, metrics=["l0"], limit=3)


def test_moving_a_widget_changes_what_is_shown(explorer):
    def shown():
        return [explorer._pictures[n].value for n in ("attention", "tokens", "colours")]

    before, table = shown(), explorer._table.value
    explorer.layer.value = 1
    assert all(a != b for a, b in zip(before, shown(), strict=True))
    assert explorer._table.value != table
    before = shown()
    explorer.head.value = 2
    assert [a == b for a, b in zip(before, shown(), strict=True)] == [False, True, True]
    before = shown()
    explorer.sample.value = 2
    assert all(a != b for a, b in zip(before, shown(), strict=True))
    assert len(repr(explorer)) <= 150
    assert "<b>crate</b>" not in explorer.box.children[0].value


def test_what_cannot_be_drawn_is_said_in_its_place(explorer):
    explorer.panes.view.sites.pop(("attn_weights", 2))
    explorer.layer.value = 2
    assert "does not hold layer 2" in explorer._notes["attention"].value
    assert explorer._pictures["attention"].layout.display == "none"
    explorer.layer.value = 1
    assert explorer._notes["attention"].value == ""
    assert explorer._pictures["attention"].layout.display == ""


@pytest.fixture(scope="module")
def of_texts():
    pytest.importorskip("ipywidgets")
    return wp.explore("gpt2-tiny-kjv", "kjv", metrics=["l0"], limit=2)


def ticks(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_texts_have_tokens_attention_and_measures(of_texts):
    assert set(of_texts._pictures) >= {"attention", "tokens"}
    assert bytes(of_texts._pictures["tokens"].value).startswith(b"\x89PNG")
    assert of_texts._notes["attention"].value == ""
    assert bytes(of_texts._pictures["colours"].value) == b""


def test_tokens_of_a_text_are_shown_as_their_words(of_texts, monkeypatch):
    drawn = {}
    for name in ("attention_matrix", "tokens"):

        def noted(*args, name=name, draw=wp.plots.figures[name], **options):
            drawn[name] = draw(*args, **options)
            return drawn[name]

        monkeypatch.setattr(wp.plots, name, noted)
    of_texts.head.value, of_texts.layer.value, of_texts.first.value = 2, 5, 41
    first, last = 41, 73
    wanted = [word.replace("\n", "↵") for word in of_texts.panes.view.texts[0][first:last]]
    wanted = [word.strip() or "␣" for word in wanted]
    (matrix,) = drawn["attention_matrix"].axes
    assert ticks(matrix.xaxis) == ticks(matrix.yaxis) == wanted
    held = of_texts.panes.view.at("attn_weights", 5)[0, 1, first:last, first:last]
    seen = np.ma.filled(matrix.images[0].get_array().astype(float), np.nan)
    low = np.tril(np.ones_like(held, dtype=bool))
    np.testing.assert_array_equal(seen[low], held[low])
    assert ticks(drawn["tokens"].axes[0].yaxis) == wanted


def test_the_words_of_a_text_are_coloured_by_its_sample_and_layer(of_texts):
    of_texts.sample.value, of_texts.layer.value = 1, 3
    told = of_texts._words.value
    assert "layer 3" in told
    assert told.count("<span") == of_texts.panes.length == 128
    norm = np.linalg.norm(of_texts.panes.view.at("z_out", 3)[1, 0])
    assert f"{norm:.4g}" in told
    of_texts.sample.value = 0
    assert told != of_texts._words.value


def test_images_have_no_stretch_of_tokens(explorer):
    assert explorer.first.layout.display == "none"
    assert explorer.sample.layout.display is explorer.layer.layout.display is None
    assert explorer._words.value == ""


def test_an_update_is_quick():
    """Half a second a step on the shipped model, of the processor's time: others may be at work."""
    pytest.importorskip("ipywidgets")
    found = wp.explore("crate-tiny-fmnist", "fashion-mnist", limit=4)
    found.layer.value = 1  # loads what is loaded once
    spent = []
    for layer in (2, 3, 4):
        start = time.process_time()
        found.layer.value = layer
        spent.append(time.process_time() - start)
    assert np.median(spent) < 0.5


@pytest.mark.filterwarnings("ignore")  # of the kernel's own machinery
def test_it_is_shown_and_driven_in_a_kernel():
    pytest.importorskip("ipywidgets")
    cells = [
        "import whitebox_probe as wp\n"
        "explorer = wp.explore('crate-tiny-fmnist', 'fashion-mnist', limit=2)\nexplorer",
        "before = explorer._pictures['tokens'].value\nexplorer.layer.value = 3\n"
        "before != explorer._pictures['tokens'].value",
        "import matplotlib.pyplot as plt\nexplorer.layer.value = 2",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    first, second, third = (cell.outputs for cell in notebook.cells)
    (shown,) = first
    assert "application/vnd.jupyter.widget-view+json" in shown["data"]
    assert second[0]["data"]["text/plain"] == "True"
    assert third == []  # its pictures are its own: pyplot shows none of them


@pytest.mark.filterwarnings("ignore")
def test_a_notebook_has_bars_and_no_warning_with_or_without_ipywidgets():
    cells = [
        "import whitebox_probe as wp\nfrom whitebox_probe._core import progress\n"
        "model = wp.load('crate-tiny-fmnist')",
        "progress.DELAY = 0\nr = wp.probe(model, 'fashion-mnist', limit=3, metrics=['l0'])",
        "r = wp.probe(model, 'fashion-mnist', limit=3, metrics=['l0'], progress=False)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    quiet, bar, none = (cell.outputs for cell in notebook.cells)
    assert quiet == none == []
    told = str(bar)
    assert "3/3" in told or "widget-view" in told
    assert "Warning" not in told
