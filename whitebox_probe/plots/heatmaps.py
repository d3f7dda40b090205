"""Figures of one small matrix a layer: one row of panels a model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whitebox_probe.plots._heatmaps import Options, Scale, draw
from whitebox_probe.plots._names import verbatim
from whitebox_probe.plots.kind import figure
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEANING = {"coherence": r"$\|Q_i^\top Q_j\|_2$", "overlap": r"$|U^\top U|$, unit columns"}


@figure(takes="results", options=Options, matrices=("coherence",))
def coherence(*results: Result, matrix: str = "coherence", **options: Any) -> "Figure":
    """Heatmaps of pairwise coherence between heads: dark for orthogonal, light for shared.

    Args:
        matrix: `coherence`, the K x K spectral norms of products of orthonormal bases, `overlap`,
            |U^T U| of all K*p basis vectors, or another one of the results, with values 0 to 1.

    Raises: ResultError when a result holds no such matrix, or no such layer.
    """
    label = MEANING.get(matrix, verbatim(matrix.replace("_", " ")))
    chance = _chance(results) if matrix == "coherence" else None
    mark = None if chance is None else (chance, "random")
    return draw(results, matrix, Options(**options), scale=Scale(label, 0, 1, mark))


@figure(takes="results", options=Options, matrices=("overlap",))
def subspace_overlap(*results: Result, **options: Any) -> "Figure":
    """Heatmaps of |U^T U|, K*p by K*p, as in figure 7 of arXiv:2306.01129.

    Raises: ResultError when a result holds no such matrix, or no such layer.
    """
    return draw(results, "overlap", Options(**options), scale=Scale(MEANING["overlap"], 0, 1))


def _chance(results: Sequence[Result]) -> float | None:
    """What two random subspaces give on average, where all models have the same sizes."""
    values = {
        round(float(value), 6)
        for result in results
        if isinstance(result, Result)
        for value in result.frame.query("metric == 'coherence_random'")["mean"]
    }
    return values.pop() if len(values) == 1 else None
