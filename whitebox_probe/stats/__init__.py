"""Statistics over samples and layers: intervals, trends, tests. NumPy and SciPy only."""

from whitebox_probe.stats.effect import effect_size, interpolate
from whitebox_probe.stats.intervals import (
    LEVEL,
    RESAMPLES,
    SMALL,
    Array,
    Summary,
    bca_interval,
    bootstrap_interval,
    hierarchical_interval,
    mean_interval,
    prediction_interval,
    summarise,
)
from whitebox_probe.stats.significance import (
    fewest_layers,
    holm,
    paired_p,
    permutation_p,
    rank_p,
    smallest_p,
    spearman,
)
from whitebox_probe.stats.trends import Trend, trend

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "SMALL",
    "Array",
    "Summary",
    "Trend",
    "bca_interval",
    "bootstrap_interval",
    "effect_size",
    "fewest_layers",
    "hierarchical_interval",
    "holm",
    "interpolate",
    "mean_interval",
    "paired_p",
    "permutation_p",
    "prediction_interval",
    "rank_p",
    "smallest_p",
    "spearman",
    "summarise",
    "trend",
]
