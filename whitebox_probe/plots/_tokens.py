"""Single tokens along an axis: a stretch of them, and their words where there is room."""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from whitebox_probe._core import lines
from whitebox_probe._core.arguments import is_whole, told
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.plots import _fit
from whitebox_probe.plots._names import verbatim
from whitebox_probe.plots.page import Page
from whitebox_probe.results.view import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_LEAST = 4.5  # points of type: smaller words are not read
_SHARE = 0.86  # of a token's room that its word takes
_MOST = 5  # numbers along an axis


def stretch(view: View, of: int, tokens: Any, usual: int | None) -> range:
    """The tokens that are drawn, out of so many.

    Args: tokens: the first one, and the one after the last, counted from 0. usual: how many of a
        text, if not given.
    Raises: ProbeError for what is no stretch of them.
    """
    if tokens is None:
        text = view.texts is not None and usual is not None
        return range(min(of, usual) if text and usual else of)
    pair = isinstance(tokens, tuple | list) and len(tokens) == 2
    whole = pair and all(map(is_whole, tokens))
    if not whole or not 0 <= tokens[0] < tokens[1] <= of:
        raise ProbeError(
            f"tokens={told(tokens)} is no stretch of the tokens",
            f"there are {of}, counted from 0",
            f"Pass the first one and the one after the last, as tokens=(0, {min(of, 24)})",
        )
    return range(int(tokens[0]), int(tokens[1]))


def shown(word: str) -> str:
    """A token as it is drawn, letter by letter: a line break is an arrow, nothing is a dot."""
    return lines.shown(word.replace("\n", "↵").replace("\t", " "), None) or "·"


def mark(
    sheet: Page,
    column: Iterable["Axes"],
    view: View,
    samples: Sequence[int],
    held: range,
    *,
    axes: Literal["y", "xy"],
) -> None:
    """Words of each sample's tokens beside its axes, where all can be read; else their numbers."""
    if sheet.own:
        _fit.lay_out(sheet.figure)
    for ax, sample in zip(column, samples, strict=True):
        words = None if view.texts is None else [view.texts[sample][i] for i in held]
        points, box = sheet.points(6, ax=ax), ax.get_window_extent()
        _mark(ax.yaxis, held, words, points, box.height)
        if axes == "xy":
            _mark(ax.xaxis, held, words, points, box.width, rotation=90)


def _mark(
    axis: "Axis",
    held: range,
    words: Sequence[str] | None,
    points: float,
    room: float,
    **turned: Any,
) -> None:
    """Args: points: the size of words that there is room for. room: of the axis, in pixels."""
    size = min(points, _SHARE * room / len(held) / axis.axes.figure.figure.dpi * 72)
    if words is not None and size >= _LEAST:
        drawn = [verbatim(shown(word).strip() or "␣") for word in words]
        axis.set_ticks(range(len(held)), drawn, fontsize=size, **turned)
        axis.set_tick_params(length=0, pad=1.5)
        return
    step = next(m * 10**e for e in count() for m in (1, 2, 5) if len(held) <= _MOST * m * 10**e)
    at = [i for i, token in enumerate(held) if token % step == 0]
    axis.set_ticks(at, [str(held[i]) for i in at], fontsize=points)
    axis.set_tick_params(length=2, pad=1.5)
