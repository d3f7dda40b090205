"""What figures of single samples share: a sheet of pictures, with words beside rows and columns."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.errors import ProbeError, ResultError
from whitebox_probe.plots import _fit, style
from whitebox_probe.plots._comparable import chosen
from whitebox_probe.plots._names import verbatim
from whitebox_probe.plots._palette import Palette
from whitebox_probe.plots.page import Page, Size, extent, page, refuse_size
from whitebox_probe.results.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 8
"""Rows or columns, of which more are too small to see anything in."""
OF_SAMPLES = {"names": "its labels are of samples, and a view is of one model"}
"""What the contract of figures leaves out here."""
_NAMES = 0.55  # inches that words before a row may take


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keywords of every figure of single samples.

    Args:
        samples: which of the view, counted from 0; the first eight if not given.
        labels: what samples are called: a list in their order, or a mapping from their labels.
        palette: a colour map's name.
        axes: draw in these axes, one a picture, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the pictures.
    """

    samples: Sequence[int] | int | None = None
    labels: style.Labels = None
    palette: Palette = None
    axes: Any = None
    size: Size = None
    width: style.Width | None = None
    title: str | None = None

    def of(self, view: View) -> list[int]:
        """The samples that are drawn.

        Raises: ResultError for one that the view does not hold.
        """
        known = range(view.samples)
        return chosen(self.samples, known, "sample", "the view holds", usual=known[:MOST])

    def names(self, view: View, samples: Sequence[int]) -> list[str]:
        """What each sample is called."""
        own = [view.labels[n] if view.labels else "" for n in samples]
        if self.labels is None:
            return [verbatim(name) for name in own]
        told = list(dict.fromkeys(own)) if isinstance(self.labels, dict) else [*map(str, samples)]
        found = style.named(told, self.labels)
        return [
            found.get(a, found.get(str(n), verbatim(a))) for n, a in zip(samples, own, strict=True)
        ]


def layers_of(view: View, site: str, layers: Sequence[int] | int | None, most: int) -> list[int]:
    """The layers that are drawn: those asked for, or at most so many, spread over the depth.

    Raises: ResultError for one that the view does not hold.
    """
    if layers is not None:
        shown = [layers] if isinstance(layers, int) else list(layers)
        for layer in shown:
            view.at(site, layer)
        if not shown:
            raise ProbeError("no layer is to be drawn", "layers= is empty", "Name one or more")
        return shown
    held = [layer for name, layer in view.sites if name == site]
    if not held:
        view.at(site, 1)  # which says what there is
    picks = np.linspace(0, len(held) - 1, min(len(held), most)).round().astype(int)
    return [held[i] for i in dict.fromkeys(picks.tolist())]


@contextmanager
def sheet(
    options: Options,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    shape: float = 1.0,
    wide: float = 1.3,
    panels: str,
) -> Iterator[Page]:
    """A page of pictures, one a row and column; words are set when they are drawn.

    Args: shape: height over width of a picture. wide: inches that one takes at most by itself.
    """
    refuse_size(options.axes, options.size, options.width, "axes")
    across, _, fixed = extent(options.size, options.width, usual="text", height=1)
    if options.size is None and options.width is None and not fixed:
        across = min(across, wide * len(columns) + 0.6)
    named = _NAMES if any(rows) else 0.05
    tall = options.size[1] if options.size else 0
    tall = tall or len(rows) * (shape * (across - named) / len(columns) + 0.06) + 0.35
    with page(
        options.axes,
        inches=(across, tall, fixed),
        shape=(len(rows), len(columns)),
        panels=panels,
        layout="compressed",
    ) as made:
        yield made
        if made.own:
            _fit.lay_out(made.figure)
        for column, name in enumerate(columns):
            top = made.axes[0, column]
            top.set_title(name, fontsize=made.points(7, ax=top))
            _fit.fit(top.title, 1.02 * top.get_window_extent().width)
        for row, name in enumerate(rows):
            if name:
                first = made.axes[row, 0]
                first.set_ylabel(
                    name, rotation=0, ha="right", va="center", fontsize=made.points(7, ax=first)
                )
                room = min(_NAMES, made.figure.get_figwidth() / 5) * made.figure.dpi
                _fit.fit(first.yaxis.label, room)
        above = made.head(options.title)
        if above and options.size is None:  # a long one is taller than a sheet of one short row
            room = above.get_window_extent().height / made.figure.dpi
            made.figure.set_figheight(made.figure.get_figheight() + room)
        if made.own and options.size is None:
            _fit.lay_out(made.figure)
            made.figure.set_figheight(made.figure.get_tightbbox().height + 0.06)


def picture(ax: "Axes", pixels: np.ndarray, **more: Any) -> Any:
    """An image, without ticks and frame."""
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels, more = pixels[..., 0], {"cmap": "gray", "vmin": 0, "vmax": 1} | more
    image = ax.imshow(pixels, interpolation="nearest", **more)
    bare(ax)
    return image


def bare(ax: "Axes") -> None:
    """Without ticks, grid and frame."""
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def images_of(view: View) -> np.ndarray:
    """The view's images.

    Raises: ResultError where its samples are none.
    """
    if view.images is None:
        raise ResultError(
            f"the samples of this view of {view.model} are no images",
            "the model reads text, or its images are not known",
            "Use wp.plots.tokens",
        )
    return view.images
