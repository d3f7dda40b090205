"""Which figures can be drawn of some results: each figure says itself what it draws."""

from collections.abc import Sequence
from typing import Any

from whitebox_probe import plots
from whitebox_probe.plots._labels import measure
from whitebox_probe.plots.kind import Kind, kind_of
from whitebox_probe.results.result import Result


def of_results() -> dict[str, Kind]:
    """The figures that take results, and what each says of itself."""
    kinds = {name: kind_of(draw) for name, draw in plots.figures.items()}
    return {name: kind for name, kind in kinds.items() if kind and kind.takes == "results"}


def of_measure(metric: str, results: Sequence[Result]) -> tuple[str, dict[str, Any]]:
    """The figure of a measure, and the keywords that name it: its own, its group's, or `curves`."""
    kinds = of_results()
    for name, kind in kinds.items():
        if metric in kind.rows:
            return name, {}
    group = measure(results[0].run, metric)["group"]
    for name, kind in kinds.items():
        if kind.group and kind.group == group:
            return name, {"metric": metric}
    return "curves", {"metric": metric}


def shared(results: Sequence[Result], metrics: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """File name -> (figure, measure to name) of all that some results share.

    Args: metrics: the measures that all of them have, at one site.
    """
    found: dict[str, tuple[str, str | None]] = {}
    for name, kind in of_results().items():
        if kind.rows and set(kind.rows) <= set(metrics):
            found[name] = (name, None)
        for metric in metrics:
            if kind.group and measure(results[0].run, metric)["group"] == kind.group:
                found[f"{name}-{metric}"] = (name, metric)
        if kind.matrices and all(m in r.matrices for m in kind.matrices for r in results):
            found[name] = (name, None)
    return found
