"""The words of a command line: before a parser takes them, and what it makes of paths."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.gate import Unfit, given_path
from whitebox_probe._core.lines import shown


def expect_values(words: Sequence[str]) -> None:
    """Refuse `--option=--`, which argparse takes for an empty list, or for no option at all.

    >>> expect_values(["--out=--set", "--", "--out=--"])

    Raises: ProbeError.
    """
    for word in words:
        if word == "--":  # nothing behind it is an option
            return
        name, _, value = word.partition("=")
        if name.startswith("--") and value == "--":
            raise ProbeError(
                f"{name} has no value", "'--' alone ends the options", "Give one, or leave it out"
            )


def path(text: str) -> Path:
    """A path, with `~` in place of a home, as an argparse type."""
    try:
        return given_path(text)
    except Unfit as why:
        raise argparse.ArgumentTypeError(f"'{shown(text)}' cannot be used: {why}") from why
