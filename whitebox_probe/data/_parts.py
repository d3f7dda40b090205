"""What a sample is: an input, alone or with its class, its mask or both, in either order.

A class is one whole number. A mask says which of n tokens are measured: n booleans, or 0 and 1 as
tokenizers give them. Any other row of numbers beside an input is refused: it would be a mask that
nobody heeds. So is whatever else stands in a tuple of three parts or more.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whitebox_probe._core.errors import DataError


@dataclass(frozen=True)
class Parts:
    """What a sample or a loader's batch consists of.

    Attributes: inputs: as they were given. label: a sample's class, or those of a batch (B,).
        mask: which tokens are measured, (n,) or (B, n).
    """

    inputs: Any
    label: Any = None
    mask: Tensor | None = None


def parts_of(whole: Any, axes: int, what: str) -> Parts:
    """The parts of a sample (axes 1) or of a loader's batch (axes 2).

    What stands beside an input in a pair and is no row of numbers, such as a caption, is left
    alone: it says nothing of tokens. In a longer tuple every part has to be understood.

    Raises: DataError for numbers that are neither a mask nor a class, and for a tuple of three
        parts or more that holds something else, or two of a kind.
    """
    if not isinstance(whole, tuple | list) or len(whole) == 0:
        return Parts(whole)
    inputs, *beside = whole
    labels, masks, others = [], [], []
    for part in beside:
        label = _class_in(part) if axes == 1 else _classes_in(part)
        mask = None if label is not None else _mask_in(part, inputs, axes, what)
        if label is not None:
            labels.append(label)
        elif mask is not None:
            masks.append(mask)
        elif part is not None:
            others.append(part)
    if len(beside) > 1 and (others or len(labels) > 1 or len(masks) > 1):
        kind = "two classes" if len(labels) > 1 else "two masks"
        raise DataError(
            f"{what} is a tuple of {len(whole)} parts that are not understood",
            f"beside its input it holds {f'a {type(others[0]).__name__}' if others else kind}, and "
            "a class and a mask of its tokens are all that is read",
            "Give (input, class, mask), or a part of it",
        )
    return Parts(inputs, labels[0] if labels else None, masks[0] if masks else None)


def class_of(whole: Any) -> int | None:
    """The class of a sample, if a whole number stands beside its input.

    Of what is not understood there is none: what puts a loader's batches together may mend it.
    """
    try:
        label: int | None = parts_of(whole, 1, "the sample").label
    except DataError:
        return None
    return label


def _class_in(part: Any) -> int | None:
    """A sample's class, if that is what a part of it is."""
    if isinstance(part, Tensor) and part.ndim == 0 and not part.is_floating_point():
        return int(part)
    is_whole = isinstance(part, int | np.integer) and not isinstance(part, bool)
    return int(part) if is_whole else None


def _classes_in(part: Any) -> Tensor | None:
    """A batch's classes (B,), if that is what a part of it is."""
    is_row = isinstance(part, Tensor) and part.ndim == 1 and not part.is_floating_point()
    return part if is_row else None


def _mask_in(part: Any, inputs: Any, axes: int, what: str) -> Tensor | None:
    """Which tokens are measured, if a part beside the inputs says so.

    Args: axes: 1 for a sample, whose mask is (n,); 2 for a batch, whose masks are (B, n).
    Raises: DataError for numbers that are neither a mask nor a class.
    """
    second = _as_tensor(part)
    # More axes beside an image are its segmentation, say; a text has nothing of that kind.
    reads_ids = isinstance(inputs, Tensor) and not inputs.is_floating_point()
    if second is None or second.ndim < axes or (second.ndim > axes and not reads_ids):
        return None
    if second.ndim == axes and second.dtype == torch.bool:
        return second
    is_whole = not (second.is_floating_point() or second.is_complex())
    is_mask = second.ndim == axes and second.shape[-1] > 1
    if is_mask and is_whole and bool(((second == 0) | (second == 1)).all()):
        return second.bool()
    raise DataError(
        f"{what} has {tuple(second.shape)} numbers of {str(second.dtype).removeprefix('torch.')} "
        "beside its input",
        "they are neither a mask (booleans, or whole numbers that are 0 or 1, one a token) nor a "
        "class (one whole number)",
        "Give the mask of the tokens that are measured, or the class, or the input alone",
    )


def _as_tensor(second: Any) -> Tensor | None:
    """A tensor, an array of numbers or a list of numbers, as a tensor; None for anything else."""
    if isinstance(second, Tensor):
        return second
    is_list = isinstance(second, tuple | list) and len(second) > 0
    if is_list and all(isinstance(each, int | float | np.number) for each in second):
        return torch.tensor(second)
    if isinstance(second, np.ndarray) and second.dtype.kind in "biuf":
        return torch.tensor(np.ascontiguousarray(second))
    return None
