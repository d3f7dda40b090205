"""A Hugging Face dataset with a column of texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _prepared
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader

COLUMN = "text"


class HfDatasets(Kind):
    """The rows of the column `text`, joined by line ends and cut into windows of tokens."""

    name = "hf_dataset"
    words = f"a Hugging Face dataset with a column '{COLUMN}'"
    reads = "text"
    exempt = {"not finite": "its samples are whole numbers, the ids of tokens"}

    def takes(self, data: Any) -> bool:
        """Whether it has named columns."""
        return hasattr(data, "column_names")

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """Windows of the rows, by the model's own tokenizer."""
        return _prepared.text_windows(_text_of(data), type(data).__name__, transform)

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


def _text_of(data: Any) -> str:
    """The rows of the column, one after another."""
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
    return "\n".join(str(row) for row in data[COLUMN])
