"""The legend of curves: under the axes of a page of ours, inside those of the caller."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whitebox_probe.plots import _fit, style
from whitebox_probe.plots._page import Page

if TYPE_CHECKING:
    from matplotlib.legend import Legend

_MARGIN = 0.1  # inches that a legend leaves free of its figure's width


def draw(sheet: Page, handles: Sequence[Any], *, band: str | None, note: str | None) -> None:
    """Say what lines and band are; where it stands on our page it hides no data.

    Args: note: above the entries.
    """
    from matplotlib.patches import Patch

    entries = list(handles)
    if band is not None:
        entries.append(Patch(facecolor="0.5", alpha=0.3, linewidth=0, label=band))
    if not sheet.own:
        _inside(sheet, entries, note)
        return
    figure = sheet.figure
    room = (figure.get_figwidth() - _MARGIN) * figure.dpi
    for columns in range(min(3, len(entries)), 0, -1):
        legend = figure.legend(
            handles=entries, loc="outside lower center", ncols=columns, title=note
        )
        if columns == 1:
            _narrowed(legend, room)
        box = legend.get_window_extent()
        if box.width <= room or columns == 1:
            break
        legend.remove()
    if not sheet.fixed:
        figure.set_figheight(figure.get_figheight() + box.height / figure.dpi)


def _inside(sheet: Page, entries: Sequence[Any], note: str | None) -> None:
    """In the caller's axes, where it hides least."""
    key = "legend.fontsize"
    beside = 0.83 * _fit.points(sheet.ax.xaxis.label)
    size = style.setting(key) if style.is_set(key) else beside
    legend = sheet.ax.legend(handles=entries, fontsize=size, title=note, title_fontsize=size)
    _narrowed(legend, 0.95 * sheet.ax.get_window_extent().width)


def _narrowed(legend: "Legend", room: float) -> None:
    """Break its lines until it is no wider than `room` pixels."""
    texts = [*legend.get_texts(), legend.get_title()]
    box = legend.get_window_extent()
    if box.width <= room:
        return
    longest = max(text.get_window_extent().width for text in legend.get_texts())
    keys = box.width - max(longest, legend.get_title().get_window_extent().width)
    for text in texts:
        _fit.fit(text, max(room - max(keys, 0), 1), most=6)
