"""A command is one file: in the folder of commands, everything finds it unaided."""

import importlib
import sys

import pytest

from tests.contract import test_every_command as contract
from whitebox_probe import cli as rooms
from whitebox_probe.cli import main as cli

CODE = '''
"""Count the layers of a checkpoint, by what the registry says of it.

Nothing is loaded.
"""

import argparse

from whitebox_probe._core.errors import ProbeError

HELP = "how many layers a checkpoint has"
EXAMPLES = ("layers crate-tiny-fmnist", "layers crate-tiny-fmnist --twice")
EXEMPT = {"listed": "it is made by a test, and no reader can use it"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("name", help="of the checkpoint")
    parser.add_argument("--twice", action="store_true", help="say it twice")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from whitebox_probe.checkpoints import entry

    depth = entry(args.name).arch.get("depth")
    if depth is None:
        raise ProbeError("it has no depth", "its arguments do not say", "Ask for another")
    print(*[depth] * (1 + args.twice))
'''


@pytest.fixture
def layers(tmp_path, monkeypatch):
    """The one file, in a folder that commands are found in."""
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "layers.py").write_text(CODE)
    monkeypatch.setattr(rooms, "__path__", [*rooms.__path__, str(tmp_path / "rooms")])
    importlib.invalidate_caches()
    yield cli.command_modules()["layers"]
    monkeypatch.undo()
    sys.modules.pop("whitebox_probe.cli.layers", None)
    vars(rooms).pop("layers", None)
    importlib.invalidate_caches()


def test_it_runs_and_its_errors_are_told_in_one_line(layers, capsys):
    assert cli.main(["layers", "crate-tiny-fmnist", "--twice"]) == 0
    assert capsys.readouterr().out == "8 8\n"
    assert cli.main(["layers", "bert-base-uncased"]) == 2
    assert capsys.readouterr().err.startswith("whitebox-probe: error: it has no depth: its")
    assert cli.main(["layer", "crate-tiny-fmnist"]) == 2
    assert "Did you mean 'layers'" in capsys.readouterr().err


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contracts(layers, check, capsys):
    contract.check_reasons(layers)
    # In a process of its own there is no scratch folder to find it in.
    if check.__name__ not in {*contract.exempt(layers), "light"}:
        check("layers", layers, capsys)


def test_an_exemption_without_a_reason_is_noticed(layers, monkeypatch):
    monkeypatch.setattr(layers, "EXEMPT", {"listed": ""})
    with pytest.raises(AssertionError, match="does not say why listed"):
        contract.check_reasons(layers)


def test_without_the_file_there_is_none():
    assert "layers" not in cli.command_modules()
