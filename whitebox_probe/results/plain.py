"""Tables of a user's own in the form that this package gives its own, or refused.

A `Result` or `Comparison` may be made of any tables. What is in form already, as all of ours is, is
looked at by its types alone, and kept.
"""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe._core.gate import Unfit
from whitebox_probe._core.lines import shown
from whitebox_probe.results.kinds import NUMBERS
from whitebox_probe.results.table import ALL_INTEGERS, ALL_TEXTS, BOOLEANS

_TOLD = {"model", "site", "metric", "first", "second"}
"""Texts that each row has; of others, nothing is an empty one."""


def plain_table(table: Any, needed: Sequence[str]) -> pd.DataFrame:
    """A table as this package makes one, or the table itself if it is in this form.

    Args: needed: columns that it has to have.
    Raises: Unfit.
    """
    table = _with_names(table)
    if missing := [name for name in needed if name not in table.columns]:
        raise Unfit(f"it lacks the columns {', '.join(missing)}")
    text = pd.Series([""]).dtype  # of pandas' own choice: an object, or its strings
    changed = {}
    for name, dtype in table.dtypes.items():
        kind = _kind_of(str(name))
        if kind is not None and not _is_plain(table[name], kind, dtype, text):
            changed[name] = _made(table[name], kind, text)
    if changed:
        table = table.assign(**changed)
    index = table.index
    if not (isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1):
        table = table.reset_index(drop=True)
    return table


def plain_samples(samples: Any) -> pd.DataFrame:
    """The values a sample in numbers of NumPy, or the table itself if it has these.

    Raises: Unfit.
    """
    samples = _with_names(samples)
    index = samples.index
    if len(samples):
        index = _plain_index(index)
    if index is not samples.index:
        samples = samples.set_axis(index)
    if not all(map(_is_float, set(samples.dtypes))):
        other = [name for name, dtype in samples.dtypes.items() if not _is_float(dtype)]
        made = {name: _made(samples[name], "number", None) for name in other}
        samples = samples.assign(**made)
    return samples


def plain_identities(known: Any, samples: pd.DataFrame) -> "pd.Series[Any]":
    """What tells samples apart, one of each, as whole numbers of NumPy.

    Raises: Unfit.
    """
    if not isinstance(known, pd.Series):
        raise Unfit(f"it is a {type(known).__name__}, and no Series")
    if not (isinstance(known.dtype, np.dtype) and known.dtype.kind in "iu"):
        known = _made(known, "integer", None)
    if len(samples.columns) and not known.index.equals(samples.index):
        fits = known.index.is_unique and len(known) == len(samples)
        if not fits or not known.index.isin(samples.index).all():
            raise Unfit(f"it is of {len(known)} samples, and there are {len(samples)}, or others")
    return known


def expect_matrices(matrices: Any) -> None:
    """Check that matrices are numbers by names.

    Raises: Unfit.
    """
    if not isinstance(matrices, Mapping):
        raise Unfit(f"they are a {type(matrices).__name__}, and no arrays by name")
    for name, array in matrices.items():
        if not isinstance(name, str):
            raise Unfit(f"{shown(name)} is no name")
        if getattr(array, "dtype", np.dtype(object)).kind not in "biuf":
            raise Unfit(f"'{shown(name)}' does not hold numbers")


def _with_names(table: Any) -> pd.DataFrame:
    if not isinstance(table, pd.DataFrame):
        raise Unfit(f"it is a {type(table).__name__}, and no DataFrame")
    columns = table.columns
    if not columns.is_unique:
        raise Unfit(f"its column '{shown(columns[columns.duplicated()][0])}' is in it twice")
    if len(columns) and columns.inferred_type != "string":
        other = [name for name in columns if not isinstance(name, str)]
        if other:
            raise Unfit(f"its column {shown(other[0])} has no name")
        return table.set_axis(pd.Index(columns.tolist()), axis="columns")  # of categories
    return table


def _plain_index(index: pd.Index) -> pd.Index:
    """Raises: Unfit."""
    if index.dtype == np.int64 and index.is_unique:  # a RangeIndex too
        return index
    cells = index.tolist()
    if not all(isinstance(each, Integral) for each in cells) or not index.is_unique:
        raise Unfit("its samples have no numbers, or two have one")
    return pd.Index([int(each) for each in cells], dtype=np.int64, name=index.name)


def _kind_of(name: str) -> str | None:
    """What a column of one of our tables holds; None for one that is none of ours."""
    if name in ALL_TEXTS:
        return "text"
    if name in ALL_INTEGERS:
        return "integer"
    if name in BOOLEANS:
        return "boolean"
    return "number" if name in NUMBERS else None


def _is_float(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype in (np.float64, np.float32)


def _is_plain(column: "pd.Series[Any]", kind: str, dtype: Any, text: Any) -> bool:
    if kind == "number":
        return bool(dtype == np.float64)
    if kind == "integer":
        return bool(dtype == np.int64)
    if kind == "boolean":
        return isinstance(dtype, pd.BooleanDtype)
    if dtype != text:
        return False
    if pd.api.types.is_object_dtype(dtype):
        return pd.api.types.infer_dtype(column, skipna=False) in ("string", "empty")
    return not column.array.isna().any()  # cheaper than of a Series


def _made(column: "pd.Series[Any]", kind: str, text: Any) -> "pd.Series[Any]":
    """Raises: Unfit for a cell that is none of the kind, or would not be kept as it is."""
    make, dtype = _MAKE[kind]
    name = str(column.name)
    try:
        cells = [make(None if _is_nothing(cell) else cell, name) for cell in column.tolist()]
        made = pd.Series(cells, index=column.index, dtype=dtype or text, name=column.name)
    except (TypeError, ValueError, OverflowError) as error:
        raise Unfit(f"its column '{shown(name)}' does not hold {_KINDS[kind]} each") from error
    return made


_KINDS = {
    "number": "a number",
    "integer": "a whole number",
    "boolean": "True or False",
    "text": "a text",
}


def _is_nothing(cell: Any) -> bool:
    return (
        cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, Real) and cell != cell)
    )


def _is_real(cell: Any) -> bool:
    return isinstance(cell, Real) and not isinstance(cell, bool | np.bool_)


def _number(cell: Any, _: str) -> float:
    if cell is None:
        return float("nan")
    if not _is_real(cell) or float(cell) != cell:
        raise TypeError
    return float(cell)


def _integer(cell: Any, _: str) -> int:
    if not _is_real(cell) or int(cell) != cell:
        raise TypeError
    return int(cell)


def _truth(cell: Any, _: str) -> Any:
    if cell is None:
        return pd.NA
    if isinstance(cell, str) or cell not in (0, 1):
        raise TypeError
    return bool(cell)


def _text(cell: Any, name: str) -> str:
    if cell is None and name not in _TOLD:
        return ""
    if not isinstance(cell, str):
        raise TypeError
    return str(cell)


_MAKE: dict[str, tuple[Callable[[Any, str], Any], Any]] = {
    "number": (_number, np.float64),
    "integer": (_integer, np.int64),
    "boolean": (_truth, "boolean"),
    "text": (_text, None),
}
