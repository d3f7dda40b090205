"""What arguments of public functions may be, checked in one place before anything is done.

    rank = expect("rank", rank, whole(1), "so many directions are compared")

A check gives "" for a value that may be used, or what to use. An argument with a few choices is
held to them: compared with one and else ignored, a mistyped name would be the other in silence.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from itertools import islice
from typing import Any

from whitebox_probe._core.errors import SettingError, nearest

Check = Callable[[Any], str]
MOST = 4096
"""Values that are read where several may be given: what gives more may have no end."""
LARGEST = 2**63 - 1
_NUMBERS = "biuf"


def plain(value: Any) -> Any:
    """A number of NumPy, a Decimal or a Fraction as one of Python's; all else as it is.

    Of NumPy's narrower numbers the shortest decimal that is theirs: who gives `np.float32(0.1)`
    means 0.1, and not 0.10000000149.
    """
    if isinstance(value, Decimal | Fraction):
        with suppress(OverflowError, ValueError):
            return float(value)
    of_numpy = type(value).__module__ == "numpy" and type(value).__name__ != "ndarray"
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if not (of_numpy and kind and kind in _NUMBERS):
        return value
    return float(str(value)) if kind == "f" else value.item()


def lone(value: Any) -> Any:
    """A number of NumPy, or alone in an array or a tensor, as one of Python's."""
    without_axis = getattr(value, "ndim", None) == 0 and hasattr(value, "item")
    return value.item() if without_axis else plain(value)


def told(value: Any) -> str:
    """A value as an error shows it; its type where it cannot be printed."""
    try:
        return repr(value)
    except Exception:  # its own code, or a whole number of more digits than Python prints
        if isinstance(value, int):
            return f"a number of {value.bit_length()} bits"
        return f"a {type(value).__name__}"


def expect(name: str, value: Any, check: Check, why: str) -> Any:
    """The value, with NumPy's numbers as Python's, if it may be used.

    Raises: SettingError that names the argument, the value, and what may stand there.
    """
    value = plain(value)
    if fix := check(value):
        raise SettingError(f"{name} is {told(value)}", why, fix, setting=name)
    return value


def expect_each(name: str, values: Any, check: Check, why: str) -> list[Any]:
    """The same for each of several values, of which no more than `MOST` are read.

    Raises: SettingError.
    """
    if not is_several(values):
        fix = check(lone(values)) or "Use a list"
        raise SettingError(f"{name} is {told(values)}", why, fix, setting=name)
    return [expect(name, each, check, why) for each in bounded(name, values)]


def is_several(values: Any) -> bool:
    """Whether it is values one after the other: no text, no bytes, no mapping."""
    whole = isinstance(values, str | bytes | bytearray | memoryview | Mapping)
    return is_row(values) and not whole


def is_row(values: Any) -> bool:
    """Whether it can be iterated, which a tensor or an array without an axis cannot."""
    return isinstance(values, Iterable) and getattr(values, "ndim", None) != 0


def bounded(name: str, values: Iterable[Any]) -> list[Any]:
    """Several values as a list.

    Raises: SettingError for more than `MOST`.
    """
    found = list(islice(iter(values), MOST + 1))
    if len(found) > MOST:
        raise SettingError(
            f"{name} has more than {MOST} values",
            "each of them is read, and they may have no end",
            "Name fewer",
            setting=name,
        )
    return found


def expect_usual(**given: Any) -> None:
    """Check arguments that several functions have, by their names.

    Raises: SettingError.
    """
    for name, value in given.items():
        expect(name, value, *_USUAL[name])


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether it is a number, which True is not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def whole(least: int, *, most: float = LARGEST) -> Check:
    """A whole number."""
    bound = "on" if most >= LARGEST else f"to {most}"
    need = f"Use a whole number from {least} {bound}"
    return lambda value: "" if is_whole(value) and least <= value <= most else need


def truth(value: Any) -> str:
    """True or False."""
    return "" if isinstance(value, bool) else "Use True or False"


def text(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        return "Use a text"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "Use whole characters: it holds half of a surrogate pair"
    return ""


def path(value: Any) -> str:
    """A path, or a text that is one."""
    try:
        fits = isinstance(os.fspath(value), str)
    except TypeError:
        fits = False
    return "" if fits else "Use a path, as text or a Path"


def mapping(value: Any) -> str:
    """A mapping."""
    return "" if isinstance(value, Mapping) else "Use a mapping, such as a dict"


def finite(value: Any) -> str:
    """A finite number."""
    try:
        fits = is_number(value) and math.isfinite(value)
    except OverflowError:
        fits = False
    return "" if fits else "Use a number"


_EPS = (1e-100, 1e100)


def precision(value: Any) -> str:
    """A positive number whose square is a number, and that of its inverse."""
    fits = is_number(value) and _EPS[0] <= value <= _EPS[1]
    return "" if fits else f"Use a number from {_EPS[0]:g} to {_EPS[1]:g}, such as 0.1"


def weight(value: Any) -> str:
    """A number from 0 on."""
    # A whole number may be larger than any other number.
    fits = finite(value) == "" and value >= 0
    return "" if fits else "Use a number from 0 on, such as 0.1"


def one_of(*choices: str | bool | None) -> Check:
    """One of a few values; None among them stands for leaving it out."""
    names = [str(choice) for choice in choices if choice is not None]

    def check(value: Any) -> str:
        of_text = isinstance(value, str)  # NumPy's texts are
        fits = any(value is each or (of_text and value == each) for each in choices)
        return "" if fits else nearest(value if of_text else "", names)

    return check


def optional(check: Check) -> Check:
    """The same, or None."""
    return lambda value: "" if value is None else check(value)


SEED = whole(0), "random numbers are drawn from it, of 63 bits"
NAME = optional(text), "tables and figures call it so"
_USUAL: dict[str, tuple[Check, str]] = {
    "name": NAME,
    "title": (optional(text), "it stands above"),
    "progress": (truth, "a bar is shown, or not"),
    "overwrite": (truth, "what is there already is replaced, or not"),
}
