"""Similarity of layers as a heatmap: layers of one model against layers of another."""

from typing import TYPE_CHECKING, Any

from whitebox_probe._core.arguments import one_of
from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.plots import _fit, style
from whitebox_probe.plots._heatmaps import Scale, add_bar, paint, trim
from whitebox_probe.plots._names import verbatim, words
from whitebox_probe.plots._palette import Palette, colour_map, colours
from whitebox_probe.plots.kind import figure
from whitebox_probe.plots.page import Page, Size, extent, page, refuse_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from whitebox_probe.results.similarity import Similarity

MEANING = {
    "cka": Scale("linear CKA (unbiased)", 0.0, 1.0),
    "overlap": Scale("overlap of leading subspaces", 0.0, 1.0),
    "procrustes": Scale("Procrustes distance", 0.0, 2.0),
}


@figure(takes="similarity")
def similarity(
    found: "Similarity",
    *,
    measure: str = "cka",
    labels: style.Labels = None,
    palette: Palette = None,
    ax: "Axes | None" = None,
    size: Size = None,
    width: style.Width | None = None,
    title: str | None = None,
    colorbar: bool = True,
) -> "Figure":
    """Every layer of the first model (rows) against every layer of the second (columns).

    Args:
        found: from `wp.similarity`.
        measure: `cka`, `overlap` or `procrustes`.
        labels: what models are called: a mapping from their names, or a list of two.
        palette: a colour map's name; or colours of the models' names, as a list or a mapping.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes. colorbar: beside them.

    Raises: ProbeError for an unknown measure.
    """
    if one_of(*MEANING)(measure):
        raise ProbeError(
            f"unknown measure '{measure}'",
            "a similarity holds three",
            nearest(str(measure), MEANING),
        )
    refuse_size(ax, size, width, "ax")
    names = list(dict.fromkeys([found.first, found.second]))
    shown = {name: verbatim(name) for name in names} | style.named(names, labels)
    coloured = palette is not None and not isinstance(palette, str)
    tint: dict[str, Any] = (
        colours(dict(zip(names, names, strict=True)), palette) if coloured else {}
    )
    matrix, cmap = getattr(found, measure), colour_map(palette)
    across, _, fixed = extent(size, width, usual="column", height=1)
    tall = size[1] if size else 0.55 + (across - 1.2) * matrix.shape[0] / matrix.shape[1]
    with page(ax, inches=(across, tall, fixed), panels="one", layout="compressed") as sheet:
        image = paint(sheet.ax, matrix, MEANING[measure], cmap, origin="lower")
        for axis, count, name in (
            (sheet.ax.xaxis, matrix.shape[1], found.second),
            (sheet.ax.yaxis, matrix.shape[0], found.first),
        ):
            step = max(1, -(-count // 12))
            axis.set_ticks(range(0, count, step), [str(i + 1) for i in range(0, count, step)])
            axis.set_label_text(f"layer of {shown[name]}")
            if name in tint:
                axis.label.set_color(tint[name])
        if colorbar:
            add_bar(sheet, image, MEANING[measure], fraction=0.05, aspect=20)
        if title:
            sheet.ax.set_title(words(title))
        _fit_labels(sheet)
        if sheet.own and size is None:
            trim(sheet)
    return sheet.figure


def _fit_labels(sheet: Page) -> None:
    if sheet.own:
        _fit.lay_out(sheet.figure)
    box = sheet.ax.get_window_extent()
    _fit.fit(sheet.ax.xaxis.label, box.width)
    _fit.fit(sheet.ax.yaxis.label, box.height)
    _fit.fit(sheet.ax.title, box.width)
