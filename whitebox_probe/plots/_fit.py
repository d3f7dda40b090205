"""Texts that stay on the page: wrapped, then shrunk, by measuring them."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.process import ONE_AT_A_TIME

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

# Formulas and bracketed units are not torn apart.
_PIECE = re.compile(
    r"(?:\\\$|[^\s$])*(?<!\\)\$(?:\\\$|[^$])*(?<!\\)\$(?:\\\$|[^\s$])*|\[[^\]]*\]|\S+"
)
_FORMULA = re.compile(r"(?<!\\)\$")
_BREAK = re.compile(r"(?<=[_./:,|-])")
# (share of the size, lines): more lines before smaller type, until nothing else is left.
_TRIES = (
    (1.0, 2), (0.92, 2), (1.0, 3), (0.92, 3), (0.84, 3), (0.76, 3),
    (0.76, 4), (0.7, 4), (0.6, 5), (0.5, 6), (0.4, 8), (0.3, 10),
)  # fmt: skip
_SIGN = re.compile(r"\\\w+\{\}|\\.|.")  # what TeX takes as one is not torn
_WORD = 40  # characters: what is longer is no word, and may be torn
_SMALLEST = 1.5  # points: below it nothing is gained


def points(text: "Text") -> float:
    """The size of a text's type."""
    return float(text.get_fontproperties().get_size_in_points())


def ruler(like: "Text") -> Callable[[str], float]:
    """Measures how long a line would be in the type of a text, in pixels."""
    from matplotlib.text import Text

    def length(line: str) -> float:
        text = Text(0, 0, line, fontproperties=like.get_fontproperties().copy())
        text.set_figure(like.get_figure())  # type: ignore[arg-type]
        return text.get_window_extent().width

    return length


def wrapped(text: str, room: float, length: Callable[[str], float]) -> list[str]:
    """Lines no longer than `room`, where the text can be broken: at spaces, or inside long names.

    >>> wrapped("a name-that-is-long [nats]", 9, len)
    ['a', 'name-', 'that-is-', 'long', '[nats]']
    >>> wrapped("a" * 50, 30, len) == ["a" * 30, "a" * 20]
    True
    """
    lines: list[str] = []
    for piece in _PIECE.findall(text):
        if lines and length(f"{lines[-1]} {piece}") <= room:
            lines[-1] += f" {piece}"
            continue
        lines.append("")
        broken = length(piece) > room and not _FORMULA.search(piece)
        for part in _parts(piece, room, length) if broken else [piece]:
            if lines[-1] and length(lines[-1] + part) > room:
                lines.append("")
            lines[-1] += part
    return lines


def _parts(piece: str, room: float, length: Callable[[str], float]) -> Iterator[str]:
    """Of a long name: broken where a reader would, and one that is no word anywhere."""
    for part in _BREAK.split(piece):
        signs = _SIGN.findall(part) if len(part) > _WORD else []
        while len(signs) > 1 and (whole := length("".join(signs))) > room:
            fits = max(1, int(len(signs) * room / whole))
            while fits > 1 and length("".join(signs[:fits])) > room:
                fits -= 1
            yield "".join(signs[:fits])
            del signs[:fits]
        yield "".join(signs) if signs else part


def fit(text: "Text", room: float, *, across: float | None = None, most: int = 10) -> bool:
    """Wrap and shrink a text until no line is longer than `room` pixels.

    Args: across: pixels for all lines together, if it matters. most: lines.
    Returns: whether it had to.
    """
    whole, size = text.get_text(), points(text)
    length = ruler(text)
    flat = not whole or max(map(length, whole.split("\n"))) <= room
    if flat and whole.count("\n") < most and (across is None or _across(text) <= across):
        return False
    if most == 1:
        text.set_fontsize(0.99 * size * min(1, room / length(whole)))
        return True
    for share, count in _TRIES:
        text.set_fontsize(size * share)
        lines = wrapped(whole, room, length)
        text.set_text("\n".join(lines))
        flat = max(map(length, lines)) <= room and len(lines) <= min(count, most)
        if flat and (across is None or _across(text) <= across):
            break
    return True


def settle(figure: "Figure", *, rounds: int = 12) -> None:
    """Lay the figure out, and shrink what still leaves the page."""
    for _ in range(rounds):
        with _room(figure):
            figure.draw_without_rendering()
        out = list(_outside(figure))
        if not out:
            return
        for text in out:
            text.set_fontsize(max(0.88 * points(text), _SMALLEST))


def lay_out(figure: "Figure") -> None:
    """Put the axes where they will stand."""
    if (engine := figure.get_layout_engine()) is not None:
        with _room(figure):
            engine.execute(figure)


@contextmanager
def _room(figure: "Figure") -> Iterator[None]:
    """An error where a layout finds no room for axes; matplotlib would only warn."""
    with ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.filterwarnings("error", "constrained_layout not applied", UserWarning)
        try:
            yield
        except UserWarning as error:
            width, height = figure.get_size_inches()
            raise ProbeError(
                f"the figure does not fit on {width:g} x {height:g} inches",
                "its texts leave no room for the axes",
                "Pass a larger size=, a smaller font.size, or shorter labels=",
            ) from error


def _outside(figure: "Figure") -> "Iterator[Text]":
    from matplotlib.text import Text

    page, unseen = figure.bbox, _out_of_view(figure)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text in unseen or not (text.get_visible() and text.get_text()):
            continue
        box = text.get_window_extent()
        if min(box.x0 - page.x0, box.y0 - page.y0, page.x1 - box.x1, page.y1 - box.y1) < 0:
            yield text


def _out_of_view(figure: "Figure") -> "set[Text]":
    """Labels of ticks beyond the limits, which are there and never drawn."""
    found = set()
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low <= tick.get_loc() <= high:
                found |= {tick.label1, tick.label2}
    return found


def _across(text: "Text") -> float:
    box = text.get_window_extent()
    return min(box.width, box.height) if text.get_rotation() % 180 else box.height
