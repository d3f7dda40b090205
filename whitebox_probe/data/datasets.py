"""A torch Dataset, or anything else that has a length and gives samples by their numbers."""

from collections.abc import Iterator, Mapping, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, TensorDataset

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _digest, _documents, _keys
from whitebox_probe.data._parts import Parts
from whitebox_probe.data._reading import Reading, expect_plain, knowing_white
from whitebox_probe.data._sample import length_of, read
from whitebox_probe.data.choices import OF_SAMPLES, OF_TEXTS, Choices
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader


class Datasets(Kind):
    """A map-style Dataset, or a list of samples: tensors, arrays, PIL images, paths, texts.

    The fingerprint is the length and a hash of the first input: all that is known before the pass,
    as reading the rest might take hours. What was read is known by the samples themselves.
    """

    name = "dataset"
    words = "a torch Dataset, or a list of samples"
    general = True
    options = OF_SAMPLES | OF_TEXTS

    def takes(self, data: Any) -> bool:
        """Whether it has a length and items by number."""
        sized = isinstance(data, Sized) and hasattr(data, "__getitem__")
        return sized and not isinstance(data, str | bytes | Mapping | IterableDataset)

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The data set as it is."""
        return self.open_as(data, transform, Choices())

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """The data set as it is; of texts, their windows."""
        name = str(getattr(data, "called", type(data).__name__))
        data = _keys.by_rows(data)
        reading = Reading(transform, choices)
        count = length_of(data, name)
        first = _first(data, name, reading, count)
        if isinstance(first, str) and reading.reads == "text":
            parts = list(_texts(data, name, reading, count))
            marks = _documents.Marks([p.label for p in parts], next((p.why for p in parts), ""))
            return _documents.of_rows([p.inputs for p in parts], name, reading, marks=marks)
        known = _known(first, name)
        choices.expect(OF_SAMPLES, f"a {name} whose samples are no texts")
        inputs = data.tensors[0] if isinstance(data, TensorDataset) else data
        return Opened(data, name, f"{count}-{known}", choices=knowing_white(choices, inputs))

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Six inputs of four numbers, of three classes."""
        inputs, classes = torch.arange(24.0).view(6, 4), torch.arange(6) % 3
        broken = inputs.clone()
        broken[3, 1] = torch.inf
        return {
            "plain": TensorDataset(inputs, classes),
            "other": TensorDataset(inputs + 1, classes),
            "empty": TensorDataset(inputs[:0], classes[:0]),
            "not finite": TensorDataset(broken, classes),
            "wrong type": [("a text", 0)] * 6,
        }


def _first(data: Any, name: str, reading: Reading, count: int) -> Any:
    """The first input, of texts the first that is there; None for one that cannot be read."""
    with suppress(DataError):  # told with its number when the pass reads it
        for number in range(count):
            what = f"sample {number} of {name}"
            whole = read(data, number, what)
            found = None if whole is None else reading.parts(whole, 1, what).inputs
            if found is not None or reading.reads != "text":
                return found
    return None


def _known(first: Any, name: str) -> str:
    """What is known of a data set by its first input; "" of one that the pass will refuse."""
    try:
        expect_plain(first, name)
    except DataError:
        return ""
    if isinstance(first, Image.Image):
        try:
            return _digest.of_array(*_digest.pixels(first))
        except Exception:  # whatever a decoder raises, of one that is closed or cut off
            return ""
    if isinstance(first, np.ndarray) and first.dtype.kind in "biuf":
        return _digest.of_array(first)
    return _digest.of_tensor(first) if isinstance(first, Tensor) else ""


def _texts(data: Any, name: str, reading: Reading, count: int) -> Iterator[Parts]:
    for number in range(count):
        what = f"sample {number} of {name}"
        whole = read(data, number, what)
        yield Parts(None) if whole is None else reading.parts(whole, 1, what)
