"""How a measure goes with depth."""

from dataclasses import dataclass

import numpy as np

from whitebox_probe.stats.intervals import LEVEL, Array, resampled_deviations
from whitebox_probe.stats.significance import holm, paired_p, permutation_p, spearman


@dataclass(frozen=True)
class Trend:
    """How a measure goes with depth.

    Attributes:
        rho: Spearman's rank correlation of the mean curve with the layer. Its 95% interval is of
            samples: how far it moves when others are drawn, and not whether it is chance.
        p: the share of all orders of the layers with such a correlation, of either sign.
        change: last layer minus first, with its 95% interval over samples.
        falling: share of steps from a layer to the next that are below 0 by a paired t-test at 5%,
            corrected over the steps (Holm).
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
    p: float


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
    rho = spearman(values.mean(axis=0))
    ranks = scipy.stats.rankdata(means, axis=1)
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    order = np.arange(layers) - (layers - 1) / 2
    scale = np.sqrt((centred**2).sum(axis=1) * (order**2).sum())
    # A flat resample has no rank order: it counts as no correlation.
    rhos = np.divide(centred @ order, scale, out=np.zeros(len(means)), where=scale > 0)
    tail = [(1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2]
    rho_low, rho_high = np.quantile(rhos, tail)
    change_low, change_high = np.quantile(means[:, -1] - means[:, 0], tail)
    steps = np.diff(values, axis=1)
    sure = np.array(holm([paired_p(step) for step in steps.T])) <= 1 - LEVEL
    signs = np.sign(steps.mean(axis=0))
    return Trend(
        rho=rho,
        rho_low=float(rho_low),
        rho_high=float(rho_high),
        change=float(values[:, -1].mean() - values[:, 0].mean()),
        change_low=float(change_low),
        change_high=float(change_high),
        falling=float((sure & (signs < 0)).mean()),
        rising=float((sure & (signs > 0)).mean()),
        p=permutation_p(values.mean(axis=0)),
    )
