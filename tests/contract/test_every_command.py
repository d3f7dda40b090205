"""What holds for each command, found unaided.

A contract that does not apply to a command is named in its file's `EXEMPT`, with the reason.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from whitebox_probe.cli import main as cli

ROOT = Path(__file__).parents[2]
COMMANDS = cli.command_modules()
CONTRACTS = {"says", "examples", "options", "light", "listed"}
PAGE = ROOT / "docs" / "command-line.md"
HEAVY = {"torch", "timm", "matplotlib", "pandas", "numpy", "yaml"}


def exempt(module):
    return getattr(module, "EXEMPT", {})


def bare(module):
    """A parser of this command's options alone."""
    parser = argparse.ArgumentParser(add_help=False)
    module.add_arguments(parser)
    return parser


def says(name, module, capsys):
    """One line in the list, a page of its own."""
    assert module.HELP[0].islower()
    assert len(module.HELP) < 70
    assert not module.HELP.endswith(".")
    assert len(module.__doc__.splitlines()[0]) > 20
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (0, "")
    assert module.__doc__.strip().splitlines()[0] in out
    assert "examples:" in out
    assert all(f"{cli.PROGRAM} {line}" in out for line in module.EXAMPLES)
    assert cli.main([]) == 0
    assert module.HELP in " ".join(capsys.readouterr().out.split())


def examples(name, module, capsys):
    """At least one, and each is understood."""
    assert module.EXAMPLES
    for line in module.EXAMPLES:
        args = cli.parser().parse_args(shlex.split(line))
        assert args.command == name
        assert args.run is module.run


def options(name, module, capsys):
    """Each says what it is; none has a name that reads as another command's does not."""
    for action in bare(module)._actions:
        assert action.help, f"{name} does not say what {action.dest} is"
        for flag in action.option_strings:
            assert flag == flag.lower()
            assert "_" not in flag


def light(name, module, capsys):
    """`--help` loads nothing that takes time."""
    code = (
        "import sys; from whitebox_probe.cli.main import main\n"
        f"try: main([{name!r}, '--help'])\n"
        "except SystemExit: pass\n"
        f"heavy = {HEAVY!r} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def listed(name, module, capsys):
    """The page of the command line lists it."""
    text = PAGE.read_text()
    assert f"\n{cli.PROGRAM} {name} " in text


def check_reasons(module):
    for contract, reason in exempt(module).items():
        assert contract in CONTRACTS
        assert len(reason.split()) >= 4, f"it does not say why {contract} does not apply"


CHECKS = (says, examples, options, light, listed)


def test_each_contract_is_checked():
    assert {check.__name__ for check in CHECKS} == CONTRACTS


@pytest.mark.parametrize("name", COMMANDS)
def test_what_does_not_apply_has_a_reason(name):
    check_reasons(COMMANDS[name])


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", COMMANDS)
def test_it_keeps_the_contract(name, check, capsys):
    if check.__name__ not in exempt(COMMANDS[name]):
        check(name, COMMANDS[name], capsys)


def test_the_page_names_no_other_command():
    block = PAGE.read_text().split("```")[1]
    named = [line.split()[1] for line in block.splitlines() if line.startswith(cli.PROGRAM)]
    assert sorted(named) == sorted(COMMANDS)
