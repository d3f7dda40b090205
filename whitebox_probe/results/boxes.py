"""Boxes about what heads look at, and about objects: top, left, bottom and right, the last two out.

A box is that of the connected patches which hold the most attention, as TokenCut takes that of the
connected patches about its seed; scipy finds what is connected.
"""

from typing import Any

import numpy as np


def about_the_heaviest(seen: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The box about the connected part of a map that holds the most weight; patches touch at edges.

    Shapes: seen, weights (..., rows, columns) -> (..., 4). No part at all: four zeros.
    References: Wang et al. 2022, arXiv:2202.11539 (TokenCut), section 3.2.
    """
    from scipy import ndimage

    flat = zip(
        seen.reshape(-1, *seen.shape[-2:]).astype(bool),
        weights.reshape(-1, *weights.shape[-2:]),
        strict=True,
    )
    found = []
    for grid, held in flat:
        parts, count = ndimage.label(grid)
        if not count:
            found.append((0, 0, 0, 0))
            continue
        heaviest = int(np.argmax(ndimage.sum_labels(held, parts, range(1, count + 1))))
        found.append(_corners(ndimage.find_objects(parts)[heaviest]))
    return np.asarray(found).reshape(*seen.shape[:-2], 4)


def about(masks: np.ndarray) -> np.ndarray:
    """The box about all that is true: (B, H, W) -> (B, 4)."""
    from scipy import ndimage

    parts = [ndimage.find_objects(mask.astype(int)) for mask in masks]
    return np.asarray([_corners(part[0]) if part else (0, 0, 0, 0) for part in parts])


def in_pixels(boxes: np.ndarray, grid: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """Boxes of patches as they lie in an image of that height and width: (..., 4)."""
    whole = np.array([*size, *size])
    pixels: np.ndarray = -(-boxes * whole // np.array([*grid, *grid]))
    return pixels


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes: (..., 4), (..., 4) -> (...)."""
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    both = (high - low).clip(min=0).prod(axis=-1)
    either = sum((b[..., 2:] - b[..., :2]).prod(axis=-1) for b in (first, second)) - both
    share: np.ndarray = both / np.maximum(either, 1)
    return share


def _corners(part: Any) -> tuple[int, int, int, int]:
    down, across = part
    return down.start, across.start, down.stop, across.stop
