"""How well heads part an object from its ground, layer by layer."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ProbeError, ResultError, nearest
from whitebox_probe.plots import _fit, _legend, style
from whitebox_probe.plots._names import words
from whitebox_probe.plots._palette import Palette, colours
from whitebox_probe.plots.kind import figure
from whitebox_probe.plots.page import Size, extent, page, refuse_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BEST = "best head"
_COLUMNS = {
    "masks": ("miou", "ci_low", "ci_high", "chance"),
    "boxes": ("box_iou", "box_ci_low", "box_ci_high", "box_chance"),
}
_LABELS = {"masks": "mean IoU with the masks", "boxes": "mean IoU of boxes"}


@figure(takes="scores", exempt={"names": "it draws the heads of one model, which has no name here"})
def segmentation(
    scores: pd.DataFrame,
    *,
    of: Literal["masks", "boxes"] = "masks",
    labels: style.Labels = None,
    palette: Palette = None,
    ax: "Axes | None" = None,
    size: Size = None,
    width: style.Width | None = None,
    title: str | None = None,
) -> "Figure":
    """The segmentation score of each head at each layer, a dot each, and what chance gives.

    The line follows the best head of each layer, with its 95% interval: it was picked as the best
    on the same samples, so that its interval says how sure its score is, and not that it is best.

    Args:
        scores: from `wp.segmentation`.
        of: `masks`, the IoU of what a head looks at with the masks, or `boxes`, that of the box
            about its heaviest connected part with the box about the mask.
        labels: of the best head's line: a mapping from `best head`.
        palette: its colour: a list of one, or a colour map's name.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes.

    Raises: ResultError for a table of another kind; ProbeError for another score.
    """
    from matplotlib.ticker import MaxNLocator

    refuse_size(ax, size, width, "ax")
    if of not in _COLUMNS:
        raise ProbeError(
            f"there is no score of '{of}'", "it is unknown", nearest(str(of), _COLUMNS)
        )
    score, low_end, high_end, by_chance = _COLUMNS[of]
    if lacking := {"layer", "head", *_COLUMNS[of]} - set(scores.columns):
        raise ResultError(
            f"the table has no column '{min(lacking)}'",
            "this figure is of what wp.segmentation gives",
            "Pass its table",
        )
    told = style.named([_BEST], labels)
    colour = colours({_BEST: _BEST}, palette)[_BEST]
    best = scores.loc[scores.groupby("layer")[score].idxmax()]
    chance = scores.groupby("layer")[by_chance].mean()
    inches = extent(size, width, usual="column", height=2.2)
    with page(ax, inches=inches, panels="one") as sheet:
        dots = sheet.ax.scatter(
            scores["layer"], scores[score], s=7, color="0.6", linewidth=0, label="each head"
        )
        handles: list[Any] = [dots]
        handles += sheet.ax.plot(
            best["layer"], best[score], color=colour, marker="o", label=told.get(_BEST, _BEST)
        )
        if np.isfinite(best[low_end]).all():
            low, high = best[low_end], best[high_end]
            sheet.ax.fill_between(best["layer"], low, high, color=colour, alpha=0.22, linewidth=0)
        handles += sheet.ax.plot(
            chance.index, chance, color="0.25", linestyle="--", linewidth=1, label="random patches"
        )
        sheet.ax.set(xlabel=r"layer $\ell$", ylabel=_LABELS[of])
        sheet.ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if title:
            sheet.ax.set_title(words(title))
        _legend.draw(sheet, handles, bands=["band: 95% interval"], note=None)
        if sheet.own:
            _fit.lay_out(sheet.figure)
        _fit.fit(sheet.ax.title, sheet.ax.get_window_extent().width)
        _fit.fit(sheet.ax.yaxis.label, sheet.ax.get_window_extent().height)
    return sheet.figure
