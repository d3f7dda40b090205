"""Curves of one kind for things in an order, as layers: a sequential colour each, and its bar."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from whitebox_probe.plots._palette import Palette, map_of_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LIGHT = 0.88  # of a colour map: what is lighter does not show on white


def colours(count: int, palette: Palette) -> list[Any]:
    """A colour each, dark for the first ones.

    Raises: ProbeError for what is no colour map.
    """
    from matplotlib import colormaps

    found = map_of_values(palette, "viridis")
    cmap = colormaps[found] if isinstance(found, str) else found
    return [cmap(_LIGHT * i / max(1, count - 1)) for i in range(count)]


def add_bar(
    axes: "Axes | Sequence[Axes]",
    of: Sequence[Any],
    values: Sequence[float],
    label: str,
    *,
    words: Sequence[str] | None = None,
) -> None:
    """A bar beside the axes that says which colour is which value; none for a single one.

    Args: of: colours. words: of each value, at steps of one size; if not given, the bar is smooth,
        and its ends are told.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap, ListedColormap, Normalize

    if len(values) < 2:
        return
    first = axes[0] if isinstance(axes, Sequence) else axes
    if words is not None:
        steps = [i - 0.5 for i in range(len(values) + 1)]
        mapped = ScalarMappable(BoundaryNorm(steps, len(values)), ListedColormap(list(of)))
        ticks: list[float] = list(range(len(values)))
    else:
        ends = Normalize(values[0], values[-1])
        mapped = ScalarMappable(ends, LinearSegmentedColormap.from_list("sequence", list(of)))
        ticks = [values[0], values[-1]]
    bar = first.figure.colorbar(mapped, ax=axes, pad=0.02, aspect=25)
    bar.outline.set_linewidth(0)
    bar.set_label(label)
    bar.set_ticks(ticks, labels=words)
    bar.ax.tick_params(which="minor", length=0)
