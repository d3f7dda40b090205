"""How a curve goes with depth: its trend, with its interval, and its values at other depths."""

from dataclasses import dataclass

import numpy as np

from whitebox_probe.stats.intervals import LEVEL, Array, mean_interval, resampled_deviations
from whitebox_probe.stats.significance import doubled_ranks, holm, paired_ps, permutation_p


def interpolate(depth: Array, values: Array, grid: Array) -> Array:
    """Values (N, L) at depths (L,) -> (N, G) at the grid's depths, linearly, flat at the ends."""
    at = np.interp(grid, depth, np.arange(len(depth)))
    low = np.floor(at).astype(int).clip(max=len(depth) - 1)
    high = (low + 1).clip(max=len(depth) - 1)
    share = at - low
    return values[:, low] * (1 - share) + values[:, high] * share


def spearman(curve: Array) -> float:
    """Spearman's rank correlation of a curve with depth; 0 of a flat one, NaN of NaN.

    Shapes: curve (L,), L > 1.
    References: Spearman 1904; ties have their mean rank.
    """
    return float(_rhos(np.asarray(curve)[None])[0])


@dataclass(frozen=True)
class Trend:
    """How a measure goes with depth.

    Attributes:
        rho: Spearman's rank correlation of the mean curve with the layer, with its 95% interval.
            The interval is of samples: where rho of other samples would be. That the layers are
            many enough for rho to mean anything is what `p` tests.
        p: of rho, two-sided, over the layers (`permutation_p`).
        change: last layer minus first, with its 95% interval over samples.
        falling: share of steps from a layer to the next that fall, by a paired t-test over samples
            at 5%, corrected by Holm over the steps: a flat curve has any at most once in twenty.
        rising: the same, of steps that rise.
    """

    rho: float
    rho_low: float
    rho_high: float
    change: float
    change_low: float
    change_high: float
    falling: float
    rising: float
    p: float


def trend(values: Array, *, seed: int = 0) -> Trend:
    """Trend of per-sample values over depth; samples are resampled whole.

    Shapes: values (N, L), one column a layer in order, with L > 1.
    Raises: ValueError for fewer than two layers or samples.
    References: Spearman 1904; Efron and Tibshirani 1993, chapter 13; Holm 1979.
    """
    count, layers = values.shape
    if layers < 2 or count < 2:
        raise ValueError(f"a trend needs two layers and two samples, not {values.shape}")
    curve = values.mean(axis=0)
    tail = [(1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2]
    rho_low, rho_high = np.quantile(_rhos(curve + resampled_deviations(values, seed)), tail)
    change_low, change_high = mean_interval(values[:, -1:] - values[:, :1], seed=seed)
    steps = np.diff(values, axis=1)
    significant = holm(paired_ps(steps)) <= 1 - LEVEL
    return Trend(
        rho=spearman(curve),
        rho_low=float(rho_low),
        rho_high=float(rho_high),
        change=float(curve[-1] - curve[0]),
        change_low=float(change_low[0]),
        change_high=float(change_high[0]),
        falling=float((significant & (steps.mean(axis=0) < 0)).mean()),
        rising=float((significant & (steps.mean(axis=0) > 0)).mean()),
        p=permutation_p(curve),
    )


def _rhos(curves: Array) -> Array:
    """Spearman's rho of each curve with depth, (R, L) -> (R,); 0 of a flat one, NaN of NaN."""
    layers = curves.shape[1]
    ranks = doubled_ranks(curves) - (layers + 1)
    depth = 2 * np.arange(layers) - (layers - 1)
    scale = np.sqrt(((ranks**2).sum(axis=1) * (depth**2).sum()).astype(np.float64))
    # A flat resample has no rank order: it counts as no correlation.
    rhos = np.divide(ranks @ depth, scale, out=np.zeros(len(curves)), where=scale > 0)
    return np.where(np.isnan(curves).any(axis=1), np.nan, rhos)
