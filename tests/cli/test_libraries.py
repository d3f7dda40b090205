"""A library that cannot be imported is told in one line: for its memory, or as it is installed."""

import pytest

from whitebox_probe.cli import main as cli
from whitebox_probe.cli import run as command

WORDS = ["run", "crate-tiny-fmnist", "--limit", "2", "--out", "r"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise ImportError('libx.so: failed to map segment from shared object')", "ulimit -v"),
        ("raise OSError(12, 'Cannot allocate memory')", "ulimit -v"),
        ("raise MemoryError", "ulimit -v"),
        ("raise OSError('libx.so: undefined symbol: y')", "--force-reinstall lib_of_test"),
        ("from lib_of_test import nothing", "--force-reinstall lib_of_test"),
        ("import no_such_library_at_all", "--force-reinstall no_such_library_at_all"),
    ],
)
def test_a_library_that_cannot_be_imported(body, told, tmp_path, monkeypatch, capsys):
    (tmp_path / "lib_of_test.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(command, "run", lambda args: __import__("lib_of_test"))
    assert cli.main(WORDS) == 2
    err = capsys.readouterr().err
    assert told in err
    assert "cannot be loaded" in err
    assert err.count("\n") == 1
    assert len(err) < 500


@pytest.mark.parametrize(
    "error", [ImportError("no name", name="whitebox_probe.results"), OSError("a fault"), KeyError()]
)
def test_a_fault_of_ours_stays_one(error, monkeypatch, capsys):
    def run(args):
        raise error

    monkeypatch.setattr(command, "run", run)
    assert cli.main(WORDS) == 1
    assert "a fault of the program" in capsys.readouterr().err
