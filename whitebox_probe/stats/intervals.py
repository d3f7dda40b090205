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


def bootstrap_interval(values: Array, *, seed: int = 0) -> tuple[Array, Array]:
    """95% percentile bootstrap interval of the mean of each column.

    A resample is a row of multinomial counts, so all columns' means are one matrix product;
    `scipy.stats.bootstrap` (percentile) draws the same distribution column by column.

    Shapes: values (N, C) -> two of (C,).
    """
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled_deviations(values, seed), [tail, 1 - tail], axis=0)
    centre = values.mean(axis=0)
    return centre + low, centre + high


def resampled_deviations(values: Array, seed: int) -> Array:
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
