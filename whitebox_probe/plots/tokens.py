"""The tokens themselves: one sample's, as a heatmap, layer by layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe.plots import _tokens
from whitebox_probe.plots._names import verbatim
from whitebox_probe.plots._palette import map_of_values
from whitebox_probe.plots._pictures import MOST, OF_SAMPLES, Options, bare, layers_of, sheet
from whitebox_probe.plots.kind import figure
from whitebox_probe.results.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CLIP = 99.5  # percent of entries that the colours are spread over


@figure(takes="view", options=Options, exempt=OF_SAMPLES)
def tokens(
    view: View,
    *,
    site: str = "z_out",
    layers: Sequence[int] | int | None = None,
    sort: bool = True,
    tokens: tuple[int, int] | None = None,
    **options: Any,
) -> "Figure":
    """The entries of a sample's tokens: one panel a layer, tokens down, features across.

    Under each panel stands the share of entries that are not exactly zero. Colours of a row of
    panels share one scale, up to the 99.5th percentile of its sizes: white is zero.

    Args:
        view: from `wp.view`.
        site: where tokens are taken.
        layers: counted from 1; at most eight, spread over the depth, if not given.
        sort: order features by their mean size in the last panel, the same in all of them.
        tokens: the first one and the one after the last, counted from 0; all if not given. Words
            of a text stand beside them, where there is room.

    Raises: ResultError for what the view does not hold; ProbeError for no stretch of tokens.
    References: Yu et al. 2023, arXiv:2306.01129, figure 6.
    """
    given = Options(**options)
    samples = given.of(view)[: 1 if given.samples is None else None]
    shown = layers_of(view, site, layers, MOST)
    count = min(view.at(site, layer).shape[1] for layer in shown)
    part = _tokens.stretch(view, count, tokens, None)
    held = [
        np.stack([view.at(site, layer)[n][part.start : part.stop] for layer in shown])
        for n in samples
    ]
    signed = any((each < 0).any() for each in held)
    cmap = map_of_values(given.palette, "RdBu_r" if signed else "Greys")
    with sheet(
        given,
        rows=given.names(view, samples),
        columns=[rf"$\ell={layer}$" for layer in shown],
        panels=f"{len(samples)} samples x {len(shown)} layers",
    ) as made:
        for row, stack in enumerate(held):
            if sort:
                order = np.argsort(-np.abs(stack[-1]).mean(axis=0), kind="stable")
                stack = stack[:, :, order]
            most = float(np.percentile(np.abs(stack), _CLIP)) or 1.0
            for ax, Z in zip(made.axes[row], stack, strict=True):
                ax.imshow(
                    Z,
                    cmap=cmap,
                    vmin=-most if signed else 0,
                    vmax=most,
                    interpolation="nearest",
                    aspect="auto",
                )
                ax.set_box_aspect(1)
                bare(ax)
                ax.set_xlabel(
                    verbatim(f"{(Z != 0).mean():.0%} ≠ 0"), fontsize=made.points(6, ax=ax)
                )
        if view.texts is not None:
            _tokens.mark(made, made.axes[:, 0], view, samples, part, axes="y")
    return made.figure
