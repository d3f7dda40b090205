"""What a command advises can be followed: options are spelled as its own, and are its own."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_crate
from whitebox_probe.cli import main as cli

# An option, with the command before it where it is that one's.
_OPTION = re.compile(r"(?:\b(run|compare|audit|list|plot|report) )?(?<![\w-])(--[a-z][a-z-]*)")
# A setting with the first of the values that are named for it.
_ADVISED = re.compile(r"(--[a-z]+) ([\w.:]+)[,.]? ")
_PYTHON = re.compile(r"(?<!--set )(?<!--option )\b[a-z_]+=")
_FACTS = re.compile(r"\w\([^()]*\)|is loaded with [^:]*:")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two results of one model, arrays, and files of weights that leave something open."""
    here = tmp_path_factory.mktemp("remedies")
    few = ["run", "crate-tiny-fmnist", "--limit", "2", "--metrics", "l0,compression", "--quiet"]
    for name in ("a", "copy"):
        assert cli.main([*few, "--out", str(here / name)]) == 0
    assert cli.main([*few, "--name", "other", "--eps", "0.1,0.5", "--out", str(here / "b")]) == 0
    np.save(here / "x.npy", np.random.default_rng(0).random((3, 28, 28)).astype("f4"))
    np.savez(here / "two.npz", a=np.ones((2, 28, 28)), b=np.ones((2, 28, 28)))
    state = small_crate().state_dict()
    torch.save(state, here / "open.pth")
    torch.save({"one": state, "two": state}, here / "several.pth")
    torch.save({"x": torch.ones(3)}, here / "none.pth")
    (here / "model.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(2, 2)\n")
    return here


RUN = ("run", "crate-tiny-fmnist", "--out", "o")
WRONG = [
    ("plot", "a", "--metric", "l0", "--per-token", "--out", "p"),
    ("plot", "a", "--metric", "l0", "--size", "0,0", "--out", "p"),
    ("plot", "a", "--metric", "l0", "--size", "1e9,1", "--out", "p"),
    ("plot", "a", "copy", "--metric", "l0", "--out", "p"),
    ("plot", "a", "--metric", "none", "--out", "p"),
    ("plot", "a", "--figure", "coherence", "--out", "p"),
    ("plot", "b", "--metric", "compression", "--out", "p"),
    ("plot", "--figure", "attention", "--out", "p"),
    ("plot", "a", "--metric", "l0", "--palette", "nosuch", "--out", "p"),
    ("plot", "a", "--metric", "l0", "--labels", "x,y", "--out", "p"),
    ("plot", "a", "--figure", "eps_sweep", "--metric", "l0", "--out", "p"),
    ("compare", "a", "copy", "--out", "o"),
    ("compare", "a", "--out", "o"),
    ("report", "a", "copy", "--out", "o.html"),
    (*RUN, "--data", "x.npy", "--label", "kind"),
    (*RUN, "--data", "x.npy", "--column", "kind"),
    (*RUN, "--data", "x.npy", "--windows", "documents"),
    (*RUN, "--data", "two.npz"),
    (*RUN, "--limit", "0"),
    (*RUN, "--basis", "nosuch"),
    (*RUN, "--device", "nosuch"),
    (*RUN, "--metrics", "class_rate", "--data", "x.npy", "--pixels"),
    ("run", "open.pth", "--out", "o"),
    ("run", "open.pth", "--set", "heads=7", "--out", "o"),
    ("run", "several.pth", "--out", "o"),
    ("run", "several.pth", "--wrapper", "three", "--out", "o"),
    ("run", "none.pth", "--out", "o"),
    ("run", "model.py:make", "--out", "o"),
    ("audit", "crate-tiny-fmnist", "--first-layer", "99", "--limit", "2", "--out", "o"),
    ("audit", "crate-tiny-fmnist", "--threshold", "alpha=2", "--out", "o"),
]


OF_TWO = [
    *(("--figure", name) for name in ("coherence", "subspace_overlap", "principal_angles")),
    *(("--figure", name) for name in ("panel", "eps_sweep", "compression")),
]


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A result with two bases and two eps, and one of a model of another size."""
    here = tmp_path_factory.mktemp("two")
    few = ["--limit", "2", "--quiet", "--metrics", "coherence,compression,l0"]
    more = ["--basis", "qk,qkv:q", "--eps", "0.1,0.5"]
    assert cli.main(["run", "vit-tiny-fmnist", *few, *more, "--out", str(here / "two")]) == 0
    for name in ("vit-tiny-fmnist", "crate-tiny-kjv"):
        data = ["--data", "kjv"] if name.endswith("kjv") else []
        assert cli.main(["run", name, *data, *few, "--out", str(here / name)]) == 0
    return here


@pytest.mark.parametrize("words", OF_TWO, ids=" ".join)
def test_what_a_figure_advises_draws_it(words, two, monkeypatch, capsys):
    monkeypatch.chdir(two)
    asked = ["plot", "two", *words, "--out", "p.png"]
    assert cli.main(asked) == 2
    err = capsys.readouterr().err
    expect_followable(err, "plot")
    advised = [w for flag, value in _ADVISED.findall(err) for w in (flag, value)]
    assert "--basis" in advised
    assert cli.main([*asked, *advised]) == 0, capsys.readouterr().err


def test_what_a_matrix_does_not_depend_on_is_left_out(two, monkeypatch, capsys):
    monkeypatch.chdir(two)
    for name in ("coherence", "subspace_overlap", "principal_angles"):
        asked = ["plot", "two", "--figure", name, "--basis", "qk", "--out", "p.png"]
        assert cli.main([*asked, "--eps", "0.1"]) == 2
        assert "does not depend on eps: it was taken with none. Leave out --eps." in (
            capsys.readouterr().err
        )
        assert cli.main(asked) == 0


def test_a_figure_says_which_of_two_bases_it_is_of(two):
    result = wp.Result.load(two / "two")
    for name in ("coherence", "subspace_overlap", "principal_angles", "eps_sweep"):
        draw = getattr(wp.plots, name)
        assert draw(result, basis="qkv:q").get_suptitle() == "$U$: qkv:q"
        assert draw(result, basis="qkv:q", title="mine").get_suptitle() == "mine"
        assert draw(result, basis="qkv:q", title="").get_suptitle() == ""
    told = wp.plots.panel(result, basis="qk", eps=0.5)
    assert told.get_suptitle() == "$U$: qk"
    labels = [ax.get_ylabel() for ax in told.axes]
    assert any(r"\epsilon=0.5" in label for label in labels)  # said there, and not twice
    later = replace(result, run=replace(result.run, model="later"))
    picked = {"metric": "compression", "basis": "qk", "eps": 0.1}
    steps = wp.plots.over_steps(result, later, steps=[0, 1], **picked)
    assert steps.axes[0].get_title() == r"$U$: qk, $\epsilon=0.1$"
    curve = wp.plots.compression(result, basis="qk", eps=0.1, class_token=True)
    assert curve.axes[0].get_title() == "with the class token"


def test_models_of_two_sizes_share_a_panel_as_is_advised(two, monkeypatch, capsys):
    monkeypatch.chdir(two)
    asked = ["plot", "vit-tiny-fmnist", "crate-tiny-kjv", "--figure", "panel", "--out", "p.png"]
    assert cli.main(asked) == 2
    assert "Pass --per-token" in capsys.readouterr().err
    assert cli.main([*asked, "--per-token"]) == 0, capsys.readouterr().err


def options_of(command):
    choices = cli.parser()._subparsers._group_actions[0].choices
    return {flag for action in choices[command]._actions for flag in action.option_strings}


def expect_followable(line, command):
    for other, flag in _OPTION.findall(line):
        assert flag in options_of(other or command), line
    assert not _PYTHON.search(_FACTS.sub("", line)), line


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_options_of_an_error_are_those_of_the_command(words, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert cli.main([*words]) == 2
    expect_followable(capsys.readouterr().err, words[0])


def test_a_note_is_followed(place, monkeypatch, capsys):
    state = small_crate().state_dict()
    torch.save({"state_dict": state, "state_dict_ema": state}, place / "both.pth")
    monkeypatch.chdir(place)
    cli.main(["run", "both.pth", "--set", "heads=2", "--set", "lam=0.1", "--out", "o"])
    err = capsys.readouterr().err
    assert "Pass --wrapper state_dict for the others, or --wrapper state_dict_ema" in err
    expect_followable(err, "run")


def test_two_folders_of_one_name_are_told(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    for words in (["compare"], ["report"], ["plot", "--metric", "l0"]):
        assert cli.main([*words, "a", "b", "copy", "--out", "o.html"]) == 2
        assert "a and copy hold results of the same model" in capsys.readouterr().err
