"""Intervals of means, and the spread of samples.

Below `SMALL` samples an interval of a mean is Student's t, from there on the percentile bootstrap:
of 3 normal values the bootstrap's 95% interval holds the mean in 75 of 100 cases, of 10 in 90.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SMALL = 30
"""Samples below which an interval of a mean is Student's t."""
LEVEL = 0.95
RESAMPLES = 999
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


def summarise(
    values: Array,
    *,
    ddof: NDArray[np.int64] | int = 1,
    seed: int = 0,
    contents: NDArray[Any] | None = None,
) -> Summary:
    """Mean, std, standard error and 95% interval (`mean_interval`) of each column.

    Rows are resampled together, so columns of one sample stay paired. With one sample, std, sem and
    interval are NaN: one sample says nothing of the spread, nor do copies of one.

    Shapes: values (N, C) -> fields (C,).
    Args: ddof: delta degrees of freedom of std, one for all columns or one a column. contents: of
        each sample (N,), for sem and interval over contents (`by_content`).
    """
    count, columns = values.shape
    distinct = by_content(values, contents)
    if len(distinct) < 2:
        nothing = np.full(columns, np.nan)
        return Summary(values.mean(axis=0), nothing, nothing, nothing, nothing, count)
    low, high = mean_interval(distinct, seed=seed)
    unbiased = values.std(axis=0, ddof=1)
    return Summary(
        mean=values.mean(axis=0),
        std=unbiased * np.sqrt((count - 1) / (count - np.asarray(ddof))),
        sem=distinct.std(axis=0, ddof=1) / np.sqrt(len(distinct)),
        ci_low=low,
        ci_high=high,
        count=count,
    )


def by_content(values: Array, contents: NDArray[Any] | None) -> Array:
    """One row a content in place of one a sample: what an interval or a p of a mean is taken of.

    A sample that is there again tells nothing of how another would differ. The rows have the mean
    of all samples, and about it the sum of what each content's samples deviate by, so that their
    standard error is that of a mean over clusters. Samples that all differ are returned as they
    are.

    Shapes: values (N, ...) -> (G, ...).
    Args: contents: (N,), the same for samples of one content; None where it is not known.
    References: Liang and Zeger 1986, "Longitudinal data analysis using generalized linear models",
        section 3 (independent clusters).
    """
    if contents is None or not len(values):
        return values
    known, which = np.unique(contents, return_inverse=True)
    if len(known) == len(values):
        return values
    centre = values.mean(axis=0)
    sums = np.zeros((len(known), *values.shape[1:]))
    np.add.at(sums, which, values - centre)
    return centre + sums * (len(known) / len(values))


def count_contents(count: int, contents: NDArray[Any] | None) -> int:
    """How many of so many samples differ: all where their contents (N,) are not known."""
    return count if contents is None else len(np.unique(contents))


def copies_note(count: int, contents: int) -> str:
    """How many samples are there again, and what intervals make of it; "" where none is.

    >>> copies_note(32, 1)
    '31 of 32 samples are copies of others: intervals count each content once'
    """
    if contents >= count:
        return ""
    are = "is a copy of another" if count - contents == 1 else "are copies of others"
    return f"{count - contents} of {count} samples {are}: intervals count each content once"


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


def few_note(count: int, contents: int | None = None) -> str:
    """What a reader has to know of intervals of so few samples; "" from `SMALL` on.

    Args: contents: how many of the samples differ; all when not given.

    >>> few_note(5)
    "5 samples: intervals are Student's t, and wide; 30 or more are advised"
    """
    if contents is not None and contents < count:
        few = few_note(contents).replace("sample", "content")
        return "; ".join(filter(None, (copies_note(count, contents), few)))
    if count >= SMALL or count == 0:  # none: all was read from weights
        return ""
    if count == 1:
        return f"1 sample: there are no intervals; {SMALL} or more are advised"
    return f"{count} samples: intervals are Student's t, and wide; {SMALL} or more are advised"


def mean_interval(values: Array, *, seed: int = 0) -> tuple[Array, Array]:
    """95% interval of the mean of each column: t below `SMALL` samples, else bootstrap.

    Student's t is exact for normal values. Of skewed values no interval of few samples covers what
    it says; t comes closest (benchmarks/RESULTS.md). NaN for fewer than two samples.

    Shapes: values (N, C) -> two of (C,).
    """
    if len(values) < 2:
        nothing = np.full(values.shape[1], np.nan)
        return nothing, nothing
    return t_interval(values) if len(values) < SMALL else bootstrap_interval(values, seed=seed)


def t_interval(values: Array) -> tuple[Array, Array]:
    """95% interval of the mean of each column by Student's t; infinite ends do not occur.

    Shapes: values (N, C) with N > 1 -> two of (C,).
    References: Student 1908, "The Probable Error of a Mean".
    """
    count = len(values)
    centre = values.mean(axis=0)
    half = _quantile_of_t(count - 1, (1 + LEVEL) / 2) * values.std(axis=0, ddof=1) / np.sqrt(count)
    return centre - half, centre + half


def bootstrap_interval(values: Array, *, seed: int = 0) -> tuple[Array, Array]:
    """95% percentile bootstrap interval of the mean of each column, whatever the number of samples.

    A resample is a row of multinomial counts, so all columns' means are one matrix product;
    `scipy.stats.bootstrap` (percentile) draws the same distribution column by column.

    Shapes: values (N, C) -> two of (C,).
    References: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(resampled_deviations(values, seed), [tail, 1 - tail], axis=0)
    centre = values.mean(axis=0)
    return centre + low, centre + high


def bca_interval(
    values: Array, *, statistic: Callable[..., Any] = np.mean, seed: int = 0
) -> tuple[float, float]:
    """95% BCa bootstrap interval of any statistic of one measure's samples.

    Corrected for bias and skewness, for what is no mean (a median, a share, a ratio): for few
    samples it is no wider than the percentile bootstrap, and as poor. NaN for one sample.

    Shapes: values (N,).
    Args: statistic: of a 1-D array; if it takes `axis`, resamples are done at once.
    References: Efron 1987, "Better Bootstrap Confidence Intervals"; by `scipy.stats.bootstrap`.
    """
    if len(values) < 2:
        return np.nan, np.nan
    if (values == values[0]).all():
        same = float(statistic(values))
        return same, same
    import scipy.stats  # half a second, which a probe need not wait for

    found = scipy.stats.bootstrap(
        (values,),
        statistic,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="BCa",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def hierarchical_interval(groups: Sequence[Array], *, seed: int = 0) -> tuple[float, float]:
    """95% interval of the grand mean over groups of samples: checkpoints, or seeds of training.

    The groups are what was drawn anew, not their samples: the interval is `mean_interval` of the
    groups' means, each group counting the same. What samples within a group add to the spread is in
    its mean already, so that resampling them once more would count it twice. For a group alone it
    is NaN: nothing tells how another would differ.

    Shapes: groups, each (N_g,) with its own N_g > 0.
    References: Davison and Hinkley 1997, "Bootstrap Methods and their Application", section 3.8.
    """
    means = np.array([[np.mean(group)] for group in groups]).reshape(-1, 1)
    low, high = mean_interval(means, seed=seed)
    return float(low[0]), float(high[0])


def prediction_interval(
    draws: Array, *, family: int = 1, level: float = LEVEL
) -> tuple[float, float]:
    """Two-sided interval for one further draw of the normal distribution that draws came from.

    mean +- t s sqrt(1 + 1/n), t the quantile of n - 1 degrees of freedom at
    1 - (1 - level) / (2 family). NaN for fewer than two draws.

    Shapes: draws (n,).
    Args: family: how many such intervals shall hold together (Bonferroni).
    References: Geisser 1993, "Predictive Inference".
    """
    count = len(draws)
    if count < 2:
        return np.nan, np.nan
    factor = _quantile_of_t(count - 1, 1 - (1 - level) / (2 * family))
    half = factor * draws.std(ddof=1) * np.sqrt(1 + 1 / count)
    return float(draws.mean() - half), float(draws.mean() + half)


@lru_cache(maxsize=256)
def _quantile_of_t(freedom: int, probability: float) -> float:
    from scipy.special import stdtrit  # a tenth of a second, which a probe need not wait for

    return float(stdtrit(freedom, probability))


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
