"""Spectra, one curve a layer: of tokens, and of the angles between heads' subspaces."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots._comparable import check_results, chosen, matrices_of
from whitebox_probe.plots._each import Options, draw
from whitebox_probe.plots.kind import figure
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEW = 3  # layers beside which the edges of each can be told apart
_LEAST = 1e-8  # share of the leading direction; what is smaller is rounding


@figure(takes="results", options=Options, matrices=("token_spectrum",))
def spectra(
    *results: Result, layers: Sequence[int] | int | None = None, log: bool = True, **options: Any
) -> "Figure":
    """The spectrum of a sample's tokens at each layer, averaged over samples; one panel a model.

    The steeper it falls, the fewer directions the tokens use.

    Args:
        layers: which to draw, counted from 1; all if not given.
        log: whether shares are on a logarithmic axis; those below 1e-8 of the leading one, which
            are rounding, are left out.

    Raises: ResultError when a result lacks the matrix `token_spectrum`, or a layer.
    """
    given = Options(**options)
    shown = _shown(results, "token_spectrum", layers, given)

    def paint(ax: "Axes", result: Result, of: list[Any]) -> list[Any]:
        stack = _stack(result, "token_spectrum", given, 2)
        for layer, colour in zip(shown, of, strict=True):
            share = stack[layer - 1]
            share = np.where(share < _LEAST * share[0], np.nan, share) if log else share
            ax.plot(np.arange(1, len(share) + 1), share, color=colour, linewidth=1)
        if log:
            ax.set_yscale("log")
        ax.set_xlabel("direction $i$")
        return []

    label = r"share $\lambda_i$ of $Z^{\ell}$"
    bar = (shown, r"layer $\ell$")
    return draw(results, paint, label, given, bar=bar)


@figure(takes="results", options=Options, matrices=("angles", "angles_random"))
def principal_angles(
    *results: Result,
    layers: Sequence[int] | int | None = None,
    centred: bool = True,
    **options: Any,
) -> "Figure":
    """Principal angles between heads' subspaces at each layer, in their order; one panel a model.

    Of the p angles of each pair of heads the mean over pairs is drawn, and of at most three layers
    the smallest and the largest of any pair as thin lines. 0 degrees: a direction that both heads
    hold; 90: none is shared. Below the line of random subspaces heads share more than by chance.

    Args:
        layers: which to draw, counted from 1; all if not given.
        centred: draw what is above and below the angles of subspaces drawn at random, in place of
            the angles.

    Raises: ResultError when a result lacks the matrix `angles`, or a layer.
    References: Björck and Golub 1973, Mathematics of Computation 27.
    """
    given = Options(**options)
    shown = _shown(results, "angles", layers, given)

    def paint(ax: "Axes", result: Result, of: list[Any]) -> list[Any]:
        stack = _stack(result, "angles", given, 3)
        chance = _stack(result, "angles_random", given, 2)
        at = np.arange(1, stack.shape[2] + 1)
        few = len(shown) <= _FEW
        for layer, colour in zip(shown, of, strict=True):
            angles = stack[layer - 1]
            if not np.isfinite(angles).any():
                continue
            held = np.isfinite(angles).any(axis=0)
            kept = angles[:, held] - (chance[0][held] if centred else 0)
            ax.plot(at[held], np.nanmean(kept, axis=0), color=colour, linewidth=1.2)
            for edge in (np.nanmin(kept, axis=0), np.nanmax(kept, axis=0)) if few else ():
                ax.plot(at[held], edge, color=colour, linewidth=0.35, alpha=0.7)
        random = 0 * chance[0] if centred else chance[0]
        look: dict[str, Any] = {"color": "0.25", "linestyle": "--", "linewidth": 1}
        (line,) = ax.plot(at, random, label="random subspaces", **look)
        ax.set_xlabel("principal angle $i$")
        if not centred:
            ax.set(ylim=(0, 92), yticks=[0, 30, 60, 90])
        return [line]

    label = "angle beyond random [degrees]" if centred else "principal angle [degrees]"
    bar = (shown, r"layer $\ell$")
    return draw(results, paint, label, given, bar=bar)


def _shown(
    results: Sequence[Result], matrix: str, layers: Sequence[int] | int | None, options: Options
) -> list[int]:
    check_results(results)
    depth = min(len(_stack(result, matrix, options)) for result in results)
    return chosen(layers, range(1, depth + 1), "layer", "the results have layers")


def _stack(result: Result, matrix: str, options: Options, ndim: int | None = None) -> np.ndarray:
    stack = matrices_of(result, matrix, options.where)
    if stack is None or (ndim is not None and stack.ndim != ndim):
        metric = "token_spectrum" if matrix == "token_spectrum" else "coherence"
        raise ResultError(
            f"the result of {result.model} holds no matrix '{matrix}'",
            f"it holds: {', '.join(sorted(result.matrices)) or 'none'}",
            f"Probe with the metric '{metric}'",
        )
    return stack
