"""Cells that run elsewhere: the same numbers, and a worker that dies costs its cell alone."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

import whitebox_probe as wp
from whitebox_probe._core.errors import MissingDependency, SweepError
from whitebox_probe.sweeping.engine import engine_named, engines

CRATE, VIT = "crate-tiny-fmnist", "vit-tiny-fmnist"
# Kills the process that makes it, once.
DEADLY = """
import os, signal
from pathlib import Path
import torch
from timm.models.vision_transformer import VisionTransformer

def make():
    once = Path(__file__).with_name("once")
    if not once.exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    torch.manual_seed(1)
    sizes = dict(patch_size=7, num_classes=5, embed_dim=16, depth=2, num_heads=2)
    return VisionTransformer(img_size=28, in_chans=1, **sizes).eval()
"""


@pytest.fixture
def document(tmp_path):
    (tmp_path / "net.py").write_text(DEADLY)
    deadly = {"name": "deadly", "model": f"{tmp_path / 'net.py'}:make", "preprocess": CRATE}
    return {
        "models": [deadly, CRATE, VIT],
        "metrics": ["l0", "compression"],
        "limit": 8,
        "threads": 1,
        "workers": 2,
    }


def swept(document, out, **options):
    return wp.sweep({**document, "out": str(out)}, progress=False, **options)


def costs_its_cell_only(document, tmp_path, engine, **more):
    """Swept by an engine, of which one worker is killed; then once more, and here."""
    found = swept({**document, **more}, tmp_path / "there", engine=engine)
    others = ["done"] * (len(found.cells) - 1)
    assert [each.state for each in found.cells] == ["lost", *others]
    assert found.table["error"].tolist()[1:] == [""] * len(others)
    again = swept({**document, "workers": 1}, tmp_path / "there", engine="serial")
    here = swept({**document, "workers": 1}, tmp_path / "here", engine="serial")
    assert [each.state for each in again.cells] == ["done", *others]
    assert again.frame.equals(here.frame)
    for one, other in zip(found.cells, here.cells, strict=True):
        files = [each.folder / "samples.parquet" for each in (one, other)]
        assert files[0].read_bytes() == files[1].read_bytes()
    return found.cells[0].failure.line


def of_ray():
    named = (name for name in os.environ if name.startswith("RAY_") or name == "PYTHONBREAKPOINT")
    return {name: os.environ[name] for name in named}


def processes_of(mark):
    """Command lines of other processes that hold a text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if mark in words and int(folder.name) != os.getpid():
            found.append(words)
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_two_workers_of_ray_give_the_same_table_and_one_that_dies_costs_its_cell(
    document, tmp_path, monkeypatch
):
    if find_spec("ray") is None:  # imported, it would have read the environment before us
        pytest.skip("ray, of 240 MB, is not installed: it comes with whitebox-probe[ray]")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    before = of_ray()
    told = costs_its_cell_only(document, tmp_path, "ray")
    assert "its worker ended (WorkerCrashedError" in told
    assert of_ray() == before
    assert list((tmp_path / "home").iterdir()) == []  # Ray would keep a word of its own there
    assert processes_of(b"/wp-") == []


# submitit leaves the logs of a job, and the process that waits for it, to the garbage collector.
of_submitit = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.slow
@of_submitit
def test_jobs_of_submitit_give_the_same_table_and_one_that_dies_costs_its_cell(document, tmp_path):
    pytest.importorskip("submitit")
    slurm = {"cluster": "local", "timeout_min": 5}
    few = {**document, "models": document["models"][:2]}
    told = costs_its_cell_only(few, tmp_path, "slurm", slurm=slurm)
    assert "ended without an answer: see its logs in" in told
    assert (tmp_path / "there" / "slurm-logs").is_dir()


@of_submitit
def test_a_job_of_submitit_in_this_process_is_read_from_its_folder(document, tmp_path):
    pytest.importorskip("submitit")
    some = {**document, "models": [CRATE, "crate-tiny-kjv"], "slurm": {"cluster": "debug"}}
    found = swept(some, tmp_path, engine="slurm")
    assert [each.state for each in found.cells] == ["done", "failed"]


@pytest.mark.parametrize(
    ("engine", "more", "told"),
    [
        ("rya", {}, "Did you mean 'ray'?"),
        ("serial", {"workers": 3}, "3 workers are asked for"),
        ("slurm", {}, "there is no Slurm here"),
        ("slurm", {"slurm": {"cluster": "debug", "timeout": 5}}, "the section 'slurm'"),
        ("slurm", {"slurm": {"cluster": "here"}}, "there is no cluster 'here'"),
        ("ray", {"ray": {"adress": "auto"}}, "Did you mean 'address'?"),
    ],
)
def test_an_engine_that_cannot_be_used_says_so_before_any_work(
    engine, more, told, document, tmp_path, monkeypatch
):
    monkeypatch.setattr("whitebox_probe.sweeping.engine.find_spec", lambda name: name)
    monkeypatch.setattr("shutil.which", lambda name: None)
    if engine == "slurm":
        pytest.importorskip("submitit")
    with pytest.raises(SweepError) as refused:
        swept({**document, "models": CRATE, "workers": 1, **more}, tmp_path / "out", engine=engine)
    assert told in str(refused.value)
    assert not list(tmp_path.glob("out/cells/*/run.json"))


@pytest.mark.parametrize("name", sorted(set(engines()) - {"serial"}))
def test_an_engine_whose_package_is_missing_says_how_to_install_it(
    name, document, tmp_path, monkeypatch
):
    monkeypatch.setattr("whitebox_probe.sweeping.engine.find_spec", lambda package: None)
    with pytest.raises(MissingDependency, match=rf"pip install 'whitebox-probe\[{name}\]'"):
        swept(document, tmp_path, engine=name)
    assert engine_named(name).extra == name
