"""Completion: bash completes commands, options and names with the script that is printed."""

import argparse
import shutil
import subprocess

import pytest

from whitebox_probe.cli import _completing
from whitebox_probe.cli import main as cli

BASH = shutil.which("bash")
TRY = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
_shtab_whitebox_probe 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    """The script of each shell, made once."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("completion")
    for shell in ("bash", "zsh", "tcsh"):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            assert cli.main(["completion", shell]) == 0
        (folder / shell).write_text(out.getvalue())
    return folder


@pytest.mark.skipif(BASH is None, reason="it is tried in bash")
@pytest.mark.parametrize(
    ("typed", "first", "absent"),
    [
        ("au", ["audit"], "run"),
        ("run crate-tiny-f", ["crate-tiny-fmnist"], "vit-tiny-fmnist"),
        ("run x --me", ["--metrics"], "--out"),
        ("run x --metrics ho", ["hoyer"], "l0"),
        ("run x --metrics l0,comp", ["l0,compression"], "compression"),
        ("run x --data kj", ["kjv"], "photos"),
        ("run x --arch crate_sm", ["crate_small"], "crate_base"),
        ("run x --null gau", ["gaussian"], "shuffled"),
        ("run x --convention off", ["official"], "paper"),
        ("audit x --explain comp", ["compresses"], "all"),
        ("audit a vit-tiny-f", ["vit-tiny-fmnist"], "crate-tiny-fmnist"),
        ("plot a --figure coh", ["coherence"], "curves"),
        ("compare a b --band s", ["std", "sem"], "ci"),
        ("info hoy", ["hoyer"], "l0"),
        ("fetch crate-sm", ["crate-small-in1k"], "hoyer"),
        ("completion b", ["bash"], "zsh"),
    ],
)
def test_bash_completes(scripts, typed, first, absent):
    words = ["whitebox-probe", *typed.split()]
    done = subprocess.run(
        [BASH, "--norc", "-c", TRY, "try", str(scripts / "bash"), *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=scripts,
    )
    found = done.stdout.split()
    assert found[: len(first)] == first
    assert absent not in found
    assert all(word.startswith(words[-1]) for word in found)


@pytest.mark.skipif(BASH is None, reason="it is tried in bash")
def test_bash_completes_folders_and_files(scripts, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "run.pth").touch()
    for typed, found in (("compare ru", {"runs"}), ("run run", {"runs", "run.pth"})):
        words = ["whitebox-probe", *typed.split()]
        command = [BASH, "--norc", "-c", TRY, "try", str(scripts / "bash"), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
        assert set(done.stdout.split()) == found


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_scripts_of_other_shells_know_the_names(scripts, shell):
    text = (scripts / shell).read_text()
    for name in ("crate-tiny-fmnist", "hoyer", "fashion-mnist", "compresses", "audit"):
        assert name in text


def test_a_name_that_a_shell_would_read_as_code_is_left_out(monkeypatch):
    bad = ["good", "$(touch x)", "a'b", "a b", "`x`", ""]
    monkeypatch.setitem(_completing.KINDS, "checkpoints", lambda: bad)
    parser = argparse.ArgumentParser()
    action = _completing.by(parser.add_argument("names"), "checkpoints")
    _completing.prepare(parser)
    told = str(action.complete)
    assert "good" in told
    assert not any(name in told for name in bad[1:5])
