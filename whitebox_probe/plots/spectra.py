"""Spectra, one curve a layer: of tokens, and of the angles between heads' subspaces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots import _fit, _legend, _sequence, style
from whitebox_probe.plots._comparable import check_results
from whitebox_probe.plots._palette import Palette
from whitebox_probe.plots.kind import figure
from whitebox_probe.plots.page import Size, extent, page, refuse_size
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEW = 3  # layers beside which the edges of each can be told apart
_LEAST = 1e-8  # share of the leading direction; what is smaller is rounding


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keywords of every figure of spectra.

    Args:
        layers: which to draw, counted from 1; all if not given.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: a colour map's name.
        axes: draw in these axes, one a model, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or by the number of models.
        title: above the panels.
    """

    layers: Sequence[int] | None = None
    labels: style.Labels = None
    palette: Palette = None
    axes: Any = None
    size: Size = None
    width: style.Width | None = None
    title: str | None = None


@figure(takes="results", options=Options, matrices=("token_spectrum",))
def spectra(*results: Result, log: bool = True, **options: Any) -> "Figure":
    """The spectrum of a sample's tokens at each layer, averaged over samples; one panel a model.

    The steeper it falls, the fewer directions the tokens use.

    Args:
        log: whether shares are on a logarithmic axis; those below 1e-8 of the leading one, which
            are rounding, are left out.

    Raises: ResultError when a result lacks the matrix `token_spectrum`, or a layer.
    """

    def paint(ax: "Axes", result: Result, shown: Sequence[int], of: list[Any]) -> list[Any]:
        stack = _stack(result, "token_spectrum", 2)
        for layer, colour in zip(shown, of, strict=True):
            share = stack[layer - 1]
            share = np.where(share < _LEAST * share[0], np.nan, share) if log else share
            ax.plot(np.arange(1, len(share) + 1), share, color=colour, linewidth=1)
        if log:
            ax.set_yscale("log")
        ax.set_xlabel("direction $i$")
        return []

    label = r"share $\lambda_i$ of $Z^{\ell}$"
    return _draw(results, "token_spectrum", paint, label, Options(**options))


@figure(takes="results", options=Options, matrices=("angles", "angles_random"))
def principal_angles(*results: Result, centred: bool = True, **options: Any) -> "Figure":
    """Principal angles between heads' subspaces at each layer, in their order; one panel a model.

    Of the p angles of each pair of heads the mean over pairs is drawn, and of at most three layers
    the smallest and the largest of any pair as thin lines. 0 degrees: a direction that both heads hold; 90: none is
    shared. Below the line of random subspaces heads share more than by chance.

    Args:
        centred: draw what is above and below the angles of subspaces drawn at random, in place of
            the angles.

    Raises: ResultError when a result lacks the matrix `angles`, or a layer.
    References: Björck and Golub 1973, Mathematics of Computation 27.
    """

    def paint(ax: "Axes", result: Result, shown: Sequence[int], of: list[Any]) -> list[Any]:
        stack, chance = _stack(result, "angles", 3), _stack(result, "angles_random", 2)
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
        random = {"color": "0.25", "linestyle": "--", "linewidth": 1, "label": "random subspaces"}
        (line,) = ax.plot(at, 0 * chance[0] if centred else chance[0], **random)
        ax.set_xlabel("principal angle $i$")
        if not centred:
            ax.set(ylim=(0, 92), yticks=[0, 30, 60, 90])
        return [line]

    label = "angle beyond random [degrees]" if centred else "principal angle [degrees]"
    return _draw(results, "angles", paint, label, Options(**options))


Paint = Callable[["Axes", Result, Sequence[int], list[Any]], list[Any]]


def _draw(
    results: Sequence[Result], matrix: str, paint: Paint, label: str, options: Options
) -> "Figure":
    check_results(results)
    refuse_size(options.axes, options.size, options.width, "axes")
    depth = min(len(_stack(result, matrix)) for result in results)
    shown = _shown(depth, options.layers)
    of = _sequence.colours(len(shown), options.palette)
    looks = style.looks([result.model for result in results], labels=options.labels)
    usual: style.Width = "column" if len(results) == 1 else "text"
    inches = extent(options.size, options.width, usual=usual, height=2.2)
    panels = f"{len(results)} models"
    with page(options.axes, inches=inches, shape=(1, len(results)), panels=panels) as sheet:
        axes, handles = list(sheet.axes[0]), []
        for ax, result in zip(axes, results, strict=True):
            handles = paint(ax, result, shown, of)
            ax.set_title(looks[result.model].label, fontsize=sheet.points(8, ax=ax))
        if sheet.own:
            for ax in axes[1:]:
                ax.sharey(axes[0])
                ax.tick_params(labelleft=False)
        sheet.ax.set_ylabel(label)
        _sequence.add_bar(axes, of, shown, r"layer $\ell$")
        if handles:
            _legend.draw(sheet, handles, bands=[], note=None)
        if options.title and sheet.own:
            _fit.fit(sheet.figure.suptitle(options.title), sheet.figure.bbox.width)
        elif options.title:
            sheet.ax.set_title(f"{options.title}\n{sheet.ax.get_title()}")
        if sheet.own:
            _fit.lay_out(sheet.figure)
        for ax in axes:
            _fit.fit(ax.title, ax.get_window_extent().width)
        _fit.fit(sheet.ax.yaxis.label, sheet.ax.get_window_extent().height)
    return sheet.figure


def _shown(depth: int, layers: Sequence[int] | None) -> list[int]:
    shown = list(range(1, depth + 1)) if layers is None else list(layers)
    wrong = [layer for layer in shown if layer not in range(1, depth + 1)]
    if wrong or not shown:
        raise ResultError(
            f"layer {wrong[0]} cannot be drawn" if wrong else "no layer is to be drawn",
            f"the results have layers 1 to {depth}",
            "Name layers in that range",
        )
    return shown


def _stack(result: Result, matrix: str, ndim: int | None = None) -> np.ndarray:
    having = {place.get("name", key) for key, place in result.run.matrices.items()}
    stack = result.matrix(matrix) if matrix in having else result.matrices.get(matrix)
    if stack is None or (ndim is not None and stack.ndim != ndim):
        metric = "token_spectrum" if matrix == "token_spectrum" else "coherence"
        raise ResultError(
            f"the result of {result.model} holds no matrix '{matrix}'",
            f"it holds: {', '.join(sorted(result.matrices)) or 'none'}",
            f"Probe with the metric '{metric}'",
        )
    return stack
