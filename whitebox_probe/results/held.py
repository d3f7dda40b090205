"""What results hand out of what they hold: nobody changes a result by it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import pandas as pd

Class = TypeVar("Class", bound=type)


def copied(*names: str) -> Callable[[Class], Class]:
    """Have a frozen dataclass take and give copies of these tables, arrays and mappings of arrays.

    Each access gives a new one, and of a mapping each access to an array in it (`Copies`). A table
    that is filtered, renamed or filled in place is the caller's own. Arrays are read-only, and
    copies too: what torch makes of an array (`torch.as_tensor`) writes into its memory, read-only
    or not.
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
        if of is None:
            return self
        held = uncopied(of, self._name)
        return Copies(held) if isinstance(held, Mapping) else _own(held)

    def __set__(self, of: object, held: Any) -> None:
        vars(of)[f"_{self._name}"] = _own(held)


class Copies(Mapping[str, np.ndarray]):
    """Arrays by name: a read-only copy of each, made when it is asked for. Equal by content.

    Where a dict is wanted: `dict(these)`, `these.copy()`, and `these | others` gives one.
    """

    def __init__(self, held: Mapping[str, np.ndarray]) -> None:
        self._held = held

    def __getitem__(self, name: str) -> np.ndarray:
        return read_only(self._held[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, name: object) -> bool:
        return name in self._held  # Mapping's own asks for the array, and so copies it

    def __eq__(self, other: object) -> bool:
        return same_arrays(self._held, other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(dict(self._held))

    def __or__(self, others: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **others} if isinstance(others, Mapping) else NotImplemented

    def __ror__(self, others: Mapping[str, Any]) -> dict[str, Any]:
        return {**others, **self} if isinstance(others, Mapping) else NotImplemented

    def copy(self) -> dict[str, np.ndarray]:
        """A dict of copies."""
        return dict(self)


def uncopied(of: object, name: str) -> Any:
    """What a field of `copied` holds itself, for those who only take parts of it: large, or often.

    Whoever hands on what this gives copies it.
    """
    fields, hidden = vars(of), f"_{name}"
    if hidden not in fields:  # a pickle of a version that held it under its own name, or not at all
        fields.setdefault(hidden, _own(fields.get(name)))
        fields.pop(name, None)
    return fields[hidden]


def hold(of: object, name: str, own: Any) -> None:
    """Have a field of `copied` hold this itself: for what is nobody else's already."""
    vars(of)[f"_{name}"] = own


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


def same_arrays(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sets of named arrays hold the same; NaN equals NaN."""
    return one.keys() == other.keys() and all(
        same_array(array, other[name]) for name, array in one.items()
    )


def same_array(one: Any, other: Any) -> bool:
    """Whether two arrays are of one shape and hold the same; NaN equals NaN."""
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    # Row by row: what tells where a whole array is equal takes much memory itself.
    rows = zip(np.atleast_1d(one), np.atleast_1d(other), strict=True)
    return all(bool(np.all((a == b) | ((a != a) & (b != b)))) for a, b in rows)
