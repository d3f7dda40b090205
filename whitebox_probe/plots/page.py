"""Where a figure is drawn: on a page of its own, or in the caller's axes."""

import math
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whitebox_probe._core.arguments import is_number, told
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.plots import _fit, _settings, style
from whitebox_probe.plots._names import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

Size = tuple[float, float] | None
LEAST, MOST = 0.5, 200
"""Inches that a figure may be wide and high."""


@dataclass(frozen=True)
class Page:
    """Where a figure is drawn.

    Attributes:
        axes: a grid. own: whether the page is ours. fixed: whether its size is settled.
        type: share of its size that small type is set at.
    """

    figure: "Figure"
    axes: np.ndarray
    own: bool
    fixed: bool
    type: float = 1.0

    @property
    def ax(self) -> "Axes":
        """The first of the axes."""
        found: Axes = self.axes.flat[0]
        return found

    def points(self, of: float, *, ax: "Axes | None" = None) -> float:
        """A size of type, given for the package's 8 pt, at the size in force."""
        base = _settings.setting("font.size") if self.own else _fit.points((ax or self.ax).title)
        # The titles of the caller's axes are larger than what stands beside them.
        return self.type * of / 8 * float(base) / (1 if self.own else 1.2)

    def head(self, title: str | None) -> "Text | None":
        """The figure's title, on our page; on the caller's above the first of the axes."""
        if title and self.own:
            above = self.figure.suptitle(words(title))
            _fit.fit(above, self.figure.bbox.width)
            return above
        if title:
            self.ax.set_title("\n".join(filter(None, (words(title), self.ax.get_title()))))
        return None


def extent(
    size: Size, width: style.Width | None, *, usual: style.Width, height: dict[str, float] | float
) -> tuple[float, float, bool]:
    """Width and height in inches, and whether they were asked for as they are.

    Args: size: as given. width: of a paper's column or text, if given. usual: if it is not, and the
        user has no figure.figsize. height: of the figure, or by its width's name.
    Raises: ProbeError for what is no size.
    """
    if size is None and width is None:
        size = (
            tuple(_settings.setting("figure.figsize"))
            if _settings.is_set("figure.figsize")
            else None
        )
        width = usual
    if size is None:
        assert width is not None
        across = style.inches(width)
        return across, height if isinstance(height, float | int) else height[width], False
    if not _is_size(size):
        raise ProbeError(
            f"size={told(size)} is no size of a figure",
            f"it is a width and a height in inches, each from {LEAST:g} to {MOST:g}",
            "Pass size=(6.8, 3)",
        )
    return float(size[0]), float(size[1]), True


def _is_size(size: Any) -> bool:
    pair = isinstance(size, tuple | list) and len(size) == 2
    return pair and all(is_number(x) and LEAST <= x <= MOST for x in size)


@contextmanager
def page(
    given: Any,
    *,
    inches: tuple[float, float, bool],
    shape: tuple[int, int] = (1, 1),
    panels: str = "",
    layout: Literal["constrained", "compressed"] = "constrained",
    sharex: Literal["none", "col"] = "none",
    type_: float = 1.0,
) -> Iterator[Page]:
    """A page to draw on; one of our own is in the package's style, and keeps all texts on it.

    Args:
        given: the caller's axes, if any: nothing but them is touched, and no setting either.
        inches: from `extent`. type_: share of its size that small type is set at.
        shape: rows and columns of axes. panels: what they are, in words.

    Raises: ProbeError when the caller's axes are of another number.
    """
    if given is not None:
        axes = _checked(given, shape, panels)
        yield Page(axes.flat[0].figure.figure, axes, own=False, fixed=True)
        return
    with _settings.styled():
        from whitebox_probe.plots._figure import StyledFigure, offer

        figure = StyledFigure(figsize=inches[:2], layout=layout)
        axes = figure.subplots(*shape, squeeze=False, sharex=sharex)
        yield Page(figure, axes, own=True, fixed=inches[2], type=type_)
        _fit.settle(figure)
    offer(figure)


def refuse_size(given: Any, size: Size, width: style.Width | None, keyword: str) -> None:
    """The caller's axes have a size already."""
    asked = [name for name, value in (("size", size), ("width", width)) if value is not None]
    if given is not None and asked:
        raise ProbeError(
            f"{asked[0]}= and {keyword}= were both given",
            "the caller's axes have their size already",
            f"Leave out {asked[0]}=, or {keyword}= for a figure of that size",
        )


def _checked(given: Any, shape: tuple[int, int], panels: str) -> np.ndarray:
    from matplotlib.axes import Axes

    flat = _flat(given)
    wrong = [thing for thing in flat if not isinstance(thing, Axes)]
    if wrong or any(ax.figure is None for ax in flat):
        what = f"a {type(wrong[0]).__name__} was" if wrong else "axes of no figure were"
        raise ProbeError(
            f"{what} given to draw in",
            "a figure is drawn in axes of matplotlib",
            "Pass one of plt.subplots()[1]",
        )
    if other := next((ax for ax in flat if not _is_flat(ax)), None):
        raise ProbeError(
            f"axes of the projection '{other.name}' were given to draw in",
            "a figure is drawn along a straight x and a straight y",
            "Pass one of plt.subplots()[1]",
        )
    axes = np.empty(len(flat), dtype=object)
    axes[:] = flat
    need = math.prod(shape)
    if len(axes) != need:
        raise ProbeError(
            f"{len(axes)} axes were given, and {need} are needed",
            f"there is one for each of {panels or 'one panel'}",
            f"Pass {need}, as from plt.subplots({shape[0]}, {shape[1]})[1]",
        )
    return axes.reshape(shape)


def _flat(given: Any) -> list[Any]:
    """The axes of an array, a list, a mosaic, or lists of lists, row by row."""
    if isinstance(given, np.ndarray):
        return list(given.flat)
    if isinstance(given, Mapping):
        given = given.values()
    if isinstance(given, Sequence | ValuesView) and not isinstance(given, str):
        return [ax for part in given for ax in _flat(part)]
    return [given]


def _is_flat(ax: "Axes") -> bool:
    """Whether axes have a straight x and a straight y, and no more."""
    from matplotlib.projections import PolarAxes
    from matplotlib.projections.geo import GeoAxes

    return not isinstance(ax, PolarAxes | GeoAxes) and not hasattr(ax, "get_zlim")
