"""The house itself: light imports, documented names, and the README's own test command."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import whitebox_probe as wp
from whitebox_probe._core import discover
from whitebox_probe.metrics import functional
from whitebox_probe.metrics.catalogue import measure_named
from whitebox_probe.metrics.measure import Measure

ROOT = Path(__file__).parents[1]


def loaded_after(code):
    """Names of the modules that are loaded after `code` ran in a fresh interpreter."""
    script = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(out.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import whitebox_probe", {"torch", "numpy", "pandas", "matplotlib", "timm"}),
        (
            "from whitebox_probe.cli.main import parser; parser()",
            {"torch", "numpy", "pandas", "matplotlib", "timm", "yaml"},
        ),
        ("from whitebox_probe import checkpoints; checkpoints.registry()", {"torch", "timm"}),
        ("import whitebox_probe.plots", {"torch", "matplotlib"}),
        # torchmetrics loads what else it finds installed; timm is ours to keep out.
        ("import whitebox_probe.probing.probe", {"timm"}),
    ],
)
def test_importing_loads_only_what_is_needed(code, absent):
    assert loaded_after(code) & absent == set()


def test_every_public_name_is_there_and_documented():
    for name in wp.__all__:
        thing = getattr(wp, name)
        assert inspect.getdoc(thing), name
    with pytest.raises(AttributeError, match="nothing_here"):
        wp.nothing_here  # noqa: B018


@pytest.mark.parametrize("name", dir(functional))
def test_every_function_states_shapes_or_values_and_its_source(name):
    doc = inspect.getdoc(getattr(functional, name)) or ""
    if name != "official_bounds":
        assert "Shapes:" in doc
        assert "Raises:" in doc


def test_imports_point_down():
    importlinter = pytest.importorskip("importlinter.cli")
    assert importlinter.lint_imports(str(ROOT / "setup.cfg")) == 0


def test_ci_runs_the_readmes_own_test_command():
    readme = (ROOT / "README.md").read_text()
    block = readme.partition("<!-- test command -->")[2].split("```")[1]
    command = block.removeprefix("bash\n").strip()
    assert command.count("\n") == 0
    assert "pip install" in command
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_nothing_in_the_project_names_a_machine_of_its_authors():
    for path in ROOT.rglob("*"):
        if path.suffix in {".py", ".md", ".cfg", ".yaml", ".ipynb"} and ".venv" not in str(path):
            text = path.read_text(errors="ignore")
            assert f"/{'root'}/" not in text, path
            assert f"/{'home'}/" not in text, path


def test_annotations_are_no_classes_of_ours():
    # Python 3.10 calls them classes, and issubclass then raises for them.
    for annotation in (list[int], Callable[[int], str], int | str):
        assert not discover.is_class_of(annotation, (list, Measure))
    assert discover.is_class_of(measure_named("coding_rate"), Measure)
    asked = re.compile(r"isinstance\((\w+), type\) and issubclass\(\1")
    for path in (ROOT / "whitebox_probe").rglob("*.py"):
        assert not asked.search(path.read_text()), path
