"""Sizes of effects, and curves at other depths."""

import numpy as np

from whitebox_probe.stats.intervals import Array


def effect_size(differences: Array) -> Array:
    """Cohen's d of paired samples: mean difference in units of its standard deviation.

    NaN where all differences are the same, and with one sample.

    Shapes: differences (N, C) -> (C,).
    References: Cohen 1988, "Statistical Power Analysis", section 2.3.5 (d_z).
    """
    if len(differences) < 2:
        return np.full(differences.shape[1], np.nan)
    std = differences.std(axis=0, ddof=1)
    return np.divide(differences.mean(axis=0), std, out=np.full_like(std, np.nan), where=std > 0)


def interpolate(depth: Array, values: Array, grid: Array) -> Array:
    """Values (N, L) at depths (L,) -> (N, G) at the grid's depths, linearly, flat at the ends."""
    at = np.interp(grid, depth, np.arange(len(depth)))
    low = np.floor(at).astype(int).clip(max=len(depth) - 1)
    high = (low + 1).clip(max=len(depth) - 1)
    share = at - low
    return values[:, low] * (1 - share) + values[:, high] * share
