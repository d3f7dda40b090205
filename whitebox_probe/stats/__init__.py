"""Statistics over samples and over layers. NumPy and SciPy only."""

from whitebox_probe.stats.intervals import (
    LEVEL,
    Array,
    Summary,
    bootstrap_interval,
    effect_size,
    summarise,
)
from whitebox_probe.stats.trends import Trend, interpolate, trend

__all__ = [
    "LEVEL",
    "Array",
    "Summary",
    "Trend",
    "bootstrap_interval",
    "effect_size",
    "interpolate",
    "summarise",
    "trend",
]
