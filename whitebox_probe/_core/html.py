"""The parts of what a notebook shows of a thing: cards, tables, sparklines, words in colour.

All of it stands by itself: no script, nothing fetched. Colours are the page's own, or such that
they can be read on a light and on a dark one; what a colour says, a word says too.
"""

import base64
import html
import math
from collections.abc import Sequence
from typing import Literal

from whitebox_probe._core.lines import shown

BLUE = "#3a8fc4"
"""Of lines and areas: three to one and more on white and on black."""
_TEXT = 4000
SHOWN = 12
"""Rows that a table shows; the rest is folded."""
# Words in white on them have 4.5 to one and more. Green, vermilion and ochre stay apart for
# colour-blind eyes, and each has its sign.
_BADGES = {
    "good": ("#00704f", "✓"),
    "bad": ("#b84300", "✗"),
    "doubt": ("#7d5a00", "?"),
    "plain": ("#666666", "○"),
}
Look = Literal["good", "bad", "doubt", "plain"]
_STYLE = """<style>
.wbprobe{max-width:880px;font-size:13px;line-height:1.45;overflow-x:auto;color:inherit}
.wbprobe .wb-head{margin:0 0 2px}
.wbprobe .wb-facts{margin:0 0 6px;opacity:.8}
.wbprobe .wb-dim{opacity:.72;font-size:12px}
.wbprobe table.wb{border-collapse:collapse;border:0;margin:2px 0 6px;font-size:12.5px;color:inherit}
.wbprobe table.wb :is(th,td){border:0;border-bottom:1px solid rgba(128,128,128,.3);
padding:3px 10px 3px 0;text-align:left;vertical-align:middle;background:none;color:inherit;
white-space:normal;max-width:none}
.wbprobe table.wb tr,.wbprobe table.wb tr:hover{background:none}
.wbprobe table.wb th{font-weight:600}
.wbprobe table.wb .wb-n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.wbprobe details{margin:2px 0}
.wbprobe summary{cursor:pointer}
.wbprobe svg{display:block;overflow:visible}
.wbprobe ul{margin:2px 0 4px;padding-left:20px}
</style>"""


def escape(text: object) -> str:
    """Text as HTML shows it, in quoted attributes too: nothing of it acts; long lines are cut."""
    return html.escape("\n".join(shown(line, _TEXT) for line in str(text).split("\n")))


def card(kind: str, name: str, facts: Sequence[str], *body: str) -> str:
    """A thing's kind and name, facts in a line, and parts that are HTML already."""
    told = " · ".join(map(escape, facts))
    head = f'<p class="wb-head">{escape(kind)} <b>{escape(name)}</b></p>'
    head += f'<p class="wb-facts">{told}</p>' if told else ""
    return page(head, *body)


def page(*body: str) -> str:
    """Parts that are HTML already, in the look of a card."""
    return f'{_STYLE}<div class="wbprobe">{"".join(body)}</div>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Sequence[int] = ()
) -> str:
    """A table of cells that are HTML already, all but the first `SHOWN` rows folded.

    Args: numbers: the columns that are set to the right.
    """

    def row(cells: Sequence[str], tag: str) -> str:
        sides = (' class="wb-n"' if i in numbers else "" for i in range(len(cells)))
        each = (f"<{tag}{s}>{cell}</{tag}>" for s, cell in zip(sides, cells, strict=True))
        return f"<tr>{''.join(each)}</tr>"

    def whole(some: Sequence[Sequence[str]]) -> str:
        body = "".join(row(cells, "td") for cells in some)
        top = row([escape(cell) for cell in head], "th")
        return f'<table class="wb"><thead>{top}</thead><tbody>{body}</tbody></table>'

    # A fold for a row or two costs more room than it saves.
    open_ = SHOWN if len(rows) > SHOWN + 2 else len(rows)
    more = fold(f"{len(rows) - open_} more rows", whole(rows[open_:])) if rows[open_:] else ""
    return whole(rows[:open_]) + more


def fold(title: str, body: str) -> str:
    """A part that is opened by a click."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def items(lines: Sequence[str]) -> str:
    """Lines of text as a list; nothing for none."""
    told = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{told}</ul>" if told else ""


def dim(text: object) -> str:
    """Text that stands back."""
    return f'<span class="wb-dim">{escape(text)}</span>'


def badge(word: str, look: Look, *, title: str = "") -> str:
    """A word in colour, with a sign of its own."""
    colour, sign = _BADGES[look]
    style = f"background:{colour};color:#fff;border-radius:3px;padding:1px 6px;white-space:nowrap"
    about = f' title="{escape(title)}"' if title else ""
    return f'<span style="{style}"{about}>{sign} {escape(word)}</span>'


def sparkline(
    values: Sequence[float],
    *,
    low: Sequence[float] = (),
    high: Sequence[float] = (),
    zero: bool = False,
    mark: int | None = None,
    title: str = "",
) -> str:
    """A line over the layers, with its band, as inline SVG.

    Args:
        zero: draw the line of zero, and keep it in view.
        mark: which value has the dot; the last one if not given.
        title: what it is, in words.
    """
    wide, tall, pad = 110.0, 24.0, 3.0
    edges = [*low, *high] if len(low) == len(high) == len(values) else []
    known = [v for v in (*values, *edges, *([0.0] if zero else [])) if math.isfinite(v)]
    if not any(math.isfinite(v) for v in values):
        return ""
    least, most = min(known), max(known)
    spread = most - least
    # A line that is flat to its last digits is drawn flat.
    flat = spread <= 1e-9 * max(abs(least), abs(most))

    def at(i: int, value: float) -> str:
        x = pad + (wide - 2 * pad) * (i / (len(values) - 1) if len(values) > 1 else 0.5)
        y = tall / 2 if flat else pad + (tall - 2 * pad) * (most - value) / spread
        return f"{x:.1f},{y:.1f}"

    parts = []
    if zero and not flat:
        y = at(0, 0.0).partition(",")[2]
        style = 'stroke="currentColor" stroke-opacity=".45" stroke-dasharray="2 2"'
        parts.append(f'<line x1="0" x2="{wide:g}" y1="{y}" y2="{y}" {style}/>')
    if edges and all(map(math.isfinite, edges)) and not flat:
        there = [at(i, v) for i, v in enumerate(high)]
        back = [at(i, v) for i, v in reversed(list(enumerate(low)))]
        parts.append(
            f'<polygon points="{" ".join([*there, *back])}" fill="{BLUE}" fill-opacity=".25"/>'
        )
    line = " ".join(at(i, v) for i, v in enumerate(values) if math.isfinite(v))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{BLUE}" stroke-width="1.5"/>')
    dot = len(values) - 1 if mark is None else mark
    if math.isfinite(values[dot]):
        x, y = at(dot, values[dot]).split(",")
        parts.append(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{BLUE}"/>')
    return (
        f'<svg width="{wide:g}" height="{tall:g}" viewBox="0 0 {wide:g} {tall:g}" role="img" '
        f'aria-label="{escape(title)}"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )


def image(png: bytes, *, width: int, height: int, title: str = "") -> str:
    """A small picture; its pixels stay sharp when it is larger than they are."""
    data = base64.b64encode(png).decode()
    return (
        f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" '
        f'style="image-rendering:pixelated;margin:0 4px 4px 0;display:inline-block" '
        f'alt="{escape(title)}" title="{escape(title)}"/>'
    )
