"""How far the subspaces of a layer overlap: one small matrix a layer, one row of them a model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots import style
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["coherence"]

MOST = 8  # more panels than that are too small to read in a paper
MEANING = {"coherence": r"$\|Q_i^\top Q_j\|_2$", "overlap": r"$|U^\top U|$, unit columns"}


def coherence(
    *results: Result,
    matrix: str = "coherence",
    layers: list[int] | None = None,
    width: style.Width = "text",
    title: str | None = None,
) -> "Figure":
    """Heatmaps of pairwise coherence between heads: dark for orthogonal, light for shared.

    Args:
        matrix: `coherence`, the K x K spectral norms of products of orthonormal bases, or
            `overlap`, |U^T U| of all K*p basis vectors.
        layers: which to draw, counted from 1; at most eight, spread over the depth, if not given.
        width: of a paper's column or of its text.

    Raises: ResultError when a result holds no such matrix, or no such layer.
    """
    stacks = [_stack(result, matrix) for result in results]
    if not stacks:
        raise ResultError("there is nothing to draw", "no result was given", "Pass one or more")
    depth = min(len(stack) for stack in stacks)
    shown = layers or sorted(set(np.linspace(1, depth, min(depth, MOST)).round().astype(int)))
    wrong = [layer for layer in shown if not 1 <= layer <= depth]
    if wrong:
        raise ResultError(
            f"layer {wrong[0]} cannot be drawn",
            f"the results have layers 1 to {depth}",
            "Name layers in that range",
        )
    inches = style.inches(width)
    looks = style.looks([result.model for result in results])
    with style.styled():
        from whitebox_probe.plots._figure import StyledFigure

        panel = (inches - 1.5) / len(shown)
        figure = StyledFigure(
            figsize=(inches, len(stacks) * (panel + 0.08) + (0.5 if title else 0.28)),
            layout="compressed",  # square panels, without the gaps that a plain grid would leave
        )
        axes = figure.subplots(len(stacks), len(shown), squeeze=False)
        for row, (result, stack) in enumerate(zip(results, stacks, strict=True)):
            for ax, layer in zip(axes[row], shown, strict=True):
                image = ax.imshow(stack[layer - 1], vmin=0, vmax=1, interpolation="nearest")
                ax.set(xticks=[], yticks=[])
                ax.grid(visible=False)
                ax.spines[:].set_visible(False)
                if row == 0:
                    ax.set_title(rf"$\ell={layer}$")
            look = looks[result.model]
            axes[row, 0].set_ylabel(
                look.label.replace(", at", ",\nat"),
                rotation=0,
                ha="right",
                va="center",
                fontsize=7,
                color=look.colour,
            )
        bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.02, aspect=10 * len(stacks))
        bar.set_label(MEANING[matrix])
        bar.outline.set_linewidth(0)
        if (chance := _chance(results, matrix)) is not None:
            bar.ax.axhline(chance, color="white", linewidth=1.4)
            ticks = [t for t in (0, 0.2, 0.4, 0.6, 0.8, 1) if abs(t - chance) > 0.05]
            bar.set_ticks([*ticks, chance], labels=[*(f"{t:g}" for t in ticks), "random"])
        if title:
            figure.suptitle(title)
        # Panels are as large as the width lets them be: take off the height that is left over.
        figure.canvas.draw()
        figure.set_figheight(figure.get_tightbbox().height + 0.06)
    return figure


def _chance(results: Sequence[Result], matrix: str) -> float | None:
    """What two random subspaces give on average, where all models have the same sizes."""
    values = {
        round(float(value), 6)
        for result in results
        for value in result.frame.query("metric == 'coherence_random'")["mean"]
    }
    return values.pop() if matrix == "coherence" and len(values) == 1 else None


def _stack(result: Result, matrix: str) -> np.ndarray:
    if matrix not in MEANING or matrix not in result.matrices:
        have = ", ".join(sorted(result.matrices)) or "none"
        raise ResultError(
            f"the result of {result.model} holds no matrix '{matrix}'",
            f"it holds: {have}",
            "Probe with the metric 'coherence', and draw 'coherence' or 'overlap'",
        )
    return result.matrices[matrix]
