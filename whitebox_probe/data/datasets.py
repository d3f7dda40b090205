"""A torch Dataset, or anything else that has a length and gives samples by their numbers."""

from collections.abc import Mapping, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _digest
from whitebox_probe.data._sample import read
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader


class Datasets(Kind):
    """A map-style Dataset, or a list of samples.

    The fingerprint is the length and a hash of the first input: all that is known before the pass,
    as reading the rest might take hours. What was read is known by the samples themselves.
    """

    name = "dataset"
    words = "a torch Dataset"
    general = True

    def takes(self, data: Any) -> bool:
        """Whether it has a length and items by number."""
        sized = isinstance(data, Sized) and hasattr(data, "__getitem__")
        return sized and not isinstance(data, str | bytes | Mapping)

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The data set as it is."""
        known = ""
        if len(data) > 0:
            with suppress(DataError):  # told with its number when the pass reads it
                whole = read(data, 0, "its first sample")
                first = whole[0] if isinstance(whole, tuple | list) and len(whole) else whole
                known = _digest.of_tensor(first) if isinstance(first, Tensor) else ""
        return Opened(data, type(data).__name__, f"{len(data)}-{known}")

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
