"""The numbers of what stands beside an input, as a plain tensor or as one line of an error."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from whitebox_probe._core.arrays import native
from whitebox_probe._core.errors import DataError
from whitebox_probe._core.gate import named

_UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
"""Of which torch compares not all with other types."""


def numbers(value: Any, what: str) -> Tensor:
    """A tensor, an array or lists of one length, with numbers that can be compared.

    Fractions of few bits are given as float32, which holds each, and whole numbers without a sign
    as int64, of which those that it does not hold are below 0.

    Raises: DataError for texts, rows of several lengths, and tensors without numbers or of no plain
        layout.
    """
    try:
        if not isinstance(value, Tensor):
            array = np.asarray(value)
            array = np.array(array.tolist()) if array.dtype == object else array
            array = array.astype(np.float64) if array.dtype == np.longdouble else array
            value = torch.as_tensor(native(array).copy())  # written backwards, or read-only
        if value.is_nested or value.is_quantized or value.layout is not torch.strided:
            raise TypeError("its numbers are not kept one by one")
        value = value.detach()
        few = value.is_floating_point() and value.itemsize < 4
        value = value.float() if few else value
        value = value.long() if value.dtype in _UNSIGNED else value
        bool((value == 0).any())  # of meta and of bits there is nothing to compare
    except Exception as error:  # whatever an array of a user's own raises
        raise DataError(
            f"{what} cannot be read", named(error), "Give plain numbers, as .cpu() gives them"
        ) from error
    return value
