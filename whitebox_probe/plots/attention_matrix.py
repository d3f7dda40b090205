"""The weights of attention from token to token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe.plots import _tokens
from whitebox_probe.plots._comparable import chosen
from whitebox_probe.plots._heatmaps import Scale, add_bar, paint
from whitebox_probe.plots._palette import map_of_values
from whitebox_probe.plots._pictures import OF_SAMPLES, Options, sheet
from whitebox_probe.plots.kind import figure
from whitebox_probe.results.attention_maps import SITE
from whitebox_probe.results.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WORDS = 24  # of a text, which can be read along a matrix in a column


@figure(takes="view", options=Options, exempt=OF_SAMPLES)
def attention_matrix(
    view: View,
    *,
    layer: int | None = None,
    heads: Sequence[int] | int | None = None,
    tokens: tuple[int, int] | None = None,
    colorbar: bool = True,
    **options: Any,
) -> "Figure":
    """The attention of a head from token to token: each row is a token, and where it looks.

    All matrices share one scale, from zero to where 99.5% of the weights end. What lies behind a
    causal mask, where no token looks, is left white.

    Args:
        view: from `wp.view`, of images or texts, with the site attn_weights; its first sample is
            drawn, if none is named.
        layer: counted from 1; the last one if not given.
        heads: counted from 1; the first one if not given.
        tokens: the first one and the one after the last, counted from 0; the first 24 of a text,
            whose words stand beside it, and all of an image, if not given.
        colorbar: beside the matrices.

    Raises: ResultError for what the view does not hold; ProbeError for no stretch of tokens.
    """
    given = Options(**options)
    samples = given.of(view)[: 1 if given.samples is None else None]
    layer = view.layers[-1] if layer is None else layer
    weights = view.at(SITE, layer)  # (B, K, n, n)
    known = range(1, weights.shape[1] + 1)
    shown = chosen(heads, known, "head", "the layer has heads", usual=[1])
    held = _tokens.stretch(view, weights.shape[-1], tokens, _WORDS)
    drawn = _seen(weights)[samples][:, [head - 1 for head in shown]]
    drawn = drawn[:, :, held.start : held.stop, held.start : held.stop]
    scale = Scale("attention weight", 0, None).spread(drawn)
    names = given.names(view, samples)
    with sheet(
        given,
        rows=[f"{name}: query" if name else "" for name in names],
        columns=[rf"$\ell={layer}$, head {head}" for head in shown],
        wide=2.9 if len(shown) == 1 else 2.0,
        panels=f"{len(samples)} samples x {len(shown)} heads",
    ) as made:
        for row in range(len(samples)):
            for column in range(len(shown)):
                ax, cmap = made.axes[row, column], map_of_values(given.palette, "viridis")
                image = paint(ax, drawn[row, column], scale, cmap)
                small = made.points(7, ax=ax)
                ax.set_xlabel("key" if row == len(samples) - 1 else "", fontsize=small)
                ax.set_ylabel("query" if column == 0 else "", fontsize=small)
        for column in range(len(shown)):
            _tokens.mark(made, made.axes[:, column], view, samples, held, axes="xy")
            for ax in made.axes[:, column]:
                ax.tick_params(labelleft=column == 0)
        if colorbar:
            add_bar(made, image, scale, aspect=20 * len(samples))
    return made.figure


def _seen(weights: np.ndarray) -> np.ndarray:
    """The weights; NaN behind a causal mask."""
    ahead = np.triu(np.ones(weights.shape[-2:], dtype=bool), 1)
    if not ahead.any() or weights[..., ahead].any():
        return weights
    return np.where(ahead, np.nan, weights)
