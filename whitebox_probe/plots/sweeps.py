"""A measure with several settings of one constant: how far a curve hangs on it."""

from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots import _labels
from whitebox_probe.plots._comparable import (
    check_alike,
    check_options,
    check_results,
    expect_dependence,
)
from whitebox_probe.plots._each import Options, draw
from whitebox_probe.plots.kind import figure
from whitebox_probe.results.result import Result
from whitebox_probe.results.table import matching, setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_IN_LABELS = ("eps", "convention", "prenorm")


@figure(takes="results", options=Options)
def eps_sweep(
    *results: Result,
    metric: str = "compression",
    site: str | None = None,
    relative: bool = True,
    **options: Any,
) -> "Figure":
    """A rate at each coding precision that it was taken with, one panel a model.

    Rates of several eps are of several sizes: relative curves show whether their form is the same.

    Args:
        metric: its name in the table.
        site: which one, if the measure was taken at several.
        relative: draw each curve as a share of its first layer.

    Raises: ResultError when a result lacks the measure, or holds it with no eps; when they share
        none.
    """
    from matplotlib.ticker import MaxNLocator

    check_results(results)
    check_options(results, metric, None, None)
    of_it = [r.frame[r.frame["metric"] == metric] for r in results]
    given = Options(**options)
    expect_dependence(results, metric, given.where)
    held = [set(setting(rows[matching(rows, given.where)], "eps").dropna()) for rows in of_it]
    shared = sorted(set.intersection(*held))
    if not shared:
        raise ResultError(
            f"there is no eps at which '{metric}' was taken in each result",
            "rates depend on it, and other measures do not",
            "Probe with eps=[0.1, 0.5, 1.0] and a rate, such as compression",
        )

    def paint(ax: "Axes", result: Result, of: list[Any]) -> list[Any]:
        for eps, colour in zip(shared, of, strict=True):
            curve = result.curve(metric, site, **given.where | {"eps": eps})
            mean = curve["mean"] / curve["mean"].iloc[0] if relative else curve["mean"]
            ax.plot(curve["layer"], mean, color=colour, marker="o", markersize=2.2)
        ax.set_xlabel(r"layer $\ell$")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        return []

    first = [result.curve(metric, site, **given.where | {"eps": shared[0]}) for result in results]
    check_alike(results, first, metric)
    label = _labels.axis(results[0].run, first[0])
    if relative:
        bare = label.rpartition(" [")[0] or label
        label = rf"{bare}, $\mathrm{{layer\ 1}} = 1$"  # a formula, which no line break parts
    bar = (shared, r"coding precision $\varepsilon$")
    words = [f"{eps:g}" for eps in shared]
    return draw(results, paint, label, given, bar=bar, words=words, told=_IN_LABELS)
