"""Figures of one panel a model, whose curves stand for layers, or for settings, in an order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from whitebox_probe.plots import _fit, _legend, _sequence, style
from whitebox_probe.plots._comparable import check_results
from whitebox_probe.plots._palette import Palette
from whitebox_probe.plots._where import Where
from whitebox_probe.plots.page import Size, extent, page, refuse_size
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Options(Where):
    """Keywords of every figure of one panel a model.

    Args:
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: a colour map's name.
        axes: draw in these axes, one a model, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or by the number of models.
        title: above the panels; if not given, which of several settings was picked, if one was.
    """

    labels: style.Labels = None
    palette: Palette = None
    axes: Any = None
    size: Size = None
    width: style.Width | None = None
    title: str | None = None


Paint = Callable[["Axes", Result, list[Any]], list[Any]]
"""Draws one model's panel in given colours, and returns what the legend names."""


def draw(
    results: Sequence[Result],
    paint: Paint,
    label: str,
    options: Options,
    *,
    bar: tuple[Sequence[float], str],
    words: Sequence[str] | None = None,
    told: Sequence[str] = (),
) -> "Figure":
    """One panel a result, side by side.

    Args: label: of what is drawn. bar: what the colours stand for, one each, and its label. words:
        at the bar for each of them, if they are not told by its ends. told: settings that the
        labels say.
    """
    check_results(results)
    refuse_size(options.axes, options.size, options.width, "axes")
    values, meaning = bar
    of = _sequence.colours(len(values), options.palette)
    looks = style.looks(
        [result.model for result in results],
        initial=style.initial(results),
        nulls=style.nulls(results),
        labels=options.labels,
    )
    usual: style.Width = "column" if len(results) == 1 else "text"
    inches = extent(options.size, options.width, usual=usual, height=2.2)
    panels = f"{len(results)} models"
    with page(options.axes, inches=inches, shape=(1, len(results)), panels=panels) as sheet:
        axes, handles = list(sheet.axes[0]), []
        for ax, result in zip(axes, results, strict=True):
            handles = paint(ax, result, of)
            ax.set_title(looks[result.model].label, fontsize=sheet.points(8, ax=ax))
        if sheet.own:
            for ax in axes[1:]:
                ax.sharey(axes[0])
                ax.tick_params(labelleft=False)
        sheet.ax.set_ylabel(label)
        _sequence.add_bar(axes, of, values, meaning, words=words)
        if handles:
            _legend.draw(sheet, handles, bands=[], note=None)
        sheet.head(options.above(options.title, besides=told))
        if sheet.own:
            _fit.lay_out(sheet.figure)
        for ax in axes:
            _fit.fit(ax.title, ax.get_window_extent().width)
        _fit.fit(sheet.ax.yaxis.label, sheet.ax.get_window_extent().height)
    return sheet.figure
