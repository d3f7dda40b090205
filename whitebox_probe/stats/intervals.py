"""Means of samples, and how far they may lie from what more samples would show.

Below `SMALL` samples an interval is Student's t: of normal values it covers what it says, where the
percentile bootstrap covers 51% with two samples, 75% with three and 90% with ten. From `SMALL` on
it is the percentile bootstrap, which asks for no normal values.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 999
LEVEL = 0.95
SMALL = 30
"""So many samples, or more, have a bootstrap interval."""
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
    """Mean, std, standard error and 95% interval of each column.

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
    low, high = mean_interval(values, seed=seed)
    unbiased = values.std(axis=0, ddof=1)
    return Summary(
        mean=values.mean(axis=0),
        std=unbiased * np.sqrt((count - 1) / (count - np.asarray(ddof))),
        sem=unbiased / np.sqrt(count),
        ci_low=low,
        ci_high=high,
        count=count,
    )


def mean_interval(values: Array, *, seed: int = 0) -> tuple[Array, Array]:
    """95% interval of the mean of each column: Student's t below `SMALL` rows, else the bootstrap.

    NaN with one row.

    Shapes: values (N, C) -> two of (C,).
    References: Student 1908, Biometrika 6.
    """
    count = len(values)
    if count >= SMALL:
        return bootstrap_interval(values, seed=seed)
    if count < 2:
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing.copy()
    centre = values.mean(axis=0)
    half = t_quantile(count - 1) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return centre - half, centre + half


def t_quantile(degrees: int, *, tail: float = (1 - LEVEL) / 2) -> float:
    """The value that Student's t exceeds with the probability `tail`."""
    from scipy.special import stdtrit  # a tenth of a second, which a large sample need not wait for

    return float(stdtrit(degrees, 1 - tail))


def bca_interval(
    values: Array, statistic: Callable[..., Any] = np.mean, *, seed: int = 0
) -> tuple[float, float]:
    """95% bootstrap interval of a statistic of one column, bias-corrected and accelerated.

    For what is no mean, and for skewed values. A statistic that no resample moves has no width.

    Shapes: values (N,), N > 1.
    References: Efron 1987, Journal of the American Statistical Association 82; SciPy's.
    """
    import scipy.stats

    if np.ptp(values) == 0:
        return float(statistic(values)), float(statistic(values))
    found = scipy.stats.bootstrap(
        (values,), statistic, n_resamples=RESAMPLES, method="BCa", rng=np.random.default_rng(seed)
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def hierarchical_interval(groups: Sequence[Array], *, seed: int = 0) -> tuple[float, float, float]:
    """Grand mean and its 95% interval of samples in groups: checkpoints, or seeds of a training.

    Groups are what would be drawn anew, so their means are the values: Student's t over them below
    `SMALL` groups, the bootstrap from there on. Samples within a group add to the spread of its
    mean and are not counted again.

    Args: groups: the samples of each, (N,), of any number.
    Raises: ValueError for fewer than two groups.
    References: Efron and Tibshirani 1993, chapter 8 (the unit that is resampled is the largest).
    """
    if len(groups) < 2:
        raise ValueError("one group says nothing of the others")
    means = np.array([float(np.mean(group)) for group in groups])
    low, high = mean_interval(means[:, None], seed=seed)
    return float(means.mean()), float(low[0]), float(high[0])


def prediction_interval(
    draws: Array, *, family: int = 1, level: float = LEVEL
) -> tuple[float, float]:
    """In which one more draw of a normal sample falls, for `family` such samples together.

    mean +- t_(n-1) s sqrt(1 + 1/n), at the level 1 - (1 - level)/family (Bonferroni).

    Shapes: draws (n,), n > 1.
    Raises: ValueError for fewer than two draws.
    References: Hahn and Meeker 1991, "Statistical Intervals", section 4.7.
    """
    count = len(draws)
    if count < 2:
        raise ValueError("one draw says nothing of the next")
    tail = (1 - level) / (2 * max(family, 1))
    half = t_quantile(count - 1, tail=tail) * float(np.std(draws, ddof=1))
    half *= float(np.sqrt(1 + 1 / count))
    centre = float(np.mean(draws))
    return centre - half, centre + half


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
