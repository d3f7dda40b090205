"""Every measure by its name: those of this folder, and those that other packages add."""

from functools import cache, partial

from whitebox_probe import metrics
from whitebox_probe._core import discover
from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.metrics.measure import DatasetMeasure, Measure, SampleMeasure, WeightMeasure

GROUP = "whitebox_probe.metrics"
_WHAT = "a measure's class of that name"
ADAPTER = "torch"  # the one file that imports torchmetrics, which takes seconds
KINDS = (SampleMeasure, DatasetMeasure, WeightMeasure)


@cache
def catalogue() -> dict[str, type[Measure]]:
    """Every measure's class, by its name in tables.

    Raises: PluginError for another package's measure that cannot be had, or whose name is taken.
    """
    found: dict[str, type[Measure]] = {}
    for module in discover.modules(metrics, skip=(ADAPTER,)):
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if discover.is_class_of(thing, KINDS):
                discover.unique(found, thing.name, thing)
    return found | discover.added(GROUP, found, partial(discover.one_of, Measure), _WHAT)


def measure_named(name: str) -> type[Measure]:
    """The measure's class of that name.

    Raises: ProbeError with the nearest name.
    """
    if name not in catalogue():
        raise ProbeError(
            f"unknown metric '{name}'", "the catalogue does not hold it", nearest(name, catalogue())
        )
    return catalogue()[name]
