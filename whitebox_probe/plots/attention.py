"""Where heads look: maps over the image, and the least part of it that holds most of their mass."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whitebox_probe.plots._comparable import chosen
from whitebox_probe.plots._palette import map_of_values
from whitebox_probe.plots._pictures import MOST, OF_SAMPLES, Options, images_of, picture, sheet
from whitebox_probe.plots.kind import figure
from whitebox_probe.results.attention_maps import MASS, Query, boxes_of, heaviest, maps_of
from whitebox_probe.results.view import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FRAME = "#D55E00"


@figure(takes="view", options=Options, exempt=OF_SAMPLES)
def attention(
    view: View,
    *,
    layer: int | None = None,
    query: Query | None = None,
    heads: Sequence[int] | int | None = None,
    mass: float | None = None,
    boxes: bool = False,
    **options: Any,
) -> "Figure":
    """Each head's attention over the image, one row a sample: what a token looks at.

    Each map has its own scale, from none to its largest weight: where a head looks is drawn, not
    how sharply.

    Args:
        view: from `wp.view`, of images, with the site attn_weights.
        layer: counted from 1; the last one if not given.
        query: whose attention: of the `class` token, of the patch in (row, column), which is
            marked, or the `mean` over all patches; the class token's if there is one, else the
            mean.
        heads: counted from 1; the first eight if not given.
        mass: draw, in place of weights, the fewest patches that hold this share of them, as in
            figure 1 of arXiv:2104.14294 (0.6 there).
        boxes: draw the box about the connected patches that hold the most of that share (of 0.6 of
            the weights, if no mass is given), as `wp.segmentation` scores it.

    Raises: ResultError for what the view does not hold; ProbeError for a query or mass that cannot
        be.
    References: Caron et al. 2021, arXiv:2104.14294; Yu et al. 2023, arXiv:2308.16271 (CRATE).
    """
    given = Options(**options)
    images, samples = images_of(view), given.of(view)
    layer = view.layers[-1] if layer is None else layer
    maps = maps_of(view, layer, query)[samples]
    shown = _heads(heads, maps.shape[1])
    share = MASS if mass is None else mass
    framed = boxes_of(view, layer, query, share)[samples] if boxes else None
    if mass is not None:
        maps = heaviest(maps, mass)
    maps = view.in_grid(maps)
    height, width = images.shape[1:3]
    columns = ["image", *(f"head {head}" for head in shown)]
    with sheet(
        given,
        rows=given.names(view, samples),
        columns=columns,
        shape=height / width,
        panels=f"{len(samples)} samples x {len(columns)} columns",
    ) as made:
        for row, sample in enumerate(samples):
            picture(made.axes[row, 0], images[sample])
            if isinstance(query, tuple):
                _mark(made.axes[row, 0], query, view, images.shape[1:3])
            for column, head in enumerate(shown, start=1):
                seen = maps[row, head - 1]
                picture(
                    made.axes[row, column],
                    seen,
                    cmap=map_of_values(given.palette),
                    vmin=0,
                    vmax=seen.max() or 1,
                    extent=(0, width, height, 0),
                )
                if framed is not None:
                    top, left, bottom, right = framed[row, head - 1]
                    _frame(made.axes[row, column], (left, top), right - left, bottom - top)
    return made.figure


def _mark(ax: Any, query: tuple[int, int], view: View, size: tuple[int, ...]) -> None:
    """A frame about the patch whose attention is drawn."""
    assert view.grid is not None
    tall, wide = size[0] / view.grid[0], size[1] / view.grid[1]
    at = (query[1] * wide - 0.5, query[0] * tall - 0.5)
    _frame(ax, at, wide, tall)


def _frame(ax: Any, at: tuple[float, float], wide: float, tall: float) -> None:
    from matplotlib.patches import Rectangle

    ax.add_patch(Rectangle(at, wide, tall, fill=False, edgecolor=_FRAME, linewidth=1.2))


def _heads(heads: Sequence[int] | int | None, count: int) -> list[int]:
    usual = range(1, min(count, MOST) + 1)
    return chosen(heads, range(1, count + 1), "head", "the layer has heads", usual=usual)
