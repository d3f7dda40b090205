"""Position embeddings of a grid of patches at another resolution, by the rule of each release."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from whitebox_probe._core.errors import CheckpointError, nearest

OFFSET = 0.1  # what DINO's code, and CRATE's and DINOv2's after it, add to the new sides
RULES: dict[str, dict[str, Any]] = {
    "default": {},
    "crate": {"offset": OFFSET},
    "dinov2": {"offset": OFFSET},
    "timm": {"antialias": True},
}
"""The rules by name; all are bicubic, with corners not aligned.

`default` asks for the new size. `crate` and `dinov2` give scale factors of (new + 0.1) / old, which
samples at slightly shifted places: DINO's code did so against rounding, and both releases kept it.
`timm` asks for the size and antialiases, and so does DINOv2 with registers.
"""


def rule(named: Any) -> str | None:
    """The rule that `interpolate_positions=` names; True is the default, False none.

    Raises: CheckpointError with the nearest name.
    """
    if named is None or isinstance(named, bool):
        return "default" if named else None
    if named not in RULES:
        raise CheckpointError(
            f"positions cannot be resampled by {named!r}",
            "no release is known by this name",
            nearest(str(named), RULES),
        )
    return str(named)


def resample(
    table: Tensor, *, old: tuple[int, int], new: tuple[int, int], prefix: int, by: str
) -> Tensor:
    """A position table for another grid; its first rows, of tokens without a place, are kept.

    Shapes: table (1, prefix + h*w, d), old = (h, w), new = (s, t) -> (1, prefix + s*t, d)
    """
    if old == new:
        return table
    grid = table[:, prefix:].unflatten(1, old).permute(0, 3, 1, 2).float()  # (1, d, h, w)
    offset, antialias = (RULES[by].get(key, 0) for key in ("offset", "antialias"))
    given: dict[str, Any] = {"size": new}
    if offset:
        factors = tuple((n + offset) / o for n, o in zip(new, old, strict=True))
        given = {"scale_factor": factors}
    grid = F.interpolate(
        grid, mode="bicubic", align_corners=False, antialias=bool(antialias), **given
    )
    if tuple(grid.shape[-2:]) != tuple(new):
        raise CheckpointError(
            f"positions of {old[0]} x {old[1]} patches cannot be resampled by the rule '{by}'",
            f"it gives {grid.shape[-2]} x {grid.shape[-1]} of them, and not {new[0]} x {new[1]}",
            "Use interpolate_positions=True",
        )
    rows = grid.to(table.dtype).flatten(2).mT  # (1, s*t, d)
    return torch.cat([table[:, :prefix], rows], dim=1)


def grid_of(rows: int, like: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """The square grid of so many patches, or the one with the shape of another; None if there is
    neither.

    >>> grid_of(49), grid_of(24, like=(4, 6)), grid_of(24)
    ((7, 7), (4, 6), None)
    """
    side = math.isqrt(max(rows, 0))
    if side and side * side == rows:
        return side, side
    if like is not None and rows > 0:
        high = math.isqrt(rows * like[0] // like[1])
        if high and rows % high == 0 and high * like[1] == rows // high * like[0]:
            return high, rows // high
    return None
