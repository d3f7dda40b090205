"""The legend of curves: under the axes, or inside them where there is no room to make."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whitebox_probe.plots import _fit, _settings
from whitebox_probe.plots._names import words
from whitebox_probe.plots.page import Page

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

_SHARE = 0.25  # of the page's height that a legend may take, if the same can be said in less
_MARGIN = 0.1  # inches that a legend leaves free of its figure's width


def draw(
    sheet: Page,
    handles: Sequence[Any],
    *,
    bands: Sequence[str],
    note: str | None,
    brief: Sequence[Any] = (),
) -> None:
    """Say what lines and bands are; where it stands on our page it hides no data.

    Args: note: above the entries. brief: fewer handles that say the same, for where all of them
        would take too much of the page.
    """
    from matplotlib.patches import Patch

    # The nulls' bands, named last, are fainter.
    shades = [Patch(facecolor="0.5", alpha=a, linewidth=0) for a in (0.35, 0.15)]
    entries = [*handles, *shades[: len(bands)]]
    for shade, band in zip(shades, bands, strict=False):
        shade.set_label(words(band))
    if not entries and note is None:
        return
    if not entries:  # matplotlib has no legend of a title alone
        entries, note = [Patch(facecolor="none", linewidth=0, label=note)], None
    if not sheet.own:
        _beside(sheet, entries, note)
        return
    figure = sheet.figure
    legend = _under(figure, entries, note)
    tall = legend.get_window_extent().height
    whole = figure.bbox.height + (0 if sheet.fixed else tall)
    if brief and tall > _SHARE * whole:
        legend.remove()
        legend = _under(figure, [*brief, *shades[: len(bands)]], note)
    if not sheet.fixed:
        more = legend.get_window_extent().height / figure.dpi
        figure.set_figheight(figure.get_figheight() + more)


def _under(figure: "Figure", entries: Sequence[Any], note: str | None) -> "Legend":
    """In as many columns as the page is wide enough for."""
    room = (figure.get_figwidth() - _MARGIN) * figure.dpi
    for columns in range(max(1, min(3, len(entries))), 0, -1):
        legend = figure.legend(
            handles=entries,
            labels=["x"] * len(entries),
            loc="outside lower center",
            ncols=columns,
            title=note,
            title_fontsize=_settings.setting("legend.fontsize"),
        )
        _say(legend, entries)
        if columns == 1:
            _narrowed(legend, room)
        box = legend.get_window_extent()
        if box.width <= room or columns == 1:
            break
        legend.remove()
    return legend


def _beside(sheet: Page, entries: Sequence[Any], note: str | None) -> None:
    """Of the caller's axes: under them if their figure makes room by itself, or else inside."""
    from matplotlib.transforms import ScaledTranslation

    key, ax, figure = "legend.fontsize", sheet.ax, sheet.figure
    size = _settings.setting(key) if _settings.is_set(key) else 0.83 * _fit.points(ax.xaxis.label)
    under: dict[str, Any] = {}
    if figure.get_layout_engine() is not None:
        ticks = ax.xaxis.get_tightbbox()
        below = (ax.get_window_extent().y0 - ticks.y0 if ticks else 0) / figure.dpi + 0.04
        at = ax.transAxes + ScaledTranslation(0, -below, figure.dpi_scale_trans)
        under = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": at}
    legend = ax.legend(
        handles=entries,
        labels=["x"] * len(entries),
        fontsize=size,
        title=note,
        title_fontsize=size,
        **under,
    )
    _say(legend, entries)
    _narrowed(legend, (1 if under else 0.95) * ax.get_window_extent().width)


def _say(legend: "Legend", entries: Sequence[Any]) -> "Legend":
    """Set what entries say: matplotlib leaves out names that begin with an underscore."""
    for text, entry in zip(legend.get_texts(), entries, strict=True):
        text.set_text(str(entry.get_label()))
    return legend


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
