"""What the tables of architectures share: their rows, and how two tensors are compared."""

from typing import NamedTuple

import torch


class Row(NamedTuple):
    """What was found: `outcome` is "loads" or why not; deviations are relative to the largest."""

    name: str
    outcome: str
    z_out: float | None = None
    attention: float | None = None


def apart(got: torch.Tensor, want: torch.Tensor) -> float:
    """By how much two tensors differ, relative to the largest value; infinite for other shapes."""
    if got.shape != want.shape:
        return float("inf")
    return float((got - want).abs().max() / want.abs().max())
