"""The parser, and what becomes of errors.

A command is a file with `HELP`, `EXAMPLES`, `add_arguments(parser)` and `run(args)`. It imports what
is heavy inside `run`, so that `--help` answers at once. Exit status: 0 done; 2 the input is wrong,
told in one line; 1 a fault of ours; 130 interrupted.
"""

import argparse
import os
import sys
import traceback
from types import ModuleType

import whitebox_probe.cli as commands
from whitebox_probe._core import discover
from whitebox_probe._core.errors import ProbeError

PROGRAM = "whitebox-probe"
_NOT_COMMANDS = ("main",)


def command_modules() -> dict[str, ModuleType]:
    """Every command by its name."""
    return {
        module.__name__.rpartition(".")[2]: module
        for module in discover.modules(commands)
        if module.__name__.rpartition(".")[2] not in _NOT_COMMANDS
    }


class _Parser(argparse.ArgumentParser):
    """Usage errors in one line, as all errors are."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{PROGRAM}: error: {message}. Run: {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = _Parser(
        prog=PROGRAM,
        description="Measure how a transformer's layers compress and sparsify their tokens.",
        epilog=f"Start with: {PROGRAM} demo --out figures",
    )
    top.add_argument("--version", action="store_true", help="print the version and stop")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, module in command_modules().items():
        sub = subparsers.add_parser(
            name,
            help=module.HELP,
            description=module.__doc__,
            epilog="examples:\n" + "\n".join(f"  {PROGRAM} {line}" for line in module.EXAMPLES),
            formatter_class=_Formatter,
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return top


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Examples line by line, and each default beside its option."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, argparse.SUPPRESS):
            return action.help
        return super()._get_help_string(action)


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    top = parser()
    args = top.parse_args(argv)
    if args.version:
        from importlib.metadata import version

        print(f"{PROGRAM} {version('whitebox-probe')}")
        return 0
    if args.command is None:
        top.print_help()
        return 0
    try:
        args.run(args)
    except ProbeError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; nothing half done was kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone: keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception:  # the last line of defence: everything else is a fault of ours
        traceback.print_exc()
        print(
            f"{PROGRAM}: this is a fault of the program; please report it with the lines above",
            file=sys.stderr,
        )
        return 1
    return 0
