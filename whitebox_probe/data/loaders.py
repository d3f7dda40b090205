"""A DataLoader, which hands out its own batches."""

from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, TensorDataset

from whitebox_probe.data._parts import class_of
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader


class Loaders(Kind):
    """A DataLoader of batches; samples are numbered in the order that they come."""

    name = "loader"
    words = "a DataLoader of batches"
    exempt = {"other": "what a loader gives is not known before the pass: no fingerprint"}

    def takes(self, data: Any) -> bool:
        """Whether it is a DataLoader."""
        return isinstance(data, DataLoader)

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The loader's batches; of a data set with a length, their number and classes too."""
        dataset = data.dataset
        sized = isinstance(dataset, Sized) and not isinstance(dataset, IterableDataset)
        count = _count(data)
        return Opened(
            data,
            f"DataLoader of {type(dataset).__name__}",
            numbered=False,
            count=count,
            labelled=sized and count != 0 and class_of(dataset[0]) is not None,
        )

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Six inputs of four numbers, of three classes, in batches of two."""
        inputs, classes = torch.arange(24.0).view(6, 4), torch.arange(6) % 3
        broken = inputs.clone()
        broken[3, 1] = torch.nan
        return {
            "plain": DataLoader(TensorDataset(inputs, classes), batch_size=2),
            "empty": DataLoader(TensorDataset(inputs[:0], classes[:0])),
            "not finite": DataLoader(TensorDataset(broken, classes), batch_size=2),
            "wrong type": DataLoader([{"input_ids": row} for row in inputs]),  # type: ignore[arg-type]
        }


def _count(loader: DataLoader[Any]) -> int | None:
    """How many samples it promises; None where its own way of drawing them does not say."""
    usual = type(loader.batch_sampler) is BatchSampler
    whole = loader.dataset if isinstance(loader.dataset, IterableDataset) else loader.sampler
    known = usual and not loader.drop_last and isinstance(whole, Sized)
    return len(whole) if known and isinstance(whole, Sized) else None
