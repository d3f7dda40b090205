"""`run` that is killed, stopped or changed, as a process."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.conftest import small_crate, stopping_at
from whitebox_probe._core.io import claimed
from whitebox_probe.cli import main as cli
from whitebox_probe.results.result import Result

BARE = ("run", "crate-tiny-fmnist", "--batch-size", "1", "--quiet")
BARE = (*BARE, "--metrics", "compression,l0,class_rate,attention_entropy,pooled_rate")
RUN = (*BARE, "--limit", "120")
# What is called here is stopped after a known number of layers, so that a few samples are enough.
SHORT = (*BARE, "--limit", "24")
TWO = (*BARE, "--limit", "2")


def start(*words):
    return subprocess.Popen(
        [sys.executable, "-m", "whitebox_probe", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def wait_for(path, process):
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture(scope="module")
def want(tmp_path_factory):
    """The run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    process = start(*RUN, "--out", folder)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return Result.load(folder)


def same(folder, want):
    got = Result.load(folder)
    assert got.frame.equals(want.frame)
    assert got.samples.equals(want.samples)
    assert all((got.matrices[key] == want.matrices[key]).all() for key in want.matrices)
    left = {path.name for path in folder.iterdir()}
    assert left == {"table.csv", "table.parquet", "samples.parquet", "matrices.npz", "run.json"}


def test_a_folder_is_of_one_run_at_a_time(tmp_path, capsys):
    """Two that begin together, as in a job array: both found it empty, and the last one won."""
    out = tmp_path / "new" / "out"
    words = [*TWO, "--out", str(out)]
    with claimed(out) as ours:
        assert ours
        for more in ([], ["--overwrite"]):
            assert cli.main([*words, *more]) == 2
            told = capsys.readouterr().err
            assert f"a run is at work in {out} already" in told
            assert told.count("\n") == 1
    assert not out.parent.exists(), "made for it, and empty"
    assert cli.main(words) == 0
    assert cli.main(words) == 2  # the other one has ended meanwhile
    assert "it holds a result already" in capsys.readouterr().err
    assert Result.load(out).run.count == 2


def test_a_claim_that_a_kill_left_is_none(tmp_path):
    out = tmp_path / "out"
    code = "from whitebox_probe._core.io import claimed; import os, pathlib, sys\n"
    code += "with claimed(pathlib.Path(sys.argv[1])): os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code, str(out)], check=False).returncode == 9
    assert list(out.iterdir())
    assert cli.main([*TWO, "--out", str(out)]) == 0
    left = {path.name for path in out.iterdir()}
    assert left == {"table.csv", "table.parquet", "samples.parquet", "matrices.npz", "run.json"}


def test_a_child_does_not_hold_a_claim_for_its_parent(tmp_path):
    out = tmp_path / "out"
    with claimed(out) as ours:
        assert ours
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        with claimed(out) as again:
            assert again
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.slow
def test_killed_at_random_points_it_goes_on_to_the_same_table(want, tmp_path):
    """At fewer points than tests/kills, which chooses them, and in other ways."""
    folder, random_ = tmp_path / "out", random.Random(1)
    process = start(*RUN, "--out", folder, "--save-every", 0)
    wait_for(folder / "arguments.json", process)
    killed = 0
    for _ in range(3):
        if random_.random() < 0.7:
            wait_for(folder / "state-0-of-1.npz", process)
        time.sleep(random_.uniform(0, 0.4))
        process.kill()
        process.communicate()
        killed += not (folder / "run.json").exists()
        if not (folder / "arguments.json").exists():
            break  # it was done before the kill
        process = start("run", "--resume", folder, "--save-every", 0)
    if process.poll() is None:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert killed
    same(folder, want)


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(want, tmp_path):
    folder = tmp_path / "out"
    process = start(*RUN, "--out", folder, "--save-every", 0, "--workers", 1)
    wait_for(folder / "state-0-of-1.npz", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert err.strip().endswith(f"Go on with: whitebox-probe run --resume {folder}")
    assert "samples are saved in" in err
    assert "Traceback" not in err
    process = start("run", "--resume", folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "120 samples" in out
    same(folder, want)


@pytest.fixture
def call(capsys):
    """Run the command here; gives exit status, stdout and stderr."""

    def run(*words):
        try:
            status = cli.main([str(word) for word in words])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def stopped(call, tmp_path, monkeypatch):
    """A run that was stopped after a few samples; its folder."""
    from whitebox_probe.probing.collector import Collector

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "take", stopping_at(Collector.take, 30))
        status, _, err = call(*SHORT, "--out", tmp_path / "out")
    assert status == 130
    assert "Go on with" in err
    return tmp_path / "out"


def test_a_stopped_run_goes_on_with_its_arguments_given_again(call, stopped):
    status, out, _ = call(*SHORT, "--resume", stopped, "--workers", 0, "--save-every", 5)
    assert status == 0
    assert "24 samples" in out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--limit", "12"), "--limit (was 24, is 12)"),
        (("--seed", "1"), "--seed (was 0, is 1)"),
        (("vit-tiny-fmnist",), "MODEL (was crate-tiny-fmnist, is vit-tiny-fmnist)"),
        (("--data", "photos"), "--data (was fashion-mnist, is photos)"),
        (("--batch-size", "2"), "--batch-size (was 1, is 2)"),
        (("--sites", "l0=z_half"), "--sites (was [], is ['l0=z_half'])"),
        (("--no-prenorm",), "--no-prenorm (was False, is True)"),
        (("--out", "elsewhere"), "--out"),
        (("--overwrite",), "--overwrite"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_changed_argument_refuses_and_is_named(words, named, call, stopped):
    before = sorted((path.name, path.stat().st_size) for path in stopped.iterdir())
    status, out, err = call("run", *words, "--resume", stopped)
    assert (status, out) == (2, "")
    assert named in err
    assert sorted((path.name, path.stat().st_size) for path in stopped.iterdir()) == before


@pytest.mark.parametrize("name", ["table.csv", "run.json", "samples.parquet"])
def test_what_was_put_there_meanwhile_stays(name, call, stopped):
    (stopped / name).write_text("mine")
    status, _, err = call("run", "--resume", stopped)
    assert status == 2
    assert f"holds {name}, which is of no result" in err
    assert (stopped / name).read_text() == "mine"
    (stopped / name).unlink()
    assert call("run", "--resume", stopped)[0] == 0


def test_a_folder_in_use_is_not_begun_anew_unasked(call, stopped):
    status, _, err = call(*SHORT, "--out", stopped)
    assert status == 2
    assert f"Go on with: whitebox-probe run --resume {stopped}" in err
    status, out, _ = call(*SHORT, "--out", stopped, "--overwrite")
    assert status == 0
    assert "24 samples" in out


def _held(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


MISTYPED = [
    ("crate-tiny-fmnisst",),
    ("gone.pth", "--arch", "crate_small"),
    ("crate-tiny-fmnist", "--data", "gone.npy"),
    ("crate-tiny-fmnist", "--data", "wrong.npy"),
    ("crate-tiny-fmnist", "--metrics", "l00"),
    ("crate-tiny-fmnist", "--basis", "nosuch"),
    ("broken.pth", "--arch", "crate_small"),
    ("crate-tiny-fmnist", "--data", "late"),
]


def test_mistyped_runs_leave_an_unfinished_one_whole(call, stopped, monkeypatch, tmp_path):
    import numpy as np
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "wrong.npy", np.zeros((4, 7, 9, 9), dtype=np.float32))
    (tmp_path / "broken.pth").write_bytes(b"none")
    (tmp_path / "late").mkdir()
    (tmp_path / "late/0.png").write_bytes(b"no picture")  # told by the first batch only
    Image.new("L", (28, 28)).save(tmp_path / "late/1.png")
    before = _held(stopped)
    for words in MISTYPED:
        status, _, err = call("run", *words, "--quiet", "--out", stopped, "--overwrite")
        assert status == 2, (words, err)
        assert _held(stopped) == before, words
    assert call("run", "--resume", stopped)[0] == 0


def test_a_run_that_is_stopped_before_it_measured_leaves_an_unfinished_one_whole(
    call, stopped, monkeypatch
):
    from whitebox_probe.cli import _model

    def stop(*_, **__):
        raise KeyboardInterrupt

    before = _held(stopped)
    with monkeypatch.context() as patch:
        patch.setattr(_model, "loaded", stop)
        status, _, err = call(*SHORT, "--seed", "3", "--out", stopped, "--overwrite")
    assert (status, "--resume" in err) == (130, False)
    assert _held(stopped) == before
    # Once it has measured, the folder is its own, and no state of the other is gone on from.
    status, out, _ = call(*BARE, "--limit", "7", "--out", stopped, "--overwrite")
    assert (status, "7 samples" in out) == (0, True)
    assert "state-0-of-1.npz" not in _held(stopped)


def test_a_finished_run_is_not_resumed(call, stopped):
    assert call("run", "--resume", stopped)[0] == 0
    status, _, err = call("run", "--resume", stopped)
    assert status == 2
    assert "its run is finished" in err
    status, _, err = call("run", "--resume", stopped / "none")
    assert status == 2
    assert "no run was stopped there" in err


def test_arguments_of_another_version_are_refused(call, stopped):
    path = stopped / "arguments.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new": 1}))
    status, _, err = call("run", "--resume", stopped)
    assert status == 2
    assert "another version" in err


def test_a_changed_checkpoint_refuses(call, tmp_path, monkeypatch):
    import torch
    from safetensors.torch import save_file

    from whitebox_probe.models import load as _loading
    from whitebox_probe.probing.collector import Collector

    module = small_crate()
    save_file(module.state_dict(), tmp_path / "weights.safetensors")
    import whitebox_probe as wp

    monkeypatch.setattr(_loading, "load", lambda *args, **kwargs: wp.wrap(module, name="crate"))
    images = tmp_path / "images"
    images.mkdir()
    monkeypatch.setattr("whitebox_probe.probing.forward.open_data", opened := Opened())
    words = ("run", tmp_path / "weights.safetensors", "--arch", "crate_small", "--batch-size", "1")
    taken, calls = Collector.take, []

    def take(*args):
        calls.append(1)
        if len(calls) == 20:
            signal.raise_signal(signal.SIGINT)
        return taken(*args)

    with monkeypatch.context() as patch:
        patch.setattr(Collector, "take", take)
        assert call(*words, "--out", tmp_path / "out")[0] == 130
    with torch.no_grad():
        next(module.parameters()).add_(1e-3)
    status, _, err = call("run", "--resume", tmp_path / "out")
    assert status == 2
    assert "changed since it began: weights." in err
    opened.images = opened.images + 1
    status, _, err = call("run", "--resume", tmp_path / "out")
    assert "changed since it began: weights, data." in err


class Opened:
    """Stands in for the data: images that a test can change."""

    def __init__(self):
        import torch

        self.images = torch.ones(9, 3, 12, 12)

    def __call__(self, data, **options):
        from whitebox_probe.data.source import open_data

        return open_data(self.images, **options)


def test_a_run_that_fails_leaves_the_folder_free(call, tmp_path):
    words = (*SHORT, "--out", tmp_path / "out")
    assert call(*words, "--data", "nowhere")[0] == 2
    assert not (tmp_path / "out").exists()
    assert call(*words)[0] == 0


def test_without_model_or_out_it_says_what_is_missing(call):
    status, _, err = call("run")
    assert status == 2
    assert "MODEL and --out must be given" in err
    assert call("run", "crate-tiny-fmnist", "--out", "x", "--save-every", "-1")[0] == 2
