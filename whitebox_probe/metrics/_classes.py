"""What measures over classes share: the samples of each class, and whether they suffice."""

import torch
from torch import Tensor

from whitebox_probe.metrics.sums import Sums


def count_classes(sums: Sums, labels: Tensor) -> None:
    """Add how many samples of each class a batch holds."""
    for c, count in zip(
        *(found.tolist() for found in labels.unique(return_counts=True)), strict=True
    ):
        sums.total(f"count_{c}", torch.tensor(float(count), dtype=torch.float64))


def counts_of(sums: Sums) -> Tensor:
    """Samples of each class so far, (C,), in the order of `sums.names("count_")`."""
    return torch.stack([sums[f"count_{c}"].cpu() for c in sums.names("count_")])


def lacking(counts: Tensor) -> str:
    """Why classes cannot be compared; empty where they can.

    One sample has no spread: a class of one would count as collapsed.
    """
    if len(counts) < 2:
        return "there is one class"
    alone = int((counts < 2).sum())
    return f"{alone} of {len(counts)} classes have one sample" if alone else ""


def in_words(counts: Tensor) -> str:
    """The classes and their sizes."""
    low, high = int(counts.min()), int(counts.max())
    sizes = f"{low}" if low == high else f"{low} to {high}"
    classes = "1 class" if len(counts) == 1 else f"{len(counts)} classes"
    return f"{classes} of {sizes} samples"


def notes(counts: Tensor, why: str) -> str:
    """What a row says: how many classes of how many samples, and why it is NaN, if it is."""
    return f"{in_words(counts)}; none, as {why}" if why else in_words(counts)
