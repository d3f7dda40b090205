"""The parser, and what becomes of errors.

A command is a file with `HELP`, `EXAMPLES`, `add_arguments(parser)` and `run(args)`. It imports
what is heavy inside `run`, so that `--help` answers at once. A contract that does not apply to it
(tests/contract/test_every_command.py) stands in its `EXEMPT`, with the reason. Exit status: 0 done;
2 the input is wrong, told in one line; 1 a fault of ours; 130 or 143 stopped by Ctrl-C or SIGTERM.
"""

import argparse
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import ModuleType
from typing import Any, NoReturn, TextIO

import whitebox_probe.cli as commands
from whitebox_probe._core import discover, importing, launch, stopping
from whitebox_probe._core.errors import LoadWarning, ProbeError, near, nearest
from whitebox_probe._core.io import DISK
from whitebox_probe._core.lines import shown
from whitebox_probe._core.memory import is_lack
from whitebox_probe._core.words import expect_values
from whitebox_probe.cli import _screen
from whitebox_probe.cli._shared import BY_PATH, as_text
from whitebox_probe.cli._spelling import Options, as_options, options_of

PROGRAM = "whitebox-probe"
_NOT_COMMANDS = ("main",)


def command_modules() -> dict[str, ModuleType]:
    """Every command by its name."""
    return {
        module.__name__.rpartition(".")[2]: module
        for module in discover.modules(commands)
        if module.__name__.rpartition(".")[2] not in _NOT_COMMANDS
    }


_NUMBERS = re.compile(r"-[.\d][-+.,\deE]*$")
"""Values that begin with a minus and are no options: one number, or several, as in -1,5."""


class _Once(argparse.Action):
    """An option of one value, which a second one would replace in silence."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Keep the value.

        Raises: argparse.ArgumentError for an option that was given before.
        """
        assert isinstance(parser, _Parser), "whose action this is"
        if option_string is not None and self.dest in parser.given:
            raise argparse.ArgumentError(self, "it is given twice, and takes one value")
        parser.given.add(self.dest)
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """Usage errors in one line, as all errors are; an option of one value is given once.

    Attributes: given: arguments that were found.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.given: set[str] = set()
        for usual in (None, "store"):
            self.register("action", usual, _Once)
        self._negative_number_matcher = _NUMBERS

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse anew: nothing has been given yet."""
        self.given = set()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Print the line and exit."""
        line = _short(message)
        end = "" if line.endswith(("?", ".")) else "."
        told = f"{PROGRAM}: error: {line}{end} Run: {self.prog} --help\n"
        self.exit(2, "" if launch.rank() else told)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Refuse bytes that are no text, where they are not a file's name."""
        is_command = isinstance(action, argparse._SubParsersAction)  # and all that follows it
        if action.type not in BY_PATH and not is_command:
            try:
                arg_string = as_text(arg_string)
            except UnicodeError as error:
                told = f"'{shown(arg_string)}' holds bytes that are no UTF-8"
                raise argparse.ArgumentError(action, told) from error
        return super()._get_value(action, arg_string)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Name the nearest of the choices first."""
        if action.choices is not None and value not in action.choices:
            allowed = [str(choice) for choice in action.choices]
            told = f"there is no '{value}'. {nearest(str(value), allowed)}"
            raise argparse.ArgumentError(action, told)


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = _Parser(
        prog=PROGRAM,
        description="Measure how a transformer's layers compress and sparsify their tokens.",
        epilog=f"Start with: {PROGRAM} demo --out figures. More of one: {PROGRAM} COMMAND --help",
        allow_abbrev=False,
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
            allow_abbrev=False,
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return top


def _short(message: object) -> str:
    """What another library says, in a line that can be printed."""
    return shown(" ".join(str(message)[: 1 << 14].split()), 300)


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Examples line by line, and each default beside its option."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, True, "") or not any(
            value is not None for value in _as_list(action.default)
        ):
            return action.help
        return super()._get_help_string(action)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


@contextmanager
def _noted(args: argparse.Namespace) -> Iterator[None]:
    """What was assumed of a checkpoint, as one line of this program and not as a Python warning."""

    def tell(message: Warning | str, *rest: Any, **more: Any) -> None:
        if not isinstance(message, LoadWarning):
            usual(message, *rest, **more)
        elif launch.rank() == 0:
            line = as_options(message.told, _options(args.command))
            print(f"{PROGRAM}: note: {shown(line, None)}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LoadWarning)
        warnings.filterwarnings("ignore", module="PIL")  # of broken pictures, told by their errors
        usual = warnings.showwarning
        warnings.showwarning = tell
        yield


_BREAKS = re.compile(r"([\n\t])")
_COLOURS = re.compile(r"([\n\t]|\x1b\[[0-9;]*m)")


class _ReaderGoneError(BrokenPipeError):
    """Of our own output, and no other pipe: nobody is left to tell anything."""


class _Plain:
    """Standard output, on which no text from a file acts: only lines are broken.

    On a terminal the colours of tables are let through; their cells were escaped before.
    """

    def __init__(self, to: TextIO) -> None:
        self._to = to

    def write(self, text: str) -> int:
        """Write text with its control characters as Python writes them."""
        own = _COLOURS if _screen.on_terminal() else _BREAKS
        plain = "".join(p if own.fullmatch(p) else shown(p, None) for p in own.split(text))
        with self._read():
            self._to.write(_fitting(plain, self._to.encoding))
        return len(text)

    def flush(self) -> None:
        """Hand on what was written."""
        with self._read():
            self._to.flush()

    @contextmanager
    def _read(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            raise _ReaderGoneError(*error.args) from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)


def _fitting(text: str, encoding: str | None) -> str:
    """Text with what the encoding of a terminal does not have escaped, as Python writes it."""
    if encoding is None or text.isascii():
        return text
    return text.encode(encoding, "backslashreplace").decode(encoding)


class _Told:
    """Standard error, whose loss changes nothing of what a command does and how it ends."""

    def __init__(self, to: TextIO) -> None:
        self._to = to

    def write(self, text: str) -> int:
        """Write text, if it can be written."""
        with self._or_nowhere():
            self._to.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what was written, if that can be done."""
        with self._or_nowhere():
            self._to.flush()

    @contextmanager
    def _or_nowhere(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # a full disk, a reader that has gone; it is closed
            with suppress(OSError, ValueError):
                # What is held back would be tried again at exit, and change the status.
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._to.fileno())
                os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._to, name)


@contextmanager
def _plain_output() -> Iterator[None]:
    before = sys.stdout, sys.stderr
    with ExitStack() as stack:
        # A shell's `>&-` leaves none, and what nobody reads may be written all the same.
        out, told = (
            stack.enter_context(open(os.devnull, "w", encoding="utf-8")) if to is None else to
            for to in before
        )
        sys.stdout, sys.stderr = _Plain(out), _Told(told)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


@stopping.answered()
@_plain_output()
def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    words = sys.argv[1:] if argv is None else argv
    args = argparse.Namespace(command=None)
    try:
        with _noted(args):
            return _obeyed(words, args)
    except ProbeError as error:
        if number := stopping.asked():  # a reader that got it too, and died of it
            return _stopped(stopping.kind(number)())
        return _tell(str(as_options(error, _options(args.command))))
    except KeyboardInterrupt as stop:
        return _stopped(stop)
    except _ReaderGoneError:
        # Keep Python from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last line of defence: everything else is a fault of ours
        if number := stopping.asked():  # what a library made of it, or a reader that got it too
            return _stopped(stopping.kind(number)())
        if isinstance(error, OSError) and error.errno in DISK:
            where = f"{error.filename}" if error.filename else "a file"
            told = f"{error.strerror}. Check that place."
            return _tell(f"{_short(where)} cannot be written or read: {told}")
        if failed := importing.as_told(error):
            return _tell(str(failed))
        if is_lack(error):
            return _tell(
                "out of memory: a batch did not fit. Use a smaller --batch-size or --limit."
            )
        traceback.print_exc()
        print(
            f"{PROGRAM}: this is a fault of the program; please report it with the lines above",
            file=sys.stderr,
        )
        return 1


def _obeyed(words: list[str], args: argparse.Namespace) -> int:
    """Parse the words into `args`, and do what they say; returns the exit status."""
    launch.expect_sound()
    expect_values(words)
    _refuse_unknown_command(words)
    top = parser()
    _, unknown = top.parse_known_args(words, args)
    if unknown:
        _refuse_unknown_options(unknown, top, args.command)
    args.words = words
    if launch.launched() and args.command not in ("run", None):
        raise ProbeError(
            f"the command '{args.command}' was started as several processes",
            "only run shares its work between them",
            f"Start it by itself: {PROGRAM} {args.command}",
        )
    if args.version:
        from whitebox_probe._core.versions import version_of

        print(f"{PROGRAM} {version_of('whitebox-probe')}")
    elif args.command is None:
        top.print_help()
    else:
        status: int | None = args.run(args)
        sys.stdout.flush()  # a reader that has gone is noticed here, not at exit
        return status or 0
    return 0


def _options(command: str | None) -> Options:
    """How a command spells its arguments."""
    module = command_modules().get(command or "")
    if module is None:
        return Options()
    bare = argparse.ArgumentParser(add_help=False)
    module.add_arguments(bare)
    return options_of(bare, getattr(module, "takes_option", lambda name: False))


def _refuse_unknown_command(words: list[str]) -> None:
    """Name the nearest command; argparse would only list them all."""
    first = next((word for word in words if not word.startswith("-")), None)
    known = [name for name in discover.module_names(commands) if name not in _NOT_COMMANDS]
    if first is not None and first not in known and "--version" not in words:
        raise ProbeError(
            f"unknown command '{first}'", f"{PROGRAM} has no such command", nearest(first, known)
        )


def _refuse_unknown_options(
    unknown: list[str], top: argparse.ArgumentParser, command: str | None
) -> NoReturn:
    """Name the options nearest to the first one that there is not."""
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction) and command in action.choices:
            top = action.choices[command]
    first = next((word for word in unknown if word.startswith("-")), unknown[0])
    flags = [flag for action in top._actions for flag in action.option_strings]
    known = {flag.lstrip("-"): flag for flag in flags}
    close = near(first.partition("=")[0].lstrip("-"), known) if first.startswith("-") else []
    hint = f". Did you mean {' or '.join(known[name] for name in close[:3])}?" if close else ""
    top.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def _stopped(stop: KeyboardInterrupt) -> int:
    stopping.heard()
    if launch.rank() == 0:
        plain = "stopped; no file was left half written (the same command begins anew)"
        how = _short(stop) or plain
        print(f"\n{PROGRAM}: {how}", file=sys.stderr)
    return stopping.status(stop)


def _tell(line: str) -> int:
    if _mine_to_say(line):
        print(f"{PROGRAM}: error: {shown(line, None)}", file=sys.stderr)
    return 2


def _mine_to_say(line: str) -> bool:
    """Of several processes with the same error, one prints it."""
    if not launch.launched() or "torch.distributed" not in sys.modules:
        return launch.rank() == 0
    from whitebox_probe.probing.processes import first_to_say

    return first_to_say(line)
