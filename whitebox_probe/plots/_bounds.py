"""The smallest and the largest value that a measure can have, as lines."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots._curve_options import Normalise
from whitebox_probe.results.forms import normal_form
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def of_results(results: Sequence[Result], metric: str, normalise: Normalise) -> tuple[float, ...]:
    """The smallest and the largest value possible, the same for all results."""
    found = set()
    for result in results:
        pair = result.run.get("bounds", {}).get(metric)
        if pair is None:
            raise ResultError(
                f"the result of {result.model} has no bounds of '{metric}'",
                "only compression in the official convention has them",
                "Probe with convention='official', or leave out bounds",
            )
        limits = normal_form(result, metric, normalise)(pd.DataFrame({"mean": pair, "layer": 1}))
        found.add(tuple(limits["mean"]))
    if len(found) > 1:
        raise ResultError(
            "the results have different bounds",
            "their models differ in size",
            "Draw them in separate figures, or leave out bounds",
        )
    return found.pop()


def draw(ax: "Axes", limits: Sequence[float]) -> list[Any]:
    """Of which the first stands for both in the legend."""
    label = "smallest and largest value possible"
    return [
        ax.axhline(value, color="0.35", linestyle=":", linewidth=1, label=label, zorder=1.5)
        for value in limits
    ][:1]
