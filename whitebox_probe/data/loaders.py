"""A DataLoader, which hands out its own batches."""

from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    TensorDataset,
    default_collate,
)

from whitebox_probe._core.errors import DataError
from whitebox_probe.data._reading import Reading
from whitebox_probe.data._sample import length_if_any, length_of, read
from whitebox_probe.data.choices import Choices
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader

DROPPED = "dropped by the loader, as they do not fill a batch (drop_last=True)"
AT_MOST = f"at most {DROPPED}"


class Loaders(Kind):
    """A DataLoader of batches; samples are numbered in the order that they come."""

    name = "loader"
    words = "a DataLoader of batches"
    exempt = {"other": "what a loader gives is not known before the pass: no fingerprint"}

    def takes(self, data: Any) -> bool:
        """Whether it is a DataLoader."""
        return isinstance(data, DataLoader)

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The loader's batches."""
        return self.open_as(data, transform, Choices())

    def open_as(
        self, data: Any, transform: Transform | TextReader | None, choices: Choices
    ) -> Opened:
        """The loader's batches; of a data set with a length, their number and classes too.

        A loader without a batch size (None) gives what its data set gives: samples, or batches.
        """
        dataset = data.dataset
        sized = isinstance(dataset, Sized) and not isinstance(dataset, IterableDataset)
        count, dropped = _count(data)
        if count == 0 and dropped:
            raise DataError(
                f"the DataLoader of {type(dataset).__name__} gives no batch",
                f"its {len(dropped)} samples do not fill one, and it has drop_last=True",
                "Use drop_last=False, or smaller batches",
            )
        whole = data.batch_sampler is None
        labelled, why = (True, "")
        if not whole and sized:
            labelled, why = _labelled(data, Reading(transform, choices))
        return Opened(
            data,
            f"DataLoader of {type(dataset).__name__}",
            numbered=False,
            count=None if whole and count else count,
            labelled=labelled,
            why=why,
            single=None if whole else False,
            left_out={DROPPED if count is not None else AT_MOST: dropped} if dropped else {},
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
            "wrong type": DataLoader([{"words": "a text"} for _ in inputs]),  # type: ignore[arg-type]
        }


def _labelled(loader: DataLoader[Any], reading: Reading) -> tuple[bool, str]:
    """Whether a class stands beside the first input, and what stands in its place.

    Of what is not understood there is none, unless the loader's own way of putting batches together
    may add one: that is seen when they come.
    """
    if loader.collate_fn is not default_collate:
        return True, ""
    try:
        dataset: Any = loader.dataset
        what = "the first sample"
        parts = reading.parts(read(dataset, 0, what), 1, what)
        return parts.label is not None, parts.why
    except DataError:
        return True, ""


def _count(loader: DataLoader[Any]) -> tuple[int | None, list[str]]:
    """How many samples it promises, and the names of those that it drops.

    None where its own way of drawing them does not say: there as many are named as it may drop.
    """
    drawn = loader.batch_sampler
    size = int(getattr(drawn, "batch_size", None) or 0)
    drops = size > 1 and bool(getattr(drawn, "drop_last", False))
    stream = isinstance(loader.dataset, IterableDataset)
    workers = max(loader.num_workers, 1) if stream else 1
    usual = type(drawn) is BatchSampler
    whole = loader.dataset if stream else getattr(drawn, "sampler", loader.sampler)
    name = f"the DataLoader of {type(loader.dataset).__name__}"
    count = None
    if usual and isinstance(whole, Sized) and not (drops and workers > 1):
        count = length_if_any(whole, name) if stream else length_of(whole, name)
    if count is not None:
        kept = count - (count % size if drops else 0)
        return kept, [f"number {n} in its order" for n in range(kept, count)]
    if not drops:
        return None, []
    return None, [f"of the last {size - 1} of each worker"] * (workers * (size - 1))
