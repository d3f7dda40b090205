"""Figures of a measure against depth, one curve a model."""

from typing import TYPE_CHECKING, Any

from whitebox_probe.plots._curve_options import Options
from whitebox_probe.plots._curves import draw
from whitebox_probe.plots.kind import figure
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@figure(takes="results", options=Options)
def curves(*results: Result, metric: str, **options: Any) -> "Figure":
    """Any measure of the table, at each layer; one curve a model.

    Args:
        metric: its name in the table.

    Raises: ProbeError.
    """
    return draw(results, metric, Options(**options))


@figure(takes="results", options=Options, rows=("compression",))
def compression(*results: Result, **options: Any) -> "Figure":
    """R^c of each layer, one curve a model; the lower, the more compressed.

    Raises: ProbeError.
    """
    return draw(results, "compression", Options(**options))


@figure(takes="results", options=Options, rows=("coding_rate",))
def coding_rate(*results: Result, **options: Any) -> "Figure":
    """R of each layer, one curve a model: whether the tokens as a whole keep their volume.

    Raises: ProbeError.
    """
    return draw(results, "coding_rate", Options(**options))


@figure(takes="results", options=Options, rows=("rate_reduction",))
def rate_reduction(*results: Result, **options: Any) -> "Figure":
    """R - R^c of each layer, one curve a model; the higher, the better by its principle.

    Raises: ProbeError.
    """
    return draw(results, "rate_reduction", Options(**options))


@figure(takes="results", options=Options, rows=("sparse_rate_reduction",))
def sparse_rate_reduction(*results: Result, **options: Any) -> "Figure":
    """R - R^c - lam |Z|_0 of each layer, one curve a model; the higher, the better.

    Raises: ProbeError.
    """
    return draw(results, "sparse_rate_reduction", Options(**options))


@figure(takes="results", options=Options, group="sparsity")
def sparsity(*results: Result, metric: str = "l0", **options: Any) -> "Figure":
    """A measure of sparsity of each layer, one curve a model.

    Args:
        metric: `l0` (share of exactly non-zero entries, never its complement), `thresholded`,
            `hoyer`, or another measure of the table.

    Raises: ProbeError.
    """
    return draw(results, metric, Options(**options))
