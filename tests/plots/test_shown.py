"""Where figures are shown: by a notebook, once, and by pyplot."""

import sys
import threading
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pytest
from nbclient import NotebookClient

import whitebox_probe as wp
from whitebox_probe.plots._figure import StyledFigure, unshown

sys.path.insert(0, str(Path(__file__).parent))
import synthetic

mpl.use("agg")
SETUP = """
import sys
sys.path.insert(0, {folder!r})
import synthetic, whitebox_probe as wp
draw = lambda: wp.plots.compression(synthetic.result("crate"))
"""
# Cell -> how many pictures it shows.
BEFORE = {"draw()": 1, "f = draw()": 0, "f": 1, "'matplotlib.pyplot' in sys.modules": 0}
WITH = {
    "import matplotlib.pyplot as plt": 0,
    "draw() ": 1,
    "f = draw() ": 1,
    "f ": 1,
    "f = draw()\nplt.show()": 1,
    "draw()\nplt.show()": 1,
    "plt.show()": 0,
    "f = draw()\nf": 1,
    "draw()\ndraw()": 2,
    "f = draw()\nplt.close(f)": 0,
    "f.show()": 1,
    "from whitebox_probe.plots._figure import unshown\nwith unshown():\n    f = draw()": 0,
    "%config InlineBackend.figure_formats = ['svg']\ndraw()": 1,
    "assert not plt.get_fignums()": 0,
}


def pictures(cell):
    return sum(
        any(kind.startswith("image/") for kind in output.get("data", {})) for output in cell.outputs
    )


@pytest.mark.filterwarnings("ignore")  # of the kernel's own machinery
def test_a_notebook_shows_each_figure_once(monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)
    folder = synthetic.__file__.rpartition("/")[0]
    sources = [SETUP.format(folder=folder), *BEFORE, *WITH]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources])
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    found = {cell.source: pictures(cell) for cell in notebook.cells[1:]}
    assert found == BEFORE | WITH
    # The package loads no pyplot of its own: what was shown so far was the notebook's doing.
    assert notebook.cells[4].outputs[0]["data"]["text/plain"] == "False"


@pytest.fixture
def windows(monkeypatch):
    """A pyplot that seems to have windows."""
    monkeypatch.setattr(plt, "get_backend", lambda: "a backend with windows")
    yield
    plt.close("all")


@pytest.mark.usefixtures("windows")
def test_a_figure_with_a_window_is_no_picture_beside_it():
    figure = wp.plots.compression(synthetic.result("crate"))
    assert figure._repr_png_() is None
    assert figure._repr_mimebundle_() == {}
    assert plt.get_fignums()
    plt.close(figure)
    assert figure._repr_png_().startswith(b"\x89PNG")


@pytest.mark.usefixtures("windows")
def test_pyplot_does_not_learn_of_figures_that_nobody_is_to_see():
    with unshown():
        wp.plots.compression(synthetic.result("crate"))
    assert not plt.get_fignums()
    other = threading.Thread(target=lambda: wp.plots.compression(synthetic.result("crate")))
    other.start()
    other.join()
    assert not plt.get_fignums()


def test_show_leaves_nothing_open_where_nothing_can_be_shown():
    figure = wp.plots.compression(synthetic.result("crate"))
    assert isinstance(figure, StyledFigure)
    figure.show(warn=False)
    assert not plt.get_fignums()
