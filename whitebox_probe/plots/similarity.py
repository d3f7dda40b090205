"""Similarity of layers as a heatmap: layers of one model against layers of another."""

from typing import TYPE_CHECKING

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.plots import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from whitebox_probe.results.similarity import Similarity

__all__ = ["similarity"]

MEANING = {
    "cka": ("linear CKA (unbiased)", 0.0, 1.0),
    "overlap": ("overlap of leading subspaces", 0.0, 1.0),
    "procrustes": ("Procrustes distance", 0.0, 2.0),
}


def similarity(
    found: "Similarity",
    *,
    measure: str = "cka",
    width: style.Width = "column",
    title: str | None = None,
) -> "Figure":
    """Every layer of the first model (rows) against every layer of the second (columns).

    Args: found: from `wp.similarity`. measure: `cka`, `overlap` or `procrustes`.

    Raises: ProbeError for an unknown measure.
    """
    if measure not in MEANING:
        raise ProbeError(
            f"unknown measure '{measure}'",
            "a similarity holds three",
            f"Use one of: {', '.join(MEANING)}",
        )
    label, low, high = MEANING[measure]
    matrix = getattr(found, measure)
    inches = style.inches(width)
    with style.styled():
        from whitebox_probe.plots._figure import StyledFigure

        rows, columns = matrix.shape
        size = (inches, 0.55 + (inches - 1.2) * rows / columns)
        figure = StyledFigure(figsize=size, layout="compressed")
        ax = figure.subplots()
        image = ax.imshow(matrix, vmin=low, vmax=high, interpolation="nearest", origin="lower")
        ax.grid(visible=False)
        for axis, count, name in ((ax.xaxis, columns, found.second), (ax.yaxis, rows, found.first)):
            step = max(1, -(-count // 12))
            axis.set_ticks(range(0, count, step), [str(i + 1) for i in range(0, count, step)])
            axis.set_label_text(f"layer of {name}")
        figure.colorbar(image, ax=ax, label=label, fraction=0.05)
        if title:
            ax.set_title(title)
    return figure
