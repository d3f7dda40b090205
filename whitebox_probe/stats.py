"""Statistics over samples: spread, intervals, paired differences. NumPy and SciPy only."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 999
LEVEL = 0.95
_BATCH_BYTES = 1 << 22
_FEW = 2000  # samples, whose draws take 16 MB


@dataclass(frozen=True)
class Summary:
    """Statistics of each column of a table of samples; each field has one entry a column."""

    mean: Array
    std: Array
    sem: Array
    ci_low: Array
    ci_high: Array
    count: int


def summarise(values: Array, *, ddof: NDArray[np.int64] | int = 1, seed: int = 0) -> Summary:
    """Mean, std, standard error and 95% percentile bootstrap interval of each column.

    Rows are resampled together, so columns of one sample stay paired. With one sample, std, sem and
    interval are NaN: one sample says nothing of the spread.

    Shapes: values (N, C) -> fields (C,).
    Args: ddof: delta degrees of freedom of std, one for all columns or one a column.
    References: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    count, columns = values.shape
    if count < 2:
        nothing = np.full(columns, np.nan)
        return Summary(values.mean(axis=0), nothing, nothing, nothing, nothing, count)
    low, high = bootstrap_interval(values, seed=seed)
    unbiased = values.std(axis=0, ddof=1)
    return Summary(
        mean=values.mean(axis=0),
        std=unbiased * np.sqrt((count - 1) / (count - np.asarray(ddof))),
        sem=unbiased / np.sqrt(count),
        ci_low=low,
        ci_high=high,
        count=count,
    )


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

    means = values.mean(axis=0) + _resampled_deviations(values, seed)  # (resamples, L)
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


def bootstrap_interval(values: Array, *, seed: int = 0) -> tuple[Array, Array]:
    """95% percentile bootstrap interval of the mean of each column.

    A resample is a row of multinomial counts, so all columns' means are one matrix product;
    `scipy.stats.bootstrap` (percentile) draws the same distribution column by column.

    Shapes: values (N, C) -> two of (C,).
    """
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(_resampled_deviations(values, seed), [tail, 1 - tail], axis=0)
    centre = values.mean(axis=0)
    return centre + low, centre + high


def _resampled_deviations(values: Array, seed: int) -> Array:
    """Mean of each resample minus the mean, (resamples, C)."""
    # Deviations from the mean, so that a large common value costs no digits.
    deviations = values - values.mean(axis=0)
    count = len(values)
    return np.concatenate([weights @ deviations / count for weights in _weights(count, seed)])


def _weights(count: int, seed: int) -> Iterable[Array]:
    """How often each sample is drawn, (resamples, count), in parts of a few megabytes."""
    return _few(count, seed) if count <= _FEW else _drawn(count, seed)


@lru_cache(maxsize=2)
def _few(count: int, seed: int) -> tuple[Array, ...]:
    """The same draws serve every column and measure of a result; those of many are not kept."""
    return tuple(_drawn(count, seed))


def _drawn(count: int, seed: int) -> Iterator[Array]:
    random = np.random.default_rng(seed)
    batch = max(1, _BATCH_BYTES // (8 * count))
    for start in range(0, RESAMPLES, batch):
        rows = min(batch, RESAMPLES - start)
        yield random.multinomial(count, np.full(count, 1 / count), size=rows).astype(np.float64)
