"""Words, streams and an environment that are not as usual."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import whitebox_probe as wp
from tests.conftest import small_vit
from whitebox_probe.cli import main as cli

RUN = ("run", "crate-tiny-fmnist", "--limit", "2", "--metrics", "l0", "--quiet", "--out", "r")
NO_TEXT = "\udcff"  # the byte 255, as Python holds it


def shell(words, folder, to="", **environment):
    """A command by a shell, which may close streams."""
    return subprocess.run(
        ["bash", "-c", f'"$@" {to}', "bash", sys.executable, "-m", "whitebox_probe", *words],
        capture_output=True,
        cwd=folder,
        env=os.environ | environment,
        timeout=200,
        check=False,
    )


@pytest.mark.parametrize("to", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(to, tmp_path):
    done = shell(RUN, tmp_path, to)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(wp.Result.load(tmp_path / "r").samples) == 2
    assert shell(("list",), tmp_path, to).returncode == 0
    assert shell(("nosuch",), tmp_path, to).returncode == 2


def test_a_reader_that_has_gone_ends_a_command_quietly_and_no_other_pipe_does(tmp_path):
    done = shell(("list",), tmp_path, "| true; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, b"")
    (tmp_path / "net.py").write_text(
        "from torchvision.models import VisionTransformer\n"
        "class Net(VisionTransformer):\n"
        "    def forward(self, x):\n"
        "        if len(x) == 2:\n"
        "            raise BrokenPipeError(32, 'Broken pipe')\n"
        "        return super().forward(x)\n"
        "def make(): return Net(16, 4, 2, 2, 16, 32)\n"
    )
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 16, 16), np.float32))
    words = ("run", "net.py:make", "--data", "x.npy", *RUN[4:])
    done = shell(words, tmp_path)
    assert done.returncode != 0
    assert b"BrokenPipe" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
@pytest.mark.parametrize("words", [("nosuch",), ("list", "--nosuch"), (*RUN, "--data", "nosuch")])
def test_wrong_input_is_2_where_it_cannot_be_told(words, tmp_path):
    assert shell(words, tmp_path, "2>/dev/full").returncode == 2


@pytest.mark.parametrize(
    ("environment", "name", "shown"),
    [
        ({"PYTHONIOENCODING": "latin-1"}, "é🙂", b"\xe9\\U0001f642"),
        ({"PYTHONIOENCODING": "ascii"}, "é🙂", b"\\xe9\\U0001f642"),
        ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, "é", b"\\xe9"),
    ],
)
def test_what_a_terminal_cannot_show_is_escaped(environment, name, shown, tmp_path):
    done = shell((*RUN, "--name", name), tmp_path, **environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert shown in done.stdout
    assert set(pd.read_parquet(tmp_path / "r" / "table.parquet")["model"]) == {name}


@pytest.mark.parametrize(
    "words",
    [
        (*RUN, "--name", NO_TEXT),
        (*RUN, "--label", NO_TEXT),
        (*RUN, "--metrics", NO_TEXT),
        (*RUN, "--set", f"heads={NO_TEXT}"),
        ("report", "r", "--title", NO_TEXT, "--out", "t.html"),
        ("plot", "r", "--title", NO_TEXT, "--out", "t.png"),
    ],
)
def test_bytes_that_are_no_text_are_refused_by_the_parser(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(list(words))
    assert stop.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "holds bytes that are no UTF-8" in told
    assert not list(tmp_path.iterdir())


def test_paths_of_any_bytes_are_taken(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    try:
        (tmp_path / NO_TEXT).mkdir()
    except OSError:
        pytest.skip("this disk takes names of UTF-8 alone")
    model = wp.load("crate-tiny-fmnist")
    save_file(model.module.state_dict(), tmp_path / "m.safetensors")
    for old in (False, True):
        file = tmp_path / NO_TEXT / f"{old}.pth"
        torch.save(
            model.module.state_dict(), tmp_path / "m.pth", _use_new_zipfile_serialization=not old
        )
        (tmp_path / "m.pth").rename(file)
        assert wp.load(file, heads=4, eta=0.1, lam=0.1).layers == model.layers
    (tmp_path / "m.safetensors").rename(tmp_path / NO_TEXT / "m.safetensors")
    data = tmp_path / NO_TEXT / "x.npy"
    with data.open("wb") as file:
        np.save(file, np.zeros((3, 1, 28, 28), np.float32))
    words = [
        "run",
        f"{NO_TEXT}/m.safetensors",
        "--set",
        "heads=4",
        "--metrics",
        "l0",
        "--quiet",
        "--out",
        "r",
    ]
    assert cli.main([*words, "--data", f"{NO_TEXT}/x.npy"]) == 0, capsys.readouterr().err
    (tmp_path / "r").rename(tmp_path / NO_TEXT / "r")
    for more in (["report", "--out", "t.html"], ["plot", "--metric", "l0", "--out", "p.png"]):
        capsys.readouterr()
        assert cli.main([more[0], f"{NO_TEXT}/r", *more[1:]]) == 0, capsys.readouterr().err


def test_a_backend_that_there_is_not_is_told(tmp_path):
    wp.probe(wp.wrap(small_vit(), name="v"), np.zeros((2, 3, 12, 12), np.float32), ["l0"]).save(
        tmp_path / "r"
    )
    words = ("plot", "r", "--metric", "l0", "--out", "p", "--format", "png")
    done = shell(words, tmp_path, MPLBACKEND="nosuch")
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"figures cannot be drawn with MPLBACKEND=nosuch" in done.stderr
