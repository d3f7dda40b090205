"""Every notebook runs from a clean kernel, and is stored with its outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
MOST = 400_000  # bytes of a notebook with its pictures
CHANGE = {r"^MODELS?\b.* = ", r"^(MODEL, )?DATA = "}  # what a reader changes, in the first cell
LOCAL = re.compile(r"/(tmp|home|root|work|Users|usr)/|ipykernel_|[A-Z]:\\\\Users")

# Sizes that are read as less when a notebook is run: no line of it depends on how many there are.
SIZES = {
    r"\blimit(?:=|\": )(\d+)": "16",  # samples
    r"\brange\((\d+)\)": "20",  # steps of a training
    r"^STEPS = \(0, 10((?:, \d+)+)\)": "",  # and those of them at which it is measured
}


def smaller(source):
    """The source of a cell with fewer samples and steps, where it has many."""
    for pattern, most in SIZES.items():
        for found in reversed([*re.finditer(pattern, source, re.M)]):
            if not most or int(found[1]) > int(most):
                source = source[: found.start(1)] + most + source[found.end(1) :]
    return source


def code_of(path):
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]


@pytest.mark.filterwarnings("ignore")  # of the kernel's own machinery
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs_from_a_clean_kernel(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # no network: a wheel that is not here stays away
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = smaller(cell.source) if cell.cell_type == "code" else cell.source
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_is_stored_with_its_outputs_and_defines_no_functions(path):
    cells = code_of(path)
    assert 1 <= len(cells) < 10
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert any("image/png" in o.get("data", {}) for c in cells for o in c.outputs)
    assert not any(o.output_type == "error" for c in cells for o in c.outputs)
    assert not any("def " in c.source for c in cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_its_first_cell_has_what_a_reader_changes(path):
    first = code_of(path)[0].source
    assert "import whitebox_probe as wp" in first
    assert all(re.search(pattern, first, re.M) for pattern in CHANGE)
    later = "\n".join(c.source for c in code_of(path)[1:])
    assert not any(re.search(pattern, later, re.M) for pattern in CHANGE)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_is_small_and_says_nothing_of_the_machine(path):
    assert path.stat().st_size < MOST
    for cell in code_of(path):
        assert not cell.metadata, "times of execution and the like are stripped"
        for output in cell.outputs:
            assert output.get("name") != "stderr"
            told = output.get("text", "") + "".join(
                text for kind, text in output.get("data", {}).items() if kind.startswith("text/")
            )
            assert not LOCAL.search(told)


def test_they_are_numbered_without_a_gap():
    assert [p.stem[:2] for p in NOTEBOOKS] == [f"{n:02}" for n in range(1, len(NOTEBOOKS) + 1)]
