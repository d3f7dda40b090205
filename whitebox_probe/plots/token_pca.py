"""Tokens in colour: what their leading directions tell apart, over several images at once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots._pictures import (
    MOST,
    OF_SAMPLES,
    Options,
    images_of,
    layers_of,
    picture,
    sheet,
)
from whitebox_probe.plots.kind import figure
from whitebox_probe.results.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TAIL = 1.0  # percent of values that end at black and at full colour


@figure(
    takes="view",
    options=Options,
    exempt=OF_SAMPLES | {"palette": "its colours are three components, red, green and blue"},
)
def token_pca(
    view: View,
    *,
    site: str = "z_out",
    layers: Sequence[int] | int | None = None,
    foreground: bool = True,
    **options: Any,
) -> "Figure":
    """The patches' leading principal components as colours, one row a sample, one column a layer.

    Of each layer the patches of all samples are taken together. Their first component tells
    foreground from background (the side that the images' borders are on), and the next three, of
    the foreground alone, are red, green and blue: like colours are like tokens, in all images of a
    column.

    Args:
        view: from `wp.view`, of images.
        site: where tokens are taken.
        layers: counted from 1; at most seven, spread over the depth, if not given.
        foreground: whether the first component sets the background apart, in white; else the first
            three are the colours of all patches.

    Raises: ResultError for what the view does not hold, or tokens of fewer than four directions.
    References: Oquab et al. 2023, arXiv:2304.07193, figure 1; Yu et al. 2023, arXiv:2308.16271.
    """
    given = Options(**options)
    images, samples = images_of(view), given.of(view)
    shown = layers_of(view, site, layers, MOST - 1)
    height, width = images.shape[1:3]
    with sheet(
        given,
        rows=given.names(view, samples),
        columns=["image", *(rf"$\ell={layer}$" for layer in shown)],
        shape=height / width,
        panels=f"{len(samples)} samples x {len(shown) + 1} columns",
    ) as made:
        for row, sample in enumerate(samples):
            picture(made.axes[row, 0], images[sample])
        for column, layer in enumerate(shown, start=1):
            Z = view.at(site, layer)[samples][:, list(view.patches)]
            colours = _colours(Z, _border(view), foreground)
            drawn = view.in_grid(np.moveaxis(colours, -1, 1))
            for row in range(len(samples)):
                picture(made.axes[row, column], np.moveaxis(drawn[row], 0, -1))
    return made.figure


def _border(view: View) -> np.ndarray:
    """Which patches lie at the border of the image."""
    rows, columns = view.grid or (0, 0)
    border = np.ones((rows, columns), dtype=bool)
    border[1:-1, 1:-1] = False
    return border.reshape(-1)


def _colours(Z: np.ndarray, border: np.ndarray, foreground: bool) -> np.ndarray:
    """(B, n, d) -> (B, n, 3)."""
    B, n, d = Z.shape
    if min(B * n - 1, d) < 4:
        raise ResultError(
            f"tokens of {d} directions have no four components",
            "the first and the next three are drawn",
            "Look at wider tokens, or at more samples",
        )
    flat = Z.reshape(B * n, d).astype(np.float64)
    if not foreground:
        return _spread(_components(flat, 3)).reshape(B, n, 3)
    first = _components(flat, 1)[:, 0].reshape(B, n)
    if first[:, border].mean() > first.mean():
        first = -first
    front = (first > 0).reshape(-1)
    found = np.ones((B * n, 3))
    if front.sum() > 3:
        found[front] = _spread(_components(flat[front], 3))
    return found.reshape(B, n, 3)


def _components(flat: np.ndarray, count: int) -> np.ndarray:
    """Coordinates along the leading principal directions; of each the larger tail is positive."""
    centred = flat - flat.mean(axis=0)
    vectors = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :count]
    found = centred @ vectors
    signs = np.sign((found**3).sum(axis=0))
    turned: np.ndarray = found * np.where(signs == 0, 1, signs)
    return turned


def _spread(values: np.ndarray) -> np.ndarray:
    """Each column from 0 to 1, a hundredth at each end cut off."""
    low, high = np.percentile(values, [_TAIL, 100 - _TAIL], axis=0)
    spread: np.ndarray = ((values - low) / np.maximum(high - low, 1e-12)).clip(0, 1)
    return spread
