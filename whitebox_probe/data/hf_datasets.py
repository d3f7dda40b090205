"""A Hugging Face dataset of images, of texts or of ids, whole or streamed."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _documents, _keys
from whitebox_probe.data._documents import NULL as NULL
from whitebox_probe.data._parts import Parts, class_in, no_class
from whitebox_probe.data._reading import Reading
from whitebox_probe.data.choices import OF_SAMPLES, OF_TEXTS, Choices
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.streams import start_of
from whitebox_probe.data.text import TextReader

COLUMN = "text"
_STRINGS = ("string", "large_string")


class HfDatasets(Kind):
    """Rows of a dataset with named columns.

    Of a column of texts the rows are joined and cut into windows of tokens; rows without a text
    (null) are left out, and counted. Rows of images or of ids are samples.
    """

    name = "hf_dataset"
    words = "a Hugging Face dataset of texts, images or ids"
    reads = "text"
    options = OF_SAMPLES | OF_TEXTS
    exempt = {"not finite": "its samples are whole numbers, the ids of tokens"}

    def takes(self, data: Any) -> bool:
        """Whether it has named columns."""
        return hasattr(data, "column_names")

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """Windows of the rows, by the model's own tokenizer; or the rows."""
        return self.open_as(data, transform, Choices())

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """Windows of the column that is chosen or goes by its name; or the rows, as samples."""
        name = type(data).__name__
        columns = data.column_names
        if isinstance(columns, Mapping):
            raise DataError(
                f"a {name} of {', '.join(columns)} cannot be opened",
                "it is several data sets",
                f"Pass one of them, such as data['{next(iter(columns), 'train')}']",
            )
        streamed = not isinstance(data, Sized)
        first = start_of(data, name) if streamed or (columns and len(data)) else []
        first = [data[0]] if first and not streamed and not isinstance(first[0], Mapping) else first
        # A transform (set_transform, map) may give other keys than the table has columns.
        rows = list(first[0]) if first and isinstance(first[0], Mapping) else list(columns or [])
        reading = Reading(transform, choices)
        column = _column(data, rows, name, reading)
        reading = replace(reading, choices=replace(choices, column=column))
        if _is_text(data, column, first):
            if streamed:
                start = _start(name, rows, first, reading)
                return _documents.streamed(_documents.Column(data, reading), name, reading, start)
            marks = _marks(data, rows, name, reading)
            return _documents.of_rows(_values(data, column), name, reading, column, marks)
        choices.expect(OF_SAMPLES, f"a column of a {name} that holds no texts ('{column}')")
        return _rows(data, rows, column, name, reading, first)

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

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        return {name: rows[key] for name, rows in self.columns.items()}


def _column(data: Any, columns: list[str], name: str, reading: Reading) -> str:
    """The column of the model's input.

    Raises: DataError where none or several can be meant.
    """
    chosen, what = reading.choices.column, f"a {name}"
    if chosen is not None:
        return _keys.expect_key(chosen, columns, what, "column")
    of_features = [each for each in _of_features(data, reading.reads) if each in columns]
    if len(of_features) == 1 and not set(columns) & {*_keys.IMAGES, *_keys.IDS, *_keys.TEXTS}:
        return of_features[0]
    try:
        return _keys.input_key(dict.fromkeys(columns), what, reading.choices, reading.reads)
    except DataError as error:
        if reading.reads != "text" or not error.what.startswith("which part"):
            raise
        raise DataError(
            f"a {name} has no column '{COLUMN}'",
            f"its columns are {', '.join(columns) or 'not known'}",
            "Choose one with wp.data(..., column=...)",
        ) from error


def _of_features(data: Any, reads: str | None) -> list[str]:
    """The columns of images, or of texts, as the features of a dataset say them."""
    features = getattr(data, "features", None)
    if not isinstance(features, Mapping) or reads is None:
        return []
    if reads == "images":
        return [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    return [name for name, kind in features.items() if getattr(kind, "dtype", "") in _STRINGS]


def _is_text(data: Any, column: str, first: list[Any]) -> bool:
    row = first[0] if first and isinstance(first[0], Mapping) else {}
    if row.get(column) is not None:
        return isinstance(row[column], str)
    features = getattr(data, "features", None)
    kind = features.get(column) if isinstance(features, Mapping) else None
    if type(kind).__name__ == "Value":
        return kind.dtype in _STRINGS  # type: ignore[union-attr]
    return column in row or column in _keys.TEXTS


def _values(data: Any, column: str) -> Iterable[Any]:
    """A column of all rows: one that a transform makes is to be had of the rows alone."""
    own = getattr(data, "format", None)
    transformed = isinstance(own, Mapping) and own.get("type") == "custom"
    return (data[n][column] for n in range(len(data))) if transformed else data[column]


def _rows(
    data: Any, columns: list[str], column: str, name: str, reading: Reading, first: list[Any]
) -> Opened:
    """Rows as samples: those of a stream in their order, others by their numbers."""
    if not isinstance(data, Sized):
        start = _start(name, columns, first, reading)
        return Opened(
            data,
            name,
            numbered=False,
            count=None if first else 0,
            labelled=start.label is not None,
            why=start.why,
            single=True,
            choices=reading.choices,
        )
    label = _label(columns, name, reading)
    features = getattr(data, "features", None)
    kind = features.get(label) if isinstance(features, Mapping) else None
    row = first[0] if first and isinstance(first[0], Mapping) else {}
    found: Any = data
    if label is not None and (
        isinstance(row.get(label), str)
        or (row.get(label) is None and getattr(kind, "dtype", "") in _STRINGS)
    ):
        found = _Named(data, label)
    known = getattr(data, "_fingerprint", "")
    return Opened(found, name, f"{len(data)}-{column}-{known}", choices=reading.choices)


def _start(name: str, columns: list[str], first: list[Any], reading: Reading) -> Parts:
    """The parts of a stream's first row, if it has one.

    Raises: DataError for a chosen class that is a text.
    """
    why = _text_class(name, columns, first, reading)
    if why and reading.choices.label is not None:
        fix = "Number its classes so, or leave label out"
        raise DataError(f"'{reading.choices.label}' of a {name} is no class", why, fix)
    if not first:
        return Parts(None)
    found = reading.parts(first[0], 1, f"the first row of a {name}")
    return replace(found, why=why or found.why)


def _marks(data: Any, columns: list[str], name: str, reading: Reading) -> _documents.Marks:
    """The classes of rows of texts, those that are texts by their numbers; none of joined texts.

    Raises: DataError for a chosen class that is none.
    """
    of_text = {reading.choices.column or "": None} | dict.fromkeys(columns)
    label, why = _keys.label_key(of_text, f"a {name}", reading.choices)
    if label is None or reading.choices.windows == "packed":
        return _documents.Marks(why=why or label or "")
    values = [each.as_py() if hasattr(each, "as_py") else each for each in _values(data, label)]
    numbers = _numbers(values)
    values = [numbers[each] if isinstance(each, str) else each for each in values]
    labels = [class_in(each, f"row {number} of a {name}") for number, each in enumerate(values)]
    pairs = zip(labels, values, strict=True)
    odd = next((v for c, v in pairs if c is None and v is not None), None)
    if odd is None:
        return _documents.Marks(labels)
    if reading.choices.label is not None:
        what = f"'{label}' of a {name} is no class"
        raise DataError(what, no_class(odd), "Choose another label")
    return _documents.Marks(labels, no_class(odd))


def _numbers(values: Iterable[Any]) -> dict[str, int]:
    """The texts among classes -> their numbers, in their sorted order."""
    texts = {each for each in values if isinstance(each, str)}
    return {text: n for n, text in enumerate(sorted(texts))}


def _label(columns: list[str], name: str, reading: Reading) -> str | None:
    of_text = {reading.choices.column or "": None} | dict.fromkeys(columns)
    return _keys.label_key(of_text, f"a {name}", reading.choices)[0]


def _text_class(name: str, columns: list[str], first: list[Any], reading: Reading) -> str:
    """What is to be done of a stream whose classes are texts; "" of any other.

    Texts are numbered in their sorted order, which shows when all are read.
    """
    label = _label(columns, name, reading)
    row = first[0] if first and isinstance(first[0], Mapping) else {}
    if label is None or not isinstance(row.get(label), str):
        return ""
    return (
        f"its class is a text ('{row[label][:40]}'), and a stream does not say which there are: "
        f"data.cast_column('{label}', datasets.ClassLabel(names=[...])) does, or read it whole"
    )


class _Named:
    """Rows whose classes are texts, as the numbers of these in their sorted order."""

    def __init__(self, data: Any, label: str) -> None:
        self.data, self.label = data, label
        self.numbers = _numbers(_values(data, label))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> Any:
        row = dict(self.data[number])
        if isinstance(row[self.label], str):
            row[self.label] = self.numbers[row[self.label]]
        return row
