"""What editors and type checkers see of the package: stubs that are made of the code."""

import importlib
import importlib.util
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import whitebox_probe as wp

ROOT = Path(__file__).parents[1]
RIGHT = """
import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

import whitebox_probe as wp

model = wp.load("crate-tiny-fmnist")
result: wp.Result = wp.probe(model, "fashion-mnist", ["l0"], eps=[0.1, 0.5], limit=8)
wp.probe(model, "fashion-mnist", wp.Request(metric="l0"))
axes = plt.subplots()[1]
figure: Figure = wp.plots.compression(result, ax=axes, palette=["k"], normalise="per_token")
wp.plots.save(figure, "compression", ["pdf"])
wp.plots.audit(wp.audit([model], "fashion-mnist", thresholds=wp.Thresholds(cosine=0.6)))
names: list[str] = list(wp.plots.figures)
metric = wp.metrics.Compression(eps=0.1, dist_sync_on_step=True)
metric.update(torch.ones(1, 2, 3), torch.ones(1, 3, 2))
value: torch.Tensor = metric.compute()
each: torch.Tensor = metric.samples()
precision: float = metric.definition.eps + metric.eps
numbers: dict[str, float] = wp.metrics.Coherence().compute()
rate: torch.Tensor = wp.metrics.functional.coding_rate(torch.ones(1, 2, 3), eps=0.1)
run: wp.Run = result.run
version: str = wp.__version__
"""
WRONG = """
import torch
import whitebox_probe as wp
result = wp.Result.load("x")
Z = torch.ones(1, 2, 3)
"""
MISTAKES = {
    'wp.prob("m", "d")': "prob",
    "wp.plots.compresion(result)": "compresion",
    "wp.metrics.Compresion(eps=0.1)": "Compresion",
    "wp.metrics.functional.codin_rate(Z, eps=0.1)": "codin_rate",
    'wp.plots.compression(result, palett=["k"])': "palett",
    'wp.plots.compression(result, width="page")': "width",
    'wp.probe("m", "d", epss=1)': "epss",
    "wp.metrics.functional.coding_rate(Z, eps=0.1, epsilon=1)": "epsilon",
    'wp.metrics.Compression(eps="small")': "eps",
    "wp.metrics.Compression().definition.epss": "epss",
}
# Large and not ours: left out, mypy answers in a tenth of the time. pyright reads them all.
MYPY = """
[mypy]
strict = true
follow_imports = silent
[mypy-torch.*,torchvision.*,torchmetrics.*,pandas.*,matplotlib.*,numpy.*,timm.*,transformers.*]
follow_imports = skip
ignore_missing_imports = true
"""


def loaded():
    spec = importlib.util.spec_from_file_location("stubs", ROOT / "docs" / "stubs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


stubs = loaded()


@pytest.fixture
def folder(tmp_path):
    """One file that is right, and one with a mistake a line."""
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG + "\n".join(MISTAKES) + "\n")
    (tmp_path / "mypy.ini").write_text(MYPY)
    settings = {"extraPaths": [str(ROOT)], "include": ["*.py"]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    return tmp_path


def expect_each_mistake_told(errors):
    """Errors: (file's name, line, text) of each."""
    assert [error for error in errors if error[0] == "right.py"] == []
    first = WRONG.count("\n") + 1
    for line, (code, name) in enumerate(MISTAKES.items(), first):
        told = [text for _, where, text in errors if where == line]
        assert any(f'"{name}"' in text for text in told), (code, told)
    assert {where for _, where, _ in errors} == set(range(first, first + len(MISTAKES)))


@pytest.mark.parametrize("path", stubs.STUBS)
def test_a_stub_is_what_the_code_gives(path):
    assert (ROOT / path).read_text() == stubs.STUBS[path](), "run: python docs/stubs.py"


def test_a_stale_stub_is_noticed(monkeypatch):
    before = stubs.functional()
    monkeypatch.setattr(wp.metrics.functional, "_gather", lambda: {"l0": wp.metrics.sparsity.l0})
    after = stubs.functional()
    assert "coding_rate" in before
    assert "coding_rate" not in after


def test_the_public_names_are_those_with_a_home():
    assert sorted([*wp._HOMES, *wp._FOLDERS]) == sorted(wp.__all__)
    assert dir(wp) == sorted([*wp.__all__, "__version__"])


def test_the_stubs_and_the_marker_are_packaged():
    config = (ROOT / "setup.cfg").read_text().partition("[options.package_data]")[2]
    listed = config.partition("\n[")[0].split()
    package = ROOT / "whitebox_probe"
    packaged = {path for pattern in listed[2:] for path in package.glob(pattern)}
    assert {package / "py.typed", *package.rglob("*.pyi")} <= packaged
    assert {ROOT / path for path in stubs.STUBS} == set(package.rglob("*.pyi"))


def test_the_functions_are_there_before_anything_imported_them():
    code = "import whitebox_probe as wp; print(wp.metrics.functional.coding_rate.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "coding_rate\n"


def test_help_and_dir_show_what_there_is():
    assert {"Compression", "functional"} <= set(dir(wp.metrics))
    assert "compression" in dir(wp.plots)
    told = inspect.getdoc(wp.metrics.Compression)
    assert "Shapes: Z" in told
    assert list(inspect.signature(wp.metrics.Compression).parameters) == [
        "convention",
        "eps",
        "kwargs",
    ]


def test_mypy_finds_each_mistake_and_no_other(folder, monkeypatch):
    pytest.importorskip("mypy")
    monkeypatch.setenv("MYPYPATH", str(ROOT))
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache"]
    done = subprocess.run(
        [*command, "right.py", "wrong.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    found = re.findall(r"^(\w+\.py):(\d+): error: (.*)$", done.stdout, re.M)
    assert found, done.stdout + done.stderr
    expect_each_mistake_told([(file, int(line), text) for file, line, text in found])


def pyright():
    """The command, where it is installed and answers: it needs node, which it may have to fetch."""
    command = shutil.which("pyright", path=Path(sys.executable).parent) or shutil.which("pyright")
    if command is None:
        pytest.skip("pyright is not installed")
    try:
        subprocess.run([command, "--version"], capture_output=True, timeout=30, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"pyright does not start: {error}")
    return command


def test_pyright_finds_each_mistake_and_no_other(folder):
    done = subprocess.run(
        [pyright(), "--outputjson", "--project", ".", "--pythonpath", sys.executable],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [each for each in found if each["severity"] == "error"]
    # An expression that stands alone is a warning, as it is here on purpose.
    expect_each_mistake_told(
        [(Path(e["file"]).name, e["range"]["start"]["line"] + 1, e["message"]) for e in errors]
    )


@pytest.fixture
def script():
    """What jedi makes of a line after the import."""
    jedi = pytest.importorskip("jedi")
    project = jedi.Project(ROOT)
    return lambda line: jedi.Script(f"import whitebox_probe as wp\n{line}", project=project)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("wp.pl", "plots"),
        ("wp.Req", "Request"),
        ("wp.plots.comp", "compression"),
        ("wp.metrics.Comp", "Compression"),
        ("wp.metrics.functional.cod", "coding_rate"),
        ("wp.metrics.Compression(eps=1).sam", "samples"),
        ("wp.probe('a', 'b').cur", "curve"),
    ],
)
def test_jedi_completes(script, line, name):
    assert name in [each.name for each in script(line).complete()]


@pytest.mark.parametrize(
    ("line", "parameters", "words"),
    [
        ("wp.probe(", {"model", "data", "eps", "basis"}, "Measure every layer"),
        ("wp.plots.compression(", {"results", "ax", "palette", "title"}, "R^c of each layer"),
        ("wp.metrics.Compression(", {"convention", "eps"}, "R^c(Z; U) of each sample"),
        ("wp.metrics.functional.coding_rate(", {"Z", "eps"}, "Coding rate of each sample"),
    ],
)
def test_jedi_shows_signature_and_docstring(script, line, parameters, words):
    (found,) = script(line).get_signatures()
    assert parameters <= {each.name for each in found.params}
    assert words in found.docstring()
