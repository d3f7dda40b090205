"""What results hand out of what they hold: nobody changes a result by it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd

Class = TypeVar("Class", bound=type)


def copied(*names: str) -> Callable[[Class], Class]:
    """Have a frozen dataclass take and give copies of these tables, arrays and mappings of arrays.

    Each access gives a new one. A table that is filtered, renamed or filled in place is the
    caller's own. Arrays are read-only, and copies too: what torch makes of an array
    (`torch.as_tensor`) writes into its memory, read-only or not.
    """

    def changed(of: Class) -> Class:
        for name in names:
            setattr(of, name, _Copied(name))
        return of

    return changed


class _Copied:
    """What is held under a hidden name, by the name of its field."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, of: object | None, owner: type) -> Any:
        return self if of is None else _own(uncopied(of, self._name))

    def __set__(self, of: object, held: Any) -> None:
        vars(of)[f"_{self._name}"] = _own(held)


def uncopied(of: object, name: str) -> Any:
    """What a field of `copied` holds itself, for those who only take parts of it: large, or often.

    Whoever hands on what this gives copies it.
    """
    fields, hidden = vars(of), f"_{name}"
    if hidden not in fields:  # a pickle of a version that held it under the field's own name
        fields.setdefault(hidden, _own(fields[name]))
        fields.pop(name, None)
    return fields[hidden]


def _own(held: Any) -> Any:
    if held is None:
        return None
    if isinstance(held, Mapping):
        return {key: _own(each) for key, each in held.items()}
    return held.copy() if isinstance(held, pd.DataFrame | pd.Series) else read_only(held)


def read_only(array: Any) -> np.ndarray:
    """A copy of an array that cannot be written over, nor what it is a view of."""
    made = np.array(array)
    made.flags.writeable = False
    return made


def hold_read_only(of: object, names: Iterable[str]) -> None:
    """Replace arrays of a frozen dataclass, one by one or in mappings, by copies: read-only ones.

    For arrays that are too large for a copy at each access.
    """
    for name in names:
        object.__setattr__(of, name, _own(getattr(of, name)))
