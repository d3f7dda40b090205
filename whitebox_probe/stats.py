"""Statistics over samples: spread, intervals, paired differences. NumPy and SciPy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 999
LEVEL = 0.95
_BATCH_BYTES = 1 << 22


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


def bootstrap_interval(values: Array, *, seed: int = 0) -> tuple[Array, Array]:
    """95% percentile bootstrap interval of the mean of each column.

    A resample is a row of multinomial counts, so all columns' means are one matrix product;
    `scipy.stats.bootstrap` (percentile) draws the same distribution column by column.

    Shapes: values (N, C) -> two of (C,).
    """
    count = len(values)
    random = np.random.default_rng(seed)
    centre = values.mean(axis=0)
    batch = max(1, _BATCH_BYTES // (8 * count))
    means = []
    for start in range(0, RESAMPLES, batch):
        rows = min(batch, RESAMPLES - start)
        weights = random.multinomial(count, np.full(count, 1 / count), size=rows)
        # Deviations from the mean, so that a large common value costs no digits.
        means.append(weights @ (values - centre) / count)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail], axis=0)
    return centre + low, centre + high
