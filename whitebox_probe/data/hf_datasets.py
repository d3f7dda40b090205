"""A Hugging Face dataset with a column of texts."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _prepared
from whitebox_probe.data._left_out import LeftOutWarning
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader

COLUMN = "text"
NULL = "without a text (null)"


class HfDatasets(Kind):
    """The rows of the column `text`, joined by line ends and cut into windows of tokens.

    Rows without a text (null) are left out, and counted.
    """

    name = "hf_dataset"
    words = f"a Hugging Face dataset with a column '{COLUMN}'"
    reads = "text"
    exempt = {"not finite": "its samples are whole numbers, the ids of tokens"}

    def takes(self, data: Any) -> bool:
        """Whether it has named columns."""
        return hasattr(data, "column_names")

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """Windows of the rows, by the model's own tokenizer."""
        name, (rows, nulls) = type(data).__name__, _rows_of(data)
        if nulls and not rows:
            raise DataError(
                f"a {name} holds no text",
                f"all {len(nulls)} rows of its column '{COLUMN}' are null",
                "Pass data with texts",
            )
        opened = _prepared.text_windows("\n".join(rows), name, transform)
        if not nulls:
            return opened
        what = f"{len(nulls)} of {len(rows) + len(nulls)} rows of a {name} are left out"
        why = f"they are null in its column '{COLUMN}'; the first one is row {nulls[0]}"
        warnings.warn(LeftOutWarning(what, why, "The others are measured"), stacklevel=2)
        return replace(opened, left_out={NULL: [f"row {number}" for number in nulls]})

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Two rows each, in what has the library's shape: the library itself is optional."""
        rows = ["a layer compresses its tokens " * 5, "a layer makes its tokens sparse " * 5]
        return {
            "plain": _Rows({"text": rows}),
            "other": _Rows({"text": rows[::-1]}),
            "empty": _Rows({"text": []}),
            "wrong type": _Rows({"content": rows}),
        }


class _Rows:
    """What a Hugging Face dataset looks like from here."""

    def __init__(self, columns: Mapping[str, Sequence[str]]) -> None:
        self.columns = columns
        self.column_names = list(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, name: str) -> Sequence[str]:
        return self.columns[name]


def _rows_of(data: Any) -> tuple[list[str], list[int]]:
    """The texts of the column in their order, and the numbers of the rows that have none.

    Raises: DataError without that column, or where a row holds something else.
    """
    columns = data.column_names
    if isinstance(columns, Mapping):
        raise DataError(
            f"a {type(data).__name__} of {', '.join(columns)} cannot be opened",
            "it is several data sets",
            f"Pass one of them, such as data['{next(iter(columns), 'train')}']",
        )
    if not columns or COLUMN not in columns:
        raise DataError(
            f"a {type(data).__name__} has no column '{COLUMN}'",
            f"its columns are {', '.join(columns or []) or 'not known'}",
            f"Name it so, with data.rename_column(..., '{COLUMN}')",
        )
    rows: list[str] = []
    nulls: list[int] = []
    for number, given in enumerate(data[COLUMN]):
        row = given.as_py() if hasattr(given, "as_py") else given  # Arrow's own format
        if isinstance(row, str):
            rows.append(row)
        elif pd.api.types.is_scalar(row) and pd.isna(row):
            nulls.append(number)
        else:
            raise DataError(
                f"row {number} of a {type(data).__name__} is a {type(row).__name__}",
                f"its column '{COLUMN}' is to hold texts",
                "Make a text of it, such as with data.map",
            )
    return rows, nulls
