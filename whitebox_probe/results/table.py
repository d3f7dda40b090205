"""The tidy frame of a result: its columns, how its rows are made, found and named."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe._core.arguments import (
    Check,
    bounded,
    expect,
    finite,
    is_several,
    optional,
    text,
    truth,
)
from whitebox_probe._core.errors import ResultError, nearest
from whitebox_probe._core.gate import Unfit, gate, size_of
from whitebox_probe.stats import copies_note, count_contents, summarise

SETTINGS = ("basis", "convention", "prenorm", "class_token", "eps", "lam", "null")
"""Columns that say how a number was taken; without a value where it does not depend on that."""
COLUMNS = (
    "model",
    "layer",
    "site",
    "metric",
    *SETTINGS,
    "mean",
    "std",
    "sem",
    "ci_low",
    "ci_high",
    "count",
    "note",
)
_EMPTY: dict[str, Any] = {
    "basis": "",
    "convention": "",
    "prenorm": None,
    "class_token": None,
    "eps": math.nan,
    "lam": math.nan,
    "null": "",
    "note": "",
}
_TYPES = {"prenorm": "boolean", "class_token": "boolean", "eps": "float64", "lam": "float64"}
TEXTS = {"model", "site", "metric", "basis", "convention", "null", "note"}
ALL_TEXTS = TEXTS | {"form", "first", "second", "first_basis", "second_basis"}
INTEGERS = {"layer", "count"}
ALL_INTEGERS = INTEGERS | {"first_layer", "second_layer"}
BOOLEANS = {"prenorm", "class_token"}
"""Columns of a table by what they hold; the others hold numbers."""
_ROUNDING = 2.0**-24
"""A value of float32 (`np.float32(0.1)`) is this near to what it was rounded from, relatively."""
_MOST = 1 << 28  # bytes of a table that is read whole
_BOOLEAN = {"True": True, "False": False, "": None}
_SPREAD = ("std", "sem", "ci_low", "ci_high")
_CHECKS: dict[str, Check] = {"prenorm": truth, "class_token": truth, "eps": finite, "lam": finite}
_ORDER = ["metric", "site", *SETTINGS, "layer"]


def no_value(value: Any) -> bool:
    """Whether a cell of a settings' column holds nothing: the number does not depend on it."""
    return value is None or value is pd.NA or value == "" or value != value


def written(value: Any) -> str:
    """A setting as keys and messages write it.

    >>> written(0.5), written(True), written("qk"), written(None)
    ('0.5', 'True', 'qk', '')
    """
    if no_value(value):
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    return f"{value:.12g}" if isinstance(value, int | float) else str(value)


def sample_key(metric: str, site: str, layer: int, **varying: Any) -> str:
    """The name of a measure's column in `Result.samples`; nothing ever reads such a name apart.

    Args: varying: the settings that tell this row from others of the same metric.

    >>> sample_key("l0", "z_out", 3)
    'l0@z_out:3'
    >>> sample_key("compression", "z_half", 3, basis="qk", eps=0.5)
    'compression[basis=qk,eps=0.5]@z_half:3'
    """
    told = ",".join(f"{name}={written(v)}" for name, v in varying.items() if not no_value(v))
    return f"{metric}[{told}]@{site}:{layer}" if told else f"{metric}@{site}:{layer}"


def varying(rows: pd.DataFrame) -> list[str]:
    """The settings' columns that hold more than one value."""
    return [c for c in SETTINGS if c in rows and rows[c].nunique(dropna=False) > 1]


def keys_of(frame: pd.DataFrame) -> pd.Series:
    """The key in `Result.samples` of each row, by what varies among the rows of its metric."""
    settings = {c: frame[c].tolist() for c in SETTINGS if c in frame}
    places = [*zip(*(frame[c].tolist() for c in ("metric", "site", "layer")), strict=True)]
    of_metric: dict[Any, list[int]] = {}
    for row, (metric, *_) in enumerate(places):
        of_metric.setdefault(metric, []).append(row)
    keys = [""] * len(frame)
    # As lists: an audit asks for thousands of keys, and pandas' columns are slow for a few rows.
    for rows in of_metric.values():
        several = {c: values for c, values in settings.items() if _varies(values, rows)}
        for row in rows:
            keys[row] = sample_key(
                *places[row], **{c: values[row] for c, values in several.items()}
            )
    return pd.Series(keys, index=frame.index, dtype=object)


def _varies(values: list[Any], rows: list[int]) -> bool:
    """Whether some rows of a column hold more than one value."""
    found = {None if pd.isna(values[row]) else values[row] for row in rows}
    return len(found) > 1


def matching(frame: pd.DataFrame, where: Mapping[str, Any]) -> pd.Series:
    """Which rows were taken with these settings, or do not depend on them.

    Args: where: setting -> a value, or several in a list; None is not asked (`null`: of no null).
    Raises: ResultError for a setting that does not exist; SettingError for a value of another kind.
    """
    found = pd.Series(True, index=frame.index)
    for name, wanted in where.items():
        if name not in SETTINGS:
            raise ResultError(
                f"there is no setting '{name}'",
                "a row of the table has none of that name",
                nearest(name, SETTINGS),
            )
        values = values_of(name, wanted)
        if name in frame and (name == "null" or values.count(None) < max(1, len(values))):
            found &= _equal(frame[name], values, strict=name == "null")
    return found


def values_of(name: str, wanted: Any) -> list[Any]:
    """What a setting is asked to be: one value, or several in a list, as plain values.

    Raises: SettingError for one that the setting cannot have.
    """
    values = bounded(name, wanted) if is_several(wanted) else [wanted]
    why = "a number was taken so, or not"
    return [expect(name, value, optional(_CHECKS.get(name, text)), why) for value in values]


def not_measured(frame: pd.DataFrame, name: str, values: Sequence[Any]) -> list[Any]:
    """The values of a setting, besides None, with which no row was taken."""
    asked = [value for value in values if value is not None]
    return [v for v in asked if name in frame and not _equal(frame[name], [v], strict=True).any()]


def depends_on(frame: pd.DataFrame, name: str) -> bool:
    """Whether some row holds a value of a setting."""
    return name in frame and not frame[name].map(no_value).all()


def _equal(column: "pd.Series[Any]", values: Sequence[Any], *, strict: bool) -> "pd.Series[bool]":
    """Where a column holds one of these values; unless strict, also where it holds none."""
    if column.name in ("eps", "lam"):
        told = [float(value) for value in values if value is not None]
        near = [same_number(column.to_numpy(), value) for value in told]
        same = pd.Series(np.any(near, axis=0), index=column.index, dtype=bool)
    else:
        same = column.isin(["" if value is None else value for value in values]).astype(bool)
    empty = column.isna() | (column == "").fillna(False).astype(bool)
    return same if strict else same | empty


def same_number(one: Any, other: Any) -> Any:
    """Whether two values of eps or lam are one, to what float32 keeps of them; arrays one by one.

    >>> bool(same_number(np.float64(np.float32(0.1)), 0.1)), bool(same_number(0.1, 0.1001))
    (True, False)
    """
    return np.isclose(one, other, rtol=_ROUNDING, atol=0)


def several_values(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Site and settings that hold more than one value among these rows, and the values, written."""
    found = {}
    for name in ("site", *SETTINGS):
        values = list(pd.unique(rows[name])) if name in rows else []
        if len(values) > 1:
            quoted = name in ("site", "basis", "convention", "null")
            found[name] = [f"'{v}'" if quoted else written(v) or "none" for v in values]
    return found


def tabulate(
    *,
    model: str,
    rows: Sequence[Mapping[str, Any]],
    samples: pd.DataFrame,
    numbers: Sequence[Mapping[str, Any]] = (),
    seed: int,
    contents: np.ndarray | None = None,
) -> pd.DataFrame:
    """The tidy frame of per-sample columns, and of numbers that have no value a sample.

    A row tells `layer`, `site`, `metric`, and of `SETTINGS` those that its number depends on.

    Args:
        rows: one a column of `samples`: beside that its `key`, the column's name, and `ddof`.
        samples: one row a sample. Rename its columns by `keys_of` of the frame afterwards.
        numbers: beside that `value`, and `count`, how many it is taken over; they carry no spread.
            `note`, if any: what else it is taken over, and why it is NaN.
        contents: of each sample, the same for samples of one content: intervals are over these.

    Raises: ResultError for two rows of one measure, site, layer and settings.
    """
    made: list[dict[str, Any]] = []
    if rows:
        ddof = np.array([row.get("ddof", 1) for row in rows], dtype=np.int64)
        values = samples[[row["key"] for row in rows]].to_numpy()
        summary = summarise(values, ddof=ddof, seed=seed, contents=contents)
        copies = copies_note(len(values), count_contents(len(values), contents))
    for column, row in enumerate(rows):
        spread = {name: float(getattr(summary, name)[column]) for name in ("mean", *_SPREAD)}
        note = "; ".join(filter(None, (row.get("note", ""), copies)))
        made.append(dict(row) | spread | {"count": summary.count, "note": note})
    nothing = dict.fromkeys(_SPREAD, math.nan)
    made += [nothing | dict(row) | {"mean": row["value"]} for row in numbers]
    told = [{k: v for k, v in row.items() if v is not None} for row in made]
    frame = with_types(pd.DataFrame([_EMPTY | {"model": model} | row for row in told]))
    twice = frame.duplicated(_ORDER)
    if twice.any():
        first = frame[twice].iloc[0]
        raise ResultError(
            f"'{first['metric']}' is measured twice at {first['site']}",
            "two rows of the table would have one name",
            "Name each measure once",
        )
    return frame.sort_values(_ORDER, kind="stable").reset_index(drop=True)[list(COLUMNS)]


def with_types(frame: pd.DataFrame) -> pd.DataFrame:
    """The same frame with the types of its settings: Booleans that may be missing, and numbers."""
    return frame.astype({name: kind for name, kind in _TYPES.items() if name in frame})


def with_settings(frame: pd.DataFrame) -> pd.DataFrame:
    """A table with all settings and notes: what one does not tell has no value there."""
    nothing = {name: _nothing(name) for name in (*SETTINGS, "note") if name not in frame}
    return with_types(frame.assign(**nothing)) if nothing else frame


def setting(rows: pd.DataFrame, name: str) -> "pd.Series[Any]":
    """The values of a setting, or that there is none in a table without a column of it."""
    return rows[name] if name in rows else pd.Series(_nothing(name), index=rows.index, name=name)


def _nothing(name: str) -> Any:
    """What a column of a table holds where there is no value."""
    return "" if name in TEXTS else None if name in BOOLEANS else math.nan


def completed(frame: pd.DataFrame, samples: pd.DataFrame, model: str) -> pd.DataFrame:
    """A table with all columns of ours but settings: what one does not tell has no value there.

    Of the model and of how many samples a number is, the rest of a result tells. A setting that is
    not a column is not known, which is another thing than one without a value.
    """
    lacking = [name for name in COLUMNS if name not in frame and name not in SETTINGS]
    if not lacking:
        return frame
    nothing: dict[str, Any] = {name: "" if name == "note" else math.nan for name in lacking}
    if "model" in lacking:
        nothing["model"] = model
    if "count" in lacking:
        told, every = samples.count(), len(samples)
        nothing["count"] = [int(told.get(key, every)) for key in keys_of(frame)]
    frame = frame.assign(**nothing)
    own = [name for name in COLUMNS if name in frame]
    return frame[[*own, *(name for name in frame if name not in COLUMNS)]]


def read_table(path: str | Path) -> pd.DataFrame:
    """A frame that was written as CSV, with its types and to the last digit.

    Raises: Unfit for a file that is none, or a cell that is no number where one belongs.
    """
    path = Path(path)
    if (size := size_of(path)) > _MOST:
        raise Unfit(f"it has {size:,} bytes, and at most {_MOST:,} are read")
    with gate():
        # As text first: pandas' own parser of numbers may miss the last digit.
        # Of an open file: pandas may take a path for an address.
        with path.open(encoding="utf-8", newline="") as file:
            frame = pd.read_csv(file, dtype="str", keep_default_na=False)
        for name in frame:
            cells = frame[name]
            if name in ALL_INTEGERS:
                frame[name] = [int(cell) for cell in cells]
            elif name in BOOLEANS:
                frame[name] = pd.array([_BOOLEAN[cell] for cell in cells], dtype="boolean")
            elif name not in ALL_TEXTS:
                frame[name] = [float(cell) if cell else math.nan for cell in cells]
    return frame
