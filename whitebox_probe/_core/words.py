"""The words of a command line, before a parser takes them."""

from collections.abc import Sequence

from whitebox_probe._core.errors import ProbeError


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
