"""What measures over classes share: the samples of each class, and whether they suffice.

A label below 0 stands for no class, as torch's ignore index (-100) and the -1 of data sets that are
labelled in part: its sample is left out of what compares classes, and counted.
"""

from typing import Any

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_shape
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics._arguments import whole_numbers
from whitebox_probe.metrics.sums import Sums

_APART = 4.0  # two features that are each off by a floor differ by twice as much, squared
_LEFT_OUT = "labels below 0"


def labelled(X: Tensor, labels: Any) -> Tensor:
    """A class for each of the features X, (N, d): whole numbers, (N,), int64.

    Raises: ShapeError.
    """
    expect_shape(X, "N d", name="X")
    return whole_numbers(labels, len(X), name="labels").to(X.device)


def rounding_of(X: Tensor) -> Tensor:
    """The norm up to which a difference from a feature is its rounding: (N, d) -> (N,)."""
    return _linalg.rounding(X) * _linalg.token_norms(X)


def classes_of(sums: Sums, labels: Tensor, X: Tensor, floor: Tensor) -> dict[int, Tensor]:
    """Count the samples of each class, and add how far they are apart.

    Args: floor: the norm up to which a difference of a feature is rounding.
    Shapes: labels (B,), X (B, d), floor (B,) -> class -> which samples are of it, (B,) of bool.
    """
    labels = whole_numbers(labels, len(X), name="labels").to(X.device)
    rows = {c: labels == c for c in labels.unique().tolist()}
    for c, mine in rows.items():
        count = mine.sum().double()
        if c < 0:
            sums.total(_LEFT_OUT, count)
            continue
        sums.total(f"count_{c}", count.cpu())
        features = _linalg.upcast(X[mine])
        if f"first_{c}" not in sums:
            sums.rows(f"first_{c}", features[:1])
        first = sums[f"first_{c}"][:1].to(features.device)
        sums.total(f"apart_{c}", (features - first).square().sum())
        sums.total(f"floor_{c}", _linalg.upcast(floor[mine]).square().sum())
    return {c: mine for c, mine in rows.items() if c >= 0}


def counts_of(sums: Sums) -> Tensor:
    """Samples of each class so far, (C,), in the order of `sums.names("count_")`."""
    counts = [sums[f"count_{c}"].cpu() for c in sums.names("count_")]
    return torch.stack(counts) if counts else torch.zeros(0, dtype=torch.float64)


def lacking(sums: Sums) -> str:
    """Why classes cannot be compared; empty where they can.

    One sample has no spread, nor have several that are the same one, as far as rounding tells: such
    a class would count as collapsed.
    """
    counts = counts_of(sums)
    if len(counts) < 2:
        return "there is one class" if len(counts) else "no sample has a class"
    alone = int((counts < 2).sum())
    if alone:
        return f"{alone} of {len(counts)} classes have one sample"
    same = sum(_is_one(sums, c) for c in sums.names("count_"))
    told = "samples differ by no more than rounding: they are one, several times"
    return f"in {same} of {len(counts)} classes {told}" if same else ""


def _is_one(sums: Sums, c: str) -> bool:
    """Whether all samples of a class are the same one; each process has a first one of its own."""
    first = sums[f"first_{c}"].cpu()
    between = (first - first[:1]).square().sum()
    apart, floor = sums[f"apart_{c}"].cpu(), sums[f"floor_{c}"].cpu()
    return bool(apart + between <= _APART * floor)


def in_words(sums: Sums) -> str:
    """The classes and their sizes, and how many samples have none."""
    counts = counts_of(sums)
    left_out = int(sums[_LEFT_OUT]) if _LEFT_OUT in sums else 0
    without = f"; {left_out} samples of no class (labels below 0) left out" if left_out else ""
    if not len(counts):
        return f"no class{without}"
    low, high = int(counts.min()), int(counts.max())
    sizes = f"{low}" if low == high else f"{low} to {high}"
    classes = "1 class" if len(counts) == 1 else f"{len(counts)} classes"
    return f"{classes} of {sizes} samples{without}"


def notes(sums: Sums, why: str) -> str:
    """What a row says: how many classes of how many samples, and why it is NaN, if it is."""
    return f"{in_words(sums)}; none, as {why}" if why else in_words(sums)
