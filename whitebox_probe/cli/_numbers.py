"""Numbers as they are typed on the command line: what YAML 1.2 and JSON take, and no more.

Python's own `int` and `float` take `1_0` and the digits of every script.
"""

import argparse
import re

_WHOLE = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?(([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|inf|nan)", re.IGNORECASE)


def whole(text: str) -> int:
    """A whole number in plain digits.

    Raises: ValueError.

    >>> whole(" -3 ")
    -3
    """
    return int(_plain(text, _WHOLE))


def number(text: str) -> float:
    """A number in plain digits; `inf` and `nan` are left for others to refuse.

    Raises: ValueError.

    >>> number("1e-2"), number(".5")
    (0.01, 0.5)
    """
    return float(_plain(text, _NUMBER))


def typed_whole(text: str) -> int:
    """`whole`, as an argparse type."""
    try:
        return whole(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from None


def typed_number(text: str) -> float:
    """`number`, as an argparse type."""
    try:
        return number(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None


def typed_numbers(text: str) -> list[float]:
    """Several of them, as an argparse type."""
    try:
        return [number(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not A,B,..., as in 0,100,2000") from None


def _plain(text: str, form: "re.Pattern[str]") -> str:
    kept = text.strip()
    if form.fullmatch(kept) is None:
        raise ValueError(f"'{text}' is no number in plain digits")
    return kept
