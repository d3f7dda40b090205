"""Lines of the command that say what they mean: options, places, and no noise beside a result."""

import argparse
import signal

import numpy as np
import pytest

import whitebox_probe as wp
from tests.conftest import small_crate
from whitebox_probe._core.arrays import mapped_array
from whitebox_probe._core.errors import BasisError, DataError, ProbeError
from whitebox_probe._core.io import atomic_path, temporary_folder
from whitebox_probe.cli import _numbers, _shared
from whitebox_probe.cli import main as cli
from whitebox_probe.cli._spelling import Options, as_options, options_of

KNOWN = Options(
    {"column": "--column", "pixels": "--pixels", "size": "--size", "prenorm": "--no-prenorm"},
    bare=frozenset({"pixels", "prenorm"}),
    off=frozenset({"prenorm"}),
    rest="--set",
)


@pytest.mark.parametrize(
    ("fix", "told"),
    [
        ("Choose one: wp.data(..., column='npy')", "Choose one: --column npy."),
        ("Choose wp.data(..., column=...): it has a", "Choose --column: it has a."),
        ("Use wp.data(..., pixels=True), or whole", "Use --pixels, or whole."),
        ("Use wrap(module, pixels=..., column=...)", "Use wrap(module, pixels=..., column=...)."),
        ("Use x = f(column='a'), or column=b", "Use x = f(column='a'), or --column b."),
        ("Pass size=(6.8, 3)", "Pass --size 6.8,3."),
        ("Pass prenorm=False, or heads=4", "Pass --no-prenorm, or --set heads=4."),
        ("Pass prenorm=True", "Pass no --no-prenorm."),
        ("Use wp.data(..., mask='a')", "Use wp.data(..., mask='a')."),
        ("Use wp.data(..., mask='a', column='b')", "Use wp.data(..., mask='a', column='b')."),
    ],
)
def test_a_call_is_spelled_as_options_or_left_whole(fix, told):
    assert str(as_options(ProbeError("no", "it is", fix), KNOWN)) == f"no: it is. {told}"


@pytest.mark.parametrize("metric", ["l0", "compression"])
def test_a_basis_that_there_is_not_is_refused_whatever_is_measured(metric):
    model = wp.wrap(small_crate(), name="small")
    with pytest.raises(BasisError, match="basis 'nosuch' is not in family"):
        wp.probe(model, np.ones((2, 3, 12, 12)), [metric], basis="nosuch", progress=False)


def test_fractions_that_look_like_pixels_are_told_of_a_model_without_preprocessing(tmp_path):
    images = np.random.default_rng(0).normal(size=(6, 3, 12, 12)).astype(np.float32)
    images[5] = abs(images[5]) * 40
    np.save(tmp_path / "f.npy", images)
    model = wp.wrap(small_crate(), name="small")
    with pytest.raises(DataError, match="sample 5 of f.npy holds fractions from"):
        wp.probe(model, tmp_path / "f.npy", ["l0"], progress=False)


def test_an_array_without_a_name_is_told(tmp_path):
    np.savez(tmp_path / "a.npz", **{"": np.ones((2, 3, 12, 12), np.float32)})
    model = wp.wrap(small_crate(), name="small")
    with pytest.raises(DataError, match=r"the one array of a\.npz has no name"):
        wp.probe(model, tmp_path / "a.npz", ["l0"], progress=False)


def test_what_python_2_wrote_is_read_without_a_word(tmp_path, recwarn):
    path = tmp_path / "a.npy"
    np.save(path, np.ones((6, 2), np.float32))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"(6, 2), }  ", b"(6L, 2L), }"))
    assert mapped_array(path).shape == (6, 2)
    assert not recwarn.list


@pytest.mark.parametrize("write", [atomic_path, lambda path: temporary_folder(path.parent, "a")])
def test_an_error_of_a_write_names_the_place(write, tmp_path):
    with pytest.raises(OSError, match="too large") as error, write(tmp_path / "a"):
        raise OSError(27, "File too large")
    assert error.value.filename == str(tmp_path / "a")


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"stream": True}, "--stream says nothing of the name of a data set"),
        (
            {"column": "a"},
            "--column a says nothing of the name of a data set",
        ),
    ],
)
def test_a_choice_that_nobody_heeds_is_spelled_as_an_option(choice, told):
    with pytest.raises(ProbeError) as error:
        wp.data("fashion-mnist", **choice)
    flags = {name: f"--{name}" for name in ("stream", "column", "separator", "windows")}
    line = str(as_options(error.value, Options(flags, bare=frozenset({"stream"}))))
    assert line.startswith(told)
    assert "separator, windows, of texts" in line


@pytest.mark.parametrize(("name", "told"), [("a.csv", "DataFrame"), ("a.md", r"\(\.npy\)")])
def test_a_file_of_another_ending_is_told_by_it(tmp_path, name, told):
    (tmp_path / name).write_text("a,b")
    with pytest.raises(DataError, match=rf"it is a file that ends in '\{name[1:]}'.*{told}"):
        wp.data(tmp_path / name)


def test_samples_that_are_not_finite_are_told_how_to_leave_out():
    inputs = np.ones((4, 3, 12, 12))
    inputs[2, 0, 0] = np.nan
    model = wp.wrap(small_crate(), name="small")
    with pytest.raises(DataError, match="probe with on_error='skip'"):
        wp.probe(model, inputs, ["l0"], nonfinite="drop", progress=False)
    with pytest.warns(UserWarning, match="are skipped"):
        result = wp.probe(model, inputs, ["l0"], on_error="skip", progress=False)
    assert result.run["count"] == 3


@pytest.mark.parametrize("typed", ["1_0", "٣", "５", "1__0", "0x10", "", "1 0", "²"])
def test_numbers_of_options_are_plain_digits(typed):
    for read in (_numbers.typed_whole, _numbers.typed_number, _shared.count):
        with pytest.raises(argparse.ArgumentTypeError, match="is not a (whole )?number"):
            read(typed)


def test_numbers_of_options_are_read_as_they_were():
    assert [_numbers.whole(each) for each in ("10", " -3", "+007")] == [10, -3, 7]
    assert [_numbers.number(each) for each in ("1e1", "-.5", "2.", "+3E-2")] == [10, -0.5, 2, 0.03]
    assert np.isinf(_numbers.number("inf"))


def test_an_argument_of_a_network_that_is_empty_is_called_so():
    with pytest.raises(ProbeError, match=r"depth is empty\. Give a whole number"):
        wp.load("crate-tiny-fmnist", depth="")


def test_an_audit_without_a_null_is_spelled_as_its_option():
    commands = cli.parser()._subparsers._group_actions[0].choices
    options = options_of(commands["audit"], lambda name: False)
    error = ProbeError("no", "it is", "Empty it, or measure no null (null=False)")
    assert str(as_options(error, options)) == "no: it is. Empty it, or measure no null (--no-null)."


@pytest.mark.parametrize(
    "words",
    [
        ["run", "crate-tiny-fmnist", "--out=--"],
        ["audit", "crate-tiny-fmnist", "--separator=--"],
        ["info", "crate-tiny-fmnist", "--set=--"],
    ],
)
def test_two_dashes_are_no_value(words, capsys):
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "has no value: '--' alone ends the options" in err


def test_what_a_stopped_reader_makes_an_error_is_a_stop(monkeypatch, capsys):
    """A signal to a whole group ends the readers as well, whose end is told first."""
    from whitebox_probe._core import stopping

    def ends(*_):
        stopping.note(signal.SIGTERM)
        raise DataError("a process that reads the data has ended", "reset", "Use fewer workers")

    monkeypatch.setattr(cli, "_obeyed", ends)
    assert cli.main(["list"]) == 143
    assert "stopped" in capsys.readouterr().err
