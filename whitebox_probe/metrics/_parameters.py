"""What parameters of measures may be: of their classes, and of functions on tensors.

One list, by name; what has no line in it is held to its annotation, so that a new measure needs
nothing. Nothing heavy is imported.
"""

import math
from collections.abc import Callable
from typing import Any

from whitebox_probe._core.arguments import (
    Check,
    expect,
    finite,
    is_whole,
    plain,
    precision,
    text,
    truth,
    weight,
    whole,
)

_COUNT = whole(1), "it is a number of things, of which there is one at least"
_BY_NAME: dict[str, tuple[Check, str]] = {
    "eps": (precision, "it is positive: formulas divide by it, or take its logarithm"),
    "lam": (weight, "it is a weight"),
    "tau": (weight, "magnitudes are compared with it"),
    "eta": (weight, "it is a step's size"),
    "kappa": (weight, "it is a step's size"),
    "tolerance": (weight, "it is a share that may be missing"),
    "prefix": (whole(0), "so many tokens stand before the patches"),
    "seed": (whole(0), "random numbers are drawn from it, of 63 bits"),
    "steps": (whole(0), "so many are taken at most"),
} | dict.fromkeys(("heads", "dim_head", "tokens", "d", "p", "draws", "rank"), _COUNT)


def _integer(value: Any) -> str:
    return "" if is_whole(value) and abs(value) < 2**63 else "Use a whole number"


def _pair(value: Any) -> str:
    fits = isinstance(value, tuple | list) and len(value) == 2
    need = "Use (rows, columns), two whole numbers from 1 on"
    return "" if fits and not any(map(whole(1), value)) else need


def _function(value: Any) -> str:
    return "" if callable(value) else "Use a function of tokens, such as an nn.LayerNorm"


_PAIR = tuple[int, int]
_BY_KIND: dict[Any, tuple[Check, str]] = {
    float: (finite, "it is a number"),
    int: (_integer, "it is a whole number"),
    bool: (truth, "it is so, or not"),
    str: (text, "it is a name"),
    _PAIR: (_pair, "it is two whole numbers"),
    Callable: (_function, "tokens are given to it"),
}
KINDS = tuple(_BY_KIND)


def expect_parameter(name: str, value: Any, kind: Any) -> Any:
    """Check a parameter by its name, or else by its annotation; what is neither is let through.

    Returns: the parameter as it was read: numbers of arrays and tensors as Python's. A fraction
        in a tensor, which may be learnt, stays one, without axes.
    Raises: SettingError.
    """
    about = _BY_NAME.get(name) or _BY_KIND.get(kind)
    if about is None:
        return value
    found = expect(name, _pair_of(value) if kind == _PAIR else _alone(value), *about)
    is_tensor = hasattr(value, "requires_grad")  # torch is not imported for it
    return value.reshape(()) if is_tensor and kind is float else found


def _alone(value: Any) -> Any:
    """A number that stands alone in a tensor or an array, such as one that is learnt."""
    value = plain(value)
    several = getattr(value, "ndim", None) != 0 and math.prod(getattr(value, "shape", (0,))) != 1
    return value if several or not hasattr(value, "item") else value.item()


def _pair_of(value: Any) -> Any:
    """The two numbers of a row, of whatever kind, as a tuple of Python's."""
    row = value.tolist() if getattr(value, "shape", None) == (2,) else value
    return tuple(map(plain, row)) if isinstance(row, tuple | list) else value
