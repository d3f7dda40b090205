"""Anything that can be iterated: an IterableDataset, a generator, webdataset's own pipelines."""

from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe._core.gate import named
from whitebox_probe.data import _documents
from whitebox_probe.data._reading import Reading
from whitebox_probe.data._sample import length_if_any
from whitebox_probe.data.choices import OF_SAMPLES, OF_TEXTS, Choices
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.once import Once, once
from whitebox_probe.data.text import TextReader


class Streams(Kind):
    """Samples one after the other, without numbers: they are numbered as they come.

    A limit takes the first ones. This process reads them all: no worker of torch gives any twice.
    """

    name = "stream"
    words = "an IterableDataset or another iterable of samples"
    options = OF_SAMPLES | OF_TEXTS
    exempt = {"other": "what a stream gives is not known before the pass: no fingerprint"}

    def takes(self, data: Any) -> bool:
        """Whether it can be iterated, and does not give samples by their numbers."""
        if isinstance(data, Tensor | str | bytes | Path | Mapping | DataLoader):
            return False
        if hasattr(data, "column_names") or hasattr(type(data), "__array__"):
            return False
        by_number = isinstance(data, Sized) and hasattr(data, "__getitem__")
        if isinstance(data, IterableDataset | Once):
            return True
        return isinstance(data, Iterable) and not by_number

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The stream as it is."""
        return self.open_as(data, transform, Choices())

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """The stream; of texts, their windows."""
        data = once(data)
        name = data.name if isinstance(data, Once) else type(data).__name__
        first = start_of(data, name)
        if not first and isinstance(data, Once):
            raise DataError(
                f"a {name} gives no sample",
                "it is empty, or has been read: it can be read once",
                "Pass a list of what it gives",
            )
        if not first:
            return Opened(data, name, numbered=False, count=0, single=True)
        reading = Reading(transform, choices)
        single = reading.is_single(first[0], usual=True)
        what = f"the first {'sample' if single else 'batch'} of {name}"
        parts = reading.parts(first[0], 1 if single else 2, what)
        if reading.reads == "text" and isinstance(parts.inputs, str | None):
            rows = _documents.Column(data, reading)
            return _documents.streamed(rows, name, reading, parts)
        choices.expect(OF_SAMPLES, f"samples of a {name} that are no texts")
        return Opened(
            data,
            name,
            numbered=False,
            count=length_if_any(data, name) if single else None,
            labelled=parts.label is not None,
            why=parts.why,
            single=single,
        )

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Six inputs of four numbers, of three classes."""
        inputs, classes = torch.arange(24.0).view(6, 4), (torch.arange(6) % 3).tolist()
        broken = inputs.clone()
        broken[3, 1] = torch.nan
        return {
            "plain": _Pairs(inputs, classes),
            "empty": _Pairs(inputs[:0], []),
            "not finite": _Pairs(broken, classes),
            "wrong type": _Pairs([object()] * 6, classes),
        }


class _Pairs(IterableDataset[Any]):
    def __init__(self, inputs: Any, classes: list[int]) -> None:
        self.pairs = list(zip(inputs, classes, strict=True))

    def __iter__(self) -> Any:
        return iter(self.pairs)


def start_of(data: Any, name: str) -> list[Any]:
    """The first sample of a stream, in a list; an empty one of an empty stream.

    Raises: DataError for whatever the stream's own code raises.
    """
    try:
        if isinstance(data, Once):
            return data.first()
        return [each for each, _ in zip(data, range(1), strict=False)]
    except (ProbeError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"a {name} cannot be read", named(error, -1), "Mend its code") from error
