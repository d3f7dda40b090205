"""What a sample is: an input, alone or in a pair with its class or its mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from whitebox_probe._core.errors import DataError, ProbeError


@dataclass(frozen=True)
class Batch:
    """Samples: numbers (B,), inputs (B, ...), classes (B,) if known, which tokens count (B, n)."""

    ids: Tensor
    inputs: Tensor
    labels: Tensor | None = None
    mask: Tensor | None = None


class Numbered(Dataset[Any]):
    """Samples with their numbers, checked one by one so that an error can name the sample.

    An error is a value here: torch hands those of its reading processes on as text in a
    RuntimeError. `collate` passes it on, and `raised` raises it.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        self.dataset = dataset
        self.name = name

    def __getitem__(self, number: int) -> tuple[int, Any] | ProbeError:
        """The number and the sample, or what is wrong with it."""
        try:
            whole = self.dataset[number]
            _check(_input_of(whole), f"sample {number} of {self.name}")
        except ProbeError as error:
            return error
        return number, whole


def collate(items: Sequence[tuple[int, Any] | ProbeError]) -> Batch | ProbeError:
    """Numbered samples -> a batch, with classes and masks where every sample has one."""
    wrong = [item for item in items if isinstance(item, ProbeError)]
    if wrong:
        return wrong[0]
    pairs = [item for item in items if not isinstance(item, ProbeError)]
    inputs = [_input_of(whole) for _, whole in pairs]
    for (number, _), each in zip(pairs, inputs, strict=True):
        if each.shape != inputs[0].shape:
            return DataError(
                f"samples {pairs[0][0]} and {number} cannot be put into one batch",
                f"their shapes are {tuple(inputs[0].shape)} and {tuple(each.shape)}",
                "Give all samples one shape, or use a batch size of 1",
            )
    classes = [class_of(whole) for _, whole in pairs]
    masks = [mask for _, whole in pairs if (mask := _mask_of(whole)) is not None]
    return Batch(
        ids=torch.tensor([number for number, _ in pairs]),
        inputs=torch.stack(inputs),
        labels=None if None in classes else torch.tensor(classes),
        mask=torch.stack(masks) if len(masks) == len(pairs) else None,
    )


def raised(batch: Batch | ProbeError) -> Batch:
    """The batch; what was wrong with one of its samples is raised."""
    if isinstance(batch, ProbeError):
        raise batch
    return batch


def batch_of(whole: Any, seen: int, room: int | None) -> Batch:
    """A loader's batch, numbered from `seen` and cut to the room that is left.

    Raises: DataError.
    """
    inputs = _input_of(whole)
    if not isinstance(inputs, Tensor) or inputs.ndim == 0:
        raise DataError(
            f"the loader's batch from sample {seen} on is a {type(inputs).__name__}",
            "the model takes tensors",
            "Let it give tensors (B, ...), or pairs of them and classes (B,) or masks (B, n)",
        )
    second = whole[1] if isinstance(whole, tuple | list) and len(whole) > 1 else None
    inputs = inputs[:room]
    labels = mask = None
    if isinstance(second, Tensor):
        if second.dtype == torch.bool and second.ndim == 2:
            mask = second[:room]
        elif second.ndim == 1 and not second.is_floating_point():
            labels = second[:room]
    if inputs.is_floating_point() and not inputs.isfinite().all():
        bad = (~inputs.flatten(1).isfinite().all(dim=1)).nonzero()[0, 0]
        _check(inputs[bad], f"sample {seen + int(bad)} of the loader")
    ids = torch.arange(seen, seen + len(inputs))
    return Batch(ids=ids, inputs=inputs, labels=labels, mask=mask)


def class_of(whole: Any) -> int | None:
    """The class of a sample, if it is a pair of an input and a whole number."""
    if not isinstance(whole, tuple | list) or len(whole) < 2:
        return None
    second = whole[1]
    if isinstance(second, Tensor) and second.ndim == 0 and not second.is_floating_point():
        return int(second)
    is_whole = isinstance(second, int | np.integer) and not isinstance(second, bool)
    return int(second) if is_whole else None


def _mask_of(whole: Any) -> Tensor | None:
    """Which tokens of a sample are measured, if it is a pair of an input and booleans."""
    second = whole[1] if isinstance(whole, tuple | list) and len(whole) > 1 else None
    if isinstance(second, Tensor) and second.dtype == torch.bool and second.ndim == 1:
        return second
    return None


def _input_of(whole: Any) -> Any:
    return whole[0] if isinstance(whole, tuple | list) and len(whole) > 0 else whole


def _check(item: Any, what: str) -> None:
    """Refuse an input that is no tensor of finite numbers.

    Raises: DataError.
    """
    if not isinstance(item, Tensor):
        raise DataError(
            f"{what} is a {type(item).__name__}",
            "the model takes tensors",
            "Give the Dataset a transform that makes a tensor",
        )
    if item.is_floating_point() and not item.isfinite().all():
        raise DataError(
            f"{what} holds NaN or infinity",
            "every measure of it would be meaningless",
            "Remove or repair that sample",
        )
