"""Figures of one small matrix a layer: one row of panels a model."""

from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.plots._heatmaps import Options, Scale, draw
from whitebox_probe.plots._names import verbatim
from whitebox_probe.plots.kind import figure
from whitebox_probe.results.result import Result
from whitebox_probe.results.table import matching

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEANING = {"coherence": r"$\|Q_i^\top Q_j\|_2$", "overlap": r"$|U^\top U|$, unit columns"}


@figure(takes="results", options=Options, matrices=("coherence",))
def coherence(
    *results: Result, matrix: str = "coherence", centred: bool | None = None, **options: Any
) -> "Figure":
    """Heatmaps of pairwise coherence between heads, against that of random subspaces.

    Centred: blue pairs share less than two subspaces drawn at random, red ones more; a head with
    itself is left out. Else dark for orthogonal, light for shared.

    Args:
        matrix: `coherence`, the K x K spectral norms of products of orthonormal bases, `overlap`,
            |U^T U| of all K*p basis vectors, or another one of the results, with values 0 to 1.
        centred: subtract what random subspaces of each model's sizes give; if not given, where the
            matrix is `coherence` and every result holds that.

    Raises: ResultError when a result holds no such matrix, or no such layer; ProbeError when what
        random subspaces give is not known.
    """
    label = MEANING.get(matrix, verbatim(matrix.replace("_", " ")))
    given = Options(**options)
    each = [_chance(result, given) for result in results] if matrix == "coherence" else [None]
    known = bool(each) and None not in each
    if centred and not known:
        raise ProbeError(
            f"the matrix '{matrix}' cannot be centred",
            "what random subspaces give is not in the results",
            "Use matrix='coherence' of results with the measure 'coherence', or centred=False",
        )
    if known if centred is None else centred:
        names = [result.model for result in results]
        less = dict(zip(names, each, strict=True))

        def centre(result: Result, stack: np.ndarray) -> np.ndarray:
            apart: np.ndarray = stack - less[result.model]
            return np.where(np.eye(stack.shape[-1], dtype=bool), np.nan, apart)

        scale = Scale(f"{label} $-$ random", None, None, diverging=True)
        return draw(results, matrix, given, scale=scale, form=centre)
    chance = set(each) if known else set()
    mark = (float(chance.pop() or 0), "random") if len(chance) == 1 else None
    return draw(results, matrix, given, scale=Scale(label, 0, 1, mark))


@figure(takes="results", options=Options, matrices=("overlap",))
def subspace_overlap(*results: Result, **options: Any) -> "Figure":
    """Heatmaps of |U^T U|, K*p by K*p, as in figure 7 of arXiv:2306.01129; lines part the heads.

    The scale ends where 99.5% of the entries off the diagonal do, which is 1 everywhere: on a scale
    from 0 to 1 nothing else would be seen.

    Raises: ResultError when a result holds no such matrix, or no such layer.
    """

    def off_diagonal(result: Result, stack: np.ndarray) -> np.ndarray:
        return np.where(np.eye(stack.shape[-1], dtype=bool), np.nan, stack)

    scale = Scale(MEANING["overlap"], 0, None)
    return draw(
        results, "overlap", Options(**options), scale=scale, form=off_diagonal, parts=_heads
    )


def _chance(result: Any, options: Options) -> float | None:
    """What two random subspaces of a model's sizes give on average."""
    if not isinstance(result, Result):
        return None
    rows = result.frame[result.frame["metric"] == "coherence_random"]
    values = set(rows[matching(rows, options.where)]["mean"].round(6))
    return float(values.pop()) if len(values) == 1 else None


def _heads(result: Result, side: int) -> list[int]:
    """Where one head's basis vectors end and the next one's begin."""
    p = result.run.get("dim_head")
    return list(range(p, side, p)) if isinstance(p, int) and p > 1 and side % p == 0 else []
