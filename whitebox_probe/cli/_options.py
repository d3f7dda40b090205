"""Options of the command line, made from the fields of `Settings` and `Execution`.

A field with a help becomes an option of its name; one that is true unless said otherwise becomes
`--no-NAME`. Of a field that may have several values, several are named with commas.
"""

import argparse
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, fields
from typing import Any

from whitebox_probe.cli import _completing, _numbers
from whitebox_probe.probing.settings import Execution, Settings

NONE = "none"
"""Stands, on the command line, for no null."""


def add_settings(parser: argparse._ArgumentGroup | argparse.ArgumentParser, *names: str) -> None:
    """Add the options of these fields of `Settings`, or of all of them."""
    _add(parser, Settings, names)


def add_execution(parser: argparse._ArgumentGroup | argparse.ArgumentParser, *names: str) -> None:
    """Add the options of these fields of `Execution`, or of all of them."""
    _add(parser, Execution, names)


def given(args: argparse.Namespace, *, without: Collection[str] = ()) -> dict[str, Any]:
    """What the options say, as keyword arguments of `probe`."""
    known = [each.name for kind in (Settings, Execution) for each in fields(kind)]
    found = {name: getattr(args, name) for name in known if hasattr(args, name)}
    return {name: _alone(value) for name, value in found.items() if name not in without}


def _alone(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _add(parser: Any, kind: type, names: Collection[str]) -> None:
    for each in fields(kind):
        if each.metadata["help"] and (not names or each.name in names):
            _add_one(parser, each)


def _add_one(parser: Any, each: "Field[Any]") -> None:
    about = each.metadata
    default = each.default
    assert default is not MISSING
    first = default[0] if about["several"] else default
    flag = each.name.replace("_", "-")
    if isinstance(first, bool):
        parser.add_argument(
            f"--no-{flag}" if first else f"--{flag}",
            dest=each.name,
            action="store_false" if first else "store_true",
            help=about["help"],
        )
        return
    kind = _kind(first, each)
    metavar = about["metavar"] or each.name.upper()
    # Of none, no default is shown; of several values, the default is read like any other text.
    action = parser.add_argument(
        f"--{flag}",
        type=_listed(kind) if about["several"] else kind,
        default=_written(first) if about["several"] else first,
        metavar=f"{metavar}[,{metavar},...]" if about["several"] else metavar,
        help=about["help"],
    )
    if each.name in _completing.KINDS:
        _completing.by(action, each.name, several=about["several"])


def _written(value: Any) -> Any:
    return f"{value:g}" if isinstance(value, float) else [value] if value is None else value


def _kind(first: Any, each: "Field[Any]") -> Callable[[str], Any]:
    """What reads one value of an option."""
    if isinstance(first, float):
        return _numbers.typed_number
    whole = "int" in str(each.type)
    return _numbers.typed_whole if whole else _text


def _text(text: str) -> str | None:
    return None if text == NONE else text.strip()


def _listed(one: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    def several(text: str) -> list[Any]:
        return [one(part.strip()) for part in text.split(",")]

    return several
