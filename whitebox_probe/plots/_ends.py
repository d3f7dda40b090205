"""Names of curves at the ends of their lines, in their colours, instead of a legend."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whitebox_probe.plots import _fit, _settings
from whitebox_probe.plots.page import Page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Legend = bool | Literal["end", "auto"] | None
WIDE = 5.0  # inches from which a page has room for names beside its axes
_SHARE = 0.3  # of the page's width that names may take
_FEW = 4  # curves, of which names are told apart at a glance
_APART = 1.15  # of a name's height: what it is given of the axes'
_GAP = 0.06  # inches between axes and names


def wanted(legend: Legend, sheet: Page, count: int) -> bool:
    """Whether names are to stand at the ends: where asked for, or where a page is wide enough."""
    if legend == "auto":
        return sheet.own and sheet.figure.get_figwidth() >= WIDE and count <= _FEW
    return legend == "end"


def draw(sheet: Page, ax: "Axes", lines: Sequence[Any]) -> list[Any]:
    """The names, to be put in place by `spread`; none at all where they do not all fit."""
    from matplotlib.transforms import offset_copy

    beside = offset_copy(ax.transAxes, fig=sheet.figure, x=_GAP, y=0)
    size = _settings.setting("legend.fontsize") if sheet.own else 0.83 * _fit.points(ax.xaxis.label)
    found = []
    for line in lines:
        text = ax.annotate(
            line.get_label().replace(", at init", ",\nat init"),
            _end(line),
            xytext=(1, 0.5),
            textcoords=beside,
            color=line.get_color(),
            fontsize=size,
            va="center",
            linespacing=1.0,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.5,
                        "alpha": 0.6, "shrinkA": 0, "shrinkB": 2, "relpos": (0, 0.5)},
        )  # fmt: skip
        _fit.fit(text, _SHARE * sheet.figure.bbox.width, most=2)
        found.append(text)
    if _fits(sheet, ax, found, size):
        return found
    for text in found:
        text.remove()
    return []


def spread(ax: "Axes", texts: Sequence[Any]) -> None:
    """Each name as near to the end of its line as the others let it be."""
    if not texts:
        return
    box = ax.get_window_extent()
    ax.get_ylim()  # limits are found when they are asked for
    ends = np.array([ax.transData.transform(text.xy)[1] for text in texts]) - box.y0
    tall = _APART * np.array([_box(text).height for text in texts])
    for text, end, at, height in zip(texts, ends, apart(ends, tall, box.height), tall, strict=True):
        text.set_position((1, at / box.height))
        text.arrow_patch.set_visible(abs(at - end) > 0.3 * height)


def apart(wanted_at: np.ndarray, tall: np.ndarray, room: float) -> np.ndarray:
    """Middles of boxes of these heights that do not overlap, all near to where they are wanted.

    The sum of squared shifts is least, but for those that the ends of the room ask for.

    >>> apart(np.array([5.0, 5.0, 30.0]), np.array([4.0, 4.0, 4.0]), 40.0).tolist()
    [3.0, 7.0, 30.0]
    """
    order = np.argsort(wanted_at, kind="stable")
    below = np.cumsum(tall[order]) - tall[order] / 2
    blocks: list[tuple[float, int]] = []  # mean and number of boxes that touch
    for free in wanted_at[order] - below:
        mean, count = float(free), 1
        while blocks and blocks[-1][0] > mean:
            other, more = blocks.pop()
            mean, count = (mean * count + other * more) / (count + more), count + more
        blocks.append((mean, count))
    level = np.concatenate([np.full(count, mean) for mean, count in blocks])
    found = np.empty(len(tall))
    found[order] = level.clip(0, max(room - tall.sum(), 0)) + below
    return found


def _box(text: Any) -> Any:
    """Where a name stands, without the line that leads to it."""
    from matplotlib.text import Text

    return Text.get_window_extent(text)


def _end(line: Any) -> tuple[float, float]:
    """The last point of a line that there is."""
    x, y = (np.asarray(values, dtype=float) for values in line.get_data())
    there = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    return (float(x[there[-1]]), float(y[there[-1]])) if len(there) else (1.0, 0.0)


def _fits(sheet: Page, ax: "Axes", texts: Sequence[Any], size: Any) -> bool:
    from matplotlib.font_manager import FontProperties

    least = 0.9 * FontProperties(size=size).get_size_in_points()
    if any(_fit.points(text) < least for text in texts):
        return False
    if sheet.own:
        _fit.lay_out(sheet.figure)
    boxes = [_box(text) for text in texts]
    room = ax.get_window_extent()
    if _APART * sum(box.height for box in boxes) > room.height:
        return False
    if sheet.own or sheet.figure.get_layout_engine() is not None:
        return True  # the layout makes room beside the axes
    right = max(box.x1 for box in boxes)
    others = [each.get_window_extent() for each in sheet.figure.axes if each is not ax]
    free = [o.x0 for o in others if o.x0 > room.x0 and o.y0 < room.y1 and o.y1 > room.y0]
    return bool(right <= min([sheet.figure.bbox.x1, *free]))
