"""What results hand out of what they hold: nobody changes a result by it."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
import pandas as pd

_LAZY = int(pd.__version__.partition(".")[0]) >= 3
"""Whether a shallow copy is one: older versions of pandas write through it."""
Class = TypeVar("Class", bound=type)


def copied(*names: str) -> Callable[[Class], Class]:
    """Have a frozen dataclass give a copy of each of these tables, at every access.

    A table that is filtered, renamed or filled in place is the caller's own: the result stays.
    """

    def changed(of: Class) -> Class:
        for name in names:
            setattr(of, name, _Copied(name))
        return of

    return changed


class _Copied:
    """A table under a hidden name, by the name of its field."""

    def __init__(self, name: str) -> None:
        self._name = f"_{name}"

    def __get__(self, of: object | None, owner: type) -> Any:
        return self if of is None else _own(vars(of)[self._name])

    def __set__(self, of: object, table: Any) -> None:
        vars(of)[self._name] = _own(table)


def _own(table: Any) -> Any:
    return table if table is None else table.copy(deep=not _LAZY)


def read_only(array: np.ndarray) -> np.ndarray:
    """The same numbers, which cannot be written over."""
    seen = np.asarray(array).view()
    seen.flags.writeable = False
    return seen


def hold_read_only(of: object, names: Iterable[str]) -> None:
    """Replace arrays of a frozen dataclass, one by one or in mappings, by read-only ones."""
    for name in names:
        held = getattr(of, name)
        if held is None:
            continue
        made = (
            {key: read_only(each) for key, each in held.items()}
            if isinstance(held, dict)
            else read_only(held)
        )
        object.__setattr__(of, name, made)
