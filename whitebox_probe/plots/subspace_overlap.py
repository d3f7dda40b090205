"""|U^T U| of all heads' basis vectors at chosen layers."""

from typing import TYPE_CHECKING

from whitebox_probe.plots import style
from whitebox_probe.plots.coherence import coherence
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["subspace_overlap"]


def subspace_overlap(
    *results: Result,
    layers: list[int] | None = None,
    width: style.Width = "text",
    title: str | None = None,
) -> "Figure":
    """Heatmaps of |U^T U|, K*p by K*p, as in figure 7 of arXiv:2306.01129.

    Args: layers: counted from 1; at most eight, spread over the depth, if not given.

    Raises: ResultError.
    """
    return coherence(*results, matrix="overlap", layers=layers, width=width, title=title)
