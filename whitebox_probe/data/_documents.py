"""Texts as the windows that a language model reads: packed together, or one a document."""

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pandas as pd
import torch
from torch.utils.data import Dataset

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _prepared
from whitebox_probe.data._left_out import LeftOutWarning
from whitebox_probe.data._parts import Parts
from whitebox_probe.data._reading import Reading
from whitebox_probe.data.choices import OF_TEXTS, Choices
from whitebox_probe.data.kind import Opened
from whitebox_probe.data.text import TextReader, open_tokenizer

NULL = "without a text (null)"
EMPTY = "without a token that is text"
LINE = "\n"
_AT_ONCE = 1000
"""Texts of a stream that are joined before they are made tokens."""


@dataclass(frozen=True)
class Marks:
    """The classes of texts, if they have some.

    Attributes: labels: one a text, or none at all. why: what stands in their place.
    """

    labels: Sequence[int | None] = ()
    why: str = ""

    def __bool__(self) -> bool:
        """Whether classes were given, or what is none."""
        return bool(self.why) or any(label is not None for label in self.labels)

    def of(self, kept: Sequence[int]) -> "Marks":
        """Those of some of the texts."""
        return replace(self, labels=[self.labels[n] for n in kept]) if self.labels else self


def joined(
    texts: Sequence[str],
    name: str,
    reading: Reading,
    marks: Marks = Marks(),
) -> Opened:
    """Windows of texts by the model's own tokenizer, as the user chose them.

    Args: marks: of the texts, which are those of their windows where each is one.
    Raises: DataError where the model reads no text, or there is none.
    """
    choices, transform = reading.choices, reading.transform
    _expect_heeded(choices, name)
    if choices.windows == "packed":
        between = LINE if choices.separator is None else choices.separator
        opened = _prepared.text_windows(between.join(texts), name, transform)
        return replace(opened, why=_prepared.JOINED if marks else opened.why)
    windows = DocumentWindows(texts, _prepared.for_text(transform, name), marks.labels)
    if not len(windows):
        raise DataError(f"{name} holds no text", "all its documents are empty", "Pass texts")
    opened = Opened(windows, name, windows.fingerprint, choices=Choices(), why=marks.why)
    if not windows.left_out:
        return opened
    left_out = windows.left_out
    what = f"{len(left_out)} of {len(texts)} documents of {name} are left out"
    fix = f"The {len(windows)} others are measured"
    warnings.warn(
        LeftOutWarning(what, f"they are {EMPTY}; the first one is {left_out[0]}", fix), stacklevel=2
    )
    return replace(opened, left_out={EMPTY: left_out})


def _expect_heeded(choices: Choices, name: str) -> None:
    """Refuse what is said of texts in vain: those that are joined keep no classes.

    Raises: SettingError.
    """
    if choices.windows == "packed":
        choices.expect(OF_TEXTS, f"the texts of {name}, which are joined")
    else:
        choices.expect(OF_TEXTS | {"label"}, f"the texts of {name}")


def parted(texts: Sequence[str], separator: str, name: str) -> list[str]:
    """The documents of texts, divided at a separator; line ends of any system are line ends.

    Raises: DataError where the separator is in none of them: each would be cut off as one document.
    """
    plain = [text.replace("\r\n", "\n") for text in texts]
    given, separator = separator, separator.replace("\r\n", "\n")
    if not any(separator in text for text in plain):
        raise DataError(
            f"the separator {given!r} is nowhere in {name}",
            "all of a text would be one document, of which one window is measured",
            "Name what stands between its documents, or use windows='packed'",
        )
    return [part for text in plain for part in text.split(separator)]


class DocumentWindows(Dataset[Parts]):
    """One window of n tokens a document, cut off or padded to the right, with its class.

    Args: labels: one a text, or none at all.
    Attributes: left_out: the names of documents without a token that is text, such as empty ones.
    """

    def __init__(
        self, texts: Sequence[str], reader: TextReader, labels: Sequence[int | None] = ()
    ) -> None:
        framed = _Framed(reader)
        classes = labels or [None] * len(texts)
        made = [framed.document(text, label) for text, label in zip(texts, classes, strict=True)]
        self.left_out = [f"document {n}" for n, each in enumerate(made) if each is None]
        self.windows = [each for each in made if each is not None]
        digest = hashlib.sha256(str(reader.length).encode())
        for each in self.windows:
            for part in (each.inputs, each.mask):
                digest.update(part.numpy().tobytes())  # type: ignore[union-attr]
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        """Number of documents that hold text."""
        return len(self.windows)

    def __getitem__(self, index: int) -> Parts:
        """A window, which of its tokens are measured, and which are no padding."""
        return self.windows[index]


class _Framed:
    """Windows of a model's tokens, each framed by its special ones."""

    def __init__(self, reader: TextReader) -> None:
        self.tokenizer = open_tokenizer(reader.tokenizer)
        self.length = reader.length
        frame = len(self.tokenizer.before) + len(self.tokenizer.after)
        self.room = reader.length - frame
        self.special = torch.tensor(sorted(self.tokenizer.special), dtype=torch.int64)
        if self.room < 1:
            raise DataError(
                f"a window of {reader.length} tokens has no room for text",
                f"{frame} of them are special tokens",
                "Use longer windows",
            )

    def window(self, ids: Sequence[int]) -> Parts:
        """The window of at most `room` ids."""
        whole = [*self.tokenizer.before, *ids[: self.room], *self.tokenizer.after]
        padding = [self.tokenizer.pad] * (self.length - len(whole))
        window = torch.tensor(whole + padding, dtype=torch.int64)
        attended = torch.arange(self.length) < len(whole)
        mask = attended & ~torch.isin(window, self.special)
        return Parts(window, mask=mask, attended=attended)

    def document(self, text: str, label: int | None = None) -> Parts | None:
        """The window of a document, with its class; None where none of its tokens is text."""
        found = self.window(self.tokenizer.encode(text))
        is_text = found.mask is not None and bool(found.mask.any())
        return replace(found, label=label) if is_text else None


def streamed(rows: Iterable[Parts], name: str, reading: Reading, first: Parts) -> Opened:
    """Windows of a stream of texts, in their order; a limit takes the first ones.

    Args: first: of the rows, which tells whether they have classes.

    Texts are joined and made tokens a thousand at a time; what does not fill a window stays for the
    next thousand, and is left out at the end.
    """
    _expect_heeded(reading.choices, name)
    packed = reading.choices.windows == "packed"
    has_classes = bool(Marks([first.label], first.why))
    reader = _prepared.for_text(reading.transform, name)
    windows = _Windows(rows, name, reader, reading)
    return Opened(
        windows,
        name,
        numbered=False,
        single=True,
        labelled=not packed and first.label is not None,
        why=_prepared.JOINED if packed and has_classes else first.why,
        choices=Choices(),
        left_out=windows.left_out,
        tell=windows.tell,
    )


class _Windows:
    """Windows of texts, made while they are read.

    Attributes: left_out: of the last reading so far: why a row gives no window -> which ones.
    """

    def __init__(
        self, rows: Iterable[Parts], name: str, reader: TextReader, reading: Reading
    ) -> None:
        self.rows, self.name, self.reader = rows, name, reader
        self.choices = reading.choices
        self.left_out: dict[str, list[str]] = {}

    def __iter__(self) -> Iterator[Parts]:
        self.left_out.clear()
        framed, texts = _Framed(self.reader), self._texts()
        if self.choices.windows == "documents":
            return self._documents(framed, texts)
        return self._packed(framed, (text for _, text, _ in texts))

    def tell(self) -> None:
        """Warn of the rows that give no window."""
        for why, rows in self.left_out.items():
            some, it_is = ("row", "it is") if len(rows) == 1 else ("rows", "they are")
            what = f"{len(rows)} {some} of a {self.name} {it_is.split()[1]} left out"
            first = f"{it_is} {why}; the first one is {rows[0]}"
            warnings.warn(LeftOutWarning(what, first, "The others are measured"), stacklevel=2)

    def _texts(self) -> Iterator[tuple[int, str, int | None]]:
        number = -1
        for number, row in enumerate(self.rows):
            text = text_of(row.inputs, number, self.name, self.choices.column)
            if text is not None:
                yield number, text, row.label
            else:
                self._leave_out(number, NULL)
        nulls = self.left_out.get(NULL, ())
        if nulls and len(nulls) == number + 1:
            raise DataError(
                f"a {self.name} holds no text", f"all its {len(nulls)} rows are null", "Pass texts"
            )

    def _leave_out(self, number: int, why: str) -> None:
        self.left_out.setdefault(why, []).append(f"row {number}")

    def _documents(
        self, framed: _Framed, texts: Iterator[tuple[int, str, int | None]]
    ) -> Iterator[Parts]:
        read = 0
        for number, text, label in texts:
            window = framed.document(text, label)
            if window is None:
                self._leave_out(number, EMPTY)
            else:
                read += 1
                yield window
        if self.left_out and not read:
            raise DataError(
                f"a {self.name} holds no text", "all its documents are empty", "Pass texts"
            )

    def _packed(self, framed: _Framed, texts: Iterator[str]) -> Iterator[Parts]:
        between = LINE if self.choices.separator is None else self.choices.separator
        ids, start = list[int](), ""
        while block := list(islice(texts, _AT_ONCE)):
            ids += framed.tokenizer.encode(start + between.join(block))
            start = between
            while len(ids) >= framed.room:
                yield framed.window(ids[: framed.room])
                del ids[: framed.room]


class Column:
    """The texts of a stream whose samples hold more than them, with their classes."""

    def __init__(self, stream: Iterable[Any], reading: Reading) -> None:
        self.stream, self.reading = stream, reading

    def __iter__(self) -> Iterator[Parts]:
        """One after the other."""
        for number, whole in enumerate(self.stream):
            yield self.reading.parts(whole, 1, f"sample {number} of the stream")


def text_of(row: Any, number: int, name: str, column: str | None = None) -> str | None:
    """The text of a row; None for one without (null).

    Raises: DataError where the row holds something else.
    """
    text = row.as_py() if hasattr(row, "as_py") else row  # Arrow's own format
    if isinstance(text, str):
        return text
    if pd.api.types.is_scalar(text) and pd.isna(text):
        return None
    where = f"its column '{column}'" if column else "it"
    raise DataError(
        f"row {number} of a {name} is a {type(text).__name__}",
        f"{where} is to hold texts",
        "Make a text of it, such as with data.map",
    )


def of_rows(
    rows: Iterable[Any],
    name: str,
    reading: Reading,
    column: str | None = None,
    marks: Marks = Marks(),
) -> Opened:
    """Windows of rows, some of which may hold no text (null): they are left out, and counted.

    Args: marks: of the rows.
    Raises: DataError where none holds one.
    """
    found = [text_of(row, number, name, column) for number, row in enumerate(rows)]
    texts = [text for text in found if text is not None]
    nulls = [number for number, text in enumerate(found) if text is None]
    of = f"its column '{column}'" if column else "it"
    if nulls and not texts:
        raise DataError(
            f"a {name} holds no text", f"all {len(nulls)} rows of {of} are null", "Pass texts"
        )
    kept = [number for number, text in enumerate(found) if text is not None]
    opened = joined(texts, name, reading, marks.of(kept))
    if not nulls:
        return opened
    what = f"{len(nulls)} of {len(found)} rows of a {name} are left out"
    why = f"they are null in {of}; the first one is row {nulls[0]}"
    warnings.warn(LeftOutWarning(what, why, "The others are measured"), stacklevel=2)
    rest = dict(opened.left_out)
    return replace(opened, left_out=rest | {NULL: [f"row {number}" for number in nulls]})
