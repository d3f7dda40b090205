"""Adding a figure touches one file: its own, in the folder of figures or in another package."""

import sys

import pytest

import whitebox_probe as wp
from whitebox_probe import plots
from whitebox_probe._core.errors import PluginError
from whitebox_probe.cli import main as cli
from whitebox_probe.results.result import Result

CODE = '''
"""Counts of rows."""

from whitebox_probe.plots import style
from whitebox_probe.plots.page import extent, page
from whitebox_probe.plots.kind import figure


@figure(takes="results", rows=("l0",))
def {name}(*results, title=None, labels=None, palette=None, ax=None, size=None, width=None):
    """How many rows the table of each result has, as bars."""
    looks = style.looks([r.model for r in results], labels=labels, palette=palette)
    inches = extent(size, width, usual="column", height=2)
    with page(ax, inches=inches) as sheet:
        for result in results:
            look = looks[result.model]
            sheet.ax.bar(look.label, len(result.frame), color=look.colour)
        sheet.ax.set_title(title or "")
    return sheet.figure
'''


@pytest.fixture
def saved(tmp_path):
    """A saved result of a model."""
    model = wp.load("crate-tiny-fmnist")
    result = wp.probe(model, "fashion-mnist", ["l0"], limit=2, progress=False)
    return result.save(tmp_path / "saved")


@pytest.fixture
def forgotten():
    """After the test there is no further figure, whatever it has added."""

    def forget():
        plots._own.cache_clear()
        plots._added.cache_clear()

    before, path = set(sys.modules), list(plots.__path__)
    forget()
    yield
    plots.__path__[:] = path
    for name in ("spiral", "toy_bars"):
        vars(plots).pop(name, None)
    for module in set(sys.modules) - before:
        if "spiral" in module or "toy" in module:
            del sys.modules[module]
    forget()


def call(capsys, *words):
    status = cli.main([str(word) for word in words])
    return status, *capsys.readouterr()


def test_a_file_in_the_folder_is_all_that_a_figure_needs(saved, forgotten, tmp_path, capsys):
    folder = tmp_path / "figures"
    folder.mkdir()
    (folder / "spiral.py").write_text(CODE.format(name="spiral"))
    assert "spiral" not in plots.figures
    plots.__path__.append(str(folder))
    assert "spiral" in plots.figures
    assert "spiral" in dir(plots)
    assert wp.plots.spiral is plots.figures["spiral"]
    assert len(wp.plots.spiral(Result.load(saved)).axes[0].patches) == 1
    with pytest.raises(wp.ProbeError, match="'spiral' has no keyword 'tittle'"):
        wp.plots.spiral(tittle="x")
    status, out, err = call(
        capsys, "plot", saved, "--figure", "spiral", "--out", tmp_path / "a.png"
    )
    assert (status, err) == (0, "")
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert out.strip() == str(tmp_path / "a.png")
    status, out, _ = call(capsys, "list", "--figures")
    assert "How many rows the table of each result has" in out


def install(folder, code, *, name, entry):
    """A distribution of one module, found by its entry point."""
    (folder / "toy_figures.py").write_text(code)
    info = folder / "toy_figures-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-figures\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{plots.GROUP}]\n{name} = toy_figures:{entry}\n")


def test_another_package_adds_a_figure(saved, forgotten, tmp_path, monkeypatch, capsys):
    install(tmp_path, CODE.format(name="toy_bars"), name="toy_bars", entry="toy_bars")
    monkeypatch.syspath_prepend(tmp_path)
    assert list(plots.figures)[-1] == "toy_bars"
    assert wp.plots.toy_bars(Result.load(saved)).axes
    status, _, err = call(
        capsys, "plot", saved, "--figure", "toy_bars", "--out", tmp_path / "b.png"
    )
    assert (status, err) == (0, "")


@pytest.mark.parametrize(
    ("code", "name", "told"),
    [
        (CODE.format(name="compression"), "compression", "whitebox-probe has one of that name"),
        ("def toy_bars(): pass", "toy_bars", r"it gives a function.*plots\.kind\.figure"),
        ("import nothing_there", "toy_bars", "ModuleNotFoundError: No module named"),
    ],
)
def test_a_figure_that_cannot_be_added_names_its_package(
    code, name, told, forgotten, tmp_path, monkeypatch
):
    install(tmp_path, code, name=name, entry=name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=rf"toy-figures \(toy_figures:{name}\).*{told}"):
        list(plots.figures)
