"""How a curve goes with depth: its trend, with its interval, and its values at other depths."""

from dataclasses import dataclass

import numpy as np

from whitebox_probe.stats.intervals import LEVEL, Array, resampled_deviations


def interpolate(depth: Array, values: Array, grid: Array) -> Array:
    """Values (N, L) at depths (L,) -> (N, G) at the grid's depths, linearly, flat at the ends."""
    at = np.interp(grid, depth, np.arange(len(depth)))
    low = np.floor(at).astype(int).clip(max=len(depth) - 1)
    high = (low + 1).clip(max=len(depth) - 1)
    share = at - low
    return values[:, low] * (1 - share) + values[:, high] * share


@dataclass(frozen=True)
class Trend:
    """How a measure goes with depth.

    Attributes:
        rho: Spearman's rank correlation of the mean curve with the layer, with its 95% interval.
        change: last layer minus first, with its 95% interval.
        falling: share of steps from a layer to the next whose change is below 0 by its interval.
        rising: the same, above 0.
    """

    rho: float
    rho_low: float
    rho_high: float
    change: float
    change_low: float
    change_high: float
    falling: float
    rising: float


def trend(values: Array, *, seed: int = 0) -> Trend:
    """Trend of per-sample values over depth; samples are resampled whole.

    Shapes: values (N, L), one column a layer in order, with L > 1.
    Raises: ValueError for fewer than two layers or samples.
    References: Spearman 1904; Efron and Tibshirani 1993, chapter 13.
    """
    count, layers = values.shape
    if layers < 2 or count < 2:
        raise ValueError(f"a trend needs two layers and two samples, not {values.shape}")
    import scipy.stats  # half a second, which a probe need not wait for

    means = values.mean(axis=0) + resampled_deviations(values, seed)  # (resamples, L)
    rho = float(scipy.stats.spearmanr(np.arange(layers), values.mean(axis=0)).statistic)
    ranks = scipy.stats.rankdata(means, axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    order = np.arange(layers) - (layers - 1) / 2
    scale = np.sqrt((centred**2).sum(axis=1) * (order**2).sum())
    # A flat resample has no rank order: it counts as no correlation.
    rhos = np.divide(centred @ order, scale, out=np.zeros(len(means)), where=scale > 0)
    tail = [(1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2]
    rho_low, rho_high = np.quantile(rhos, tail)
    change_low, change_high = np.quantile(means[:, -1] - means[:, 0], tail)
    low, high = np.quantile(np.diff(means, axis=1), tail, axis=0)
    return Trend(
        rho=0.0 if np.isnan(rho) else rho,
        rho_low=float(rho_low),
        rho_high=float(rho_high),
        change=float(values[:, -1].mean() - values[:, 0].mean()),
        change_low=float(change_low),
        change_high=float(change_high),
        falling=float((high < 0).mean()),
        rising=float((low > 0).mean()),
    )
