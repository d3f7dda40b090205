"""What commands print: tables that fit the terminal, and plain text where there is none.

On a terminal a table is as wide as it at most. In a pipe, a file or a dumb terminal it is plain
text of its own width, which neither the environment nor the machine changes. Names are printed as
they are, never read as markup; characters that move the cursor or turn the line are shown escaped.
"""

import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.lines import shown as escaped
from whitebox_probe.cli._grid import GAP, Grid

if TYPE_CHECKING:
    from rich.console import Console

Rows = Sequence[Sequence[Any]]
_CELL = 2000
PIPED = 100
"""Columns of running text where there is no terminal."""
_UNBOUND = 100_000
_HEAD = "bold"


def on_terminal() -> bool:
    """Whether a person reads stdout on a terminal that can do more than print lines."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def shown(thing: object) -> str:
    r"""Text of one line, with whatever would act escaped; all of a sentence, not of a book.

    >>> print(shown("a\x1b[31mb\u202ec\n"))
    a\x1b[31mb\u202ec\n
    """
    return escaped(thing, _CELL)


def say(*lines: object) -> None:
    """Print lines, each of them escaped; an empty one without any."""
    for line in lines or ("",):
        print(shown(line))


def width(most: int | None = None) -> int:
    """Columns that there are: of the terminal, or `most` where there is none."""
    columns = _console().width if on_terminal() else most or _UNBOUND
    return min(columns, most or columns)


def wrapped(text: str, *, indent: str = "") -> str:
    """Running text, broken at words; its own lines stay lines, and further ones are indented."""
    columns = width(PIPED)
    lines = []
    for line in text.split("\n"):
        own = line[: len(line) - len(line.lstrip(" "))]
        lines += textwrap.wrap(
            shown(line),
            columns,
            subsequent_indent=own + indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    return "\n".join(lines)


def heading(text: str) -> str:
    """A line that stands above a table, in bold on a terminal."""
    from rich.text import Text

    return _rendered(Text(shown(text), _HEAD, overflow="fold"))


def pairs(facts: Iterable[tuple[str, object]]) -> str:
    """Names, and what is known of each, in two columns; the second is broken to fit."""
    rows = [[name, value] for name, value in facts]
    return table(rows, ("", ""))


def table(
    rows: Rows,
    header: Sequence[str],
    *,
    most: int | None = None,
    by: str | None = None,
    spare: Sequence[str] = (),
    tints: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Rows in aligned columns, numbers to the right, no wider than the terminal.

    What is too wide stands, in this order: under headings instead of beside them, with intervals
    below their values, in lines broken at words, without columns that can be spared (a last line
    names them), and at last a line a cell.

    Args: most: columns, where there is no terminal or a wider one. by: the column that headings are
        made of; its equal cells have to stand together. spare: columns that can be left out, the
        first of them first. tints: column -> how a cell that begins so is styled.
    """
    whole = Grid(tuple(header), tuple(tuple(map(shown, row)) for row in rows))
    columns = width(most)
    for grid in whole.narrower(by, spare, once=on_terminal()):
        if grid.least <= columns:
            kept = {*(" ".join(name.split("\n")) for name in grid.header), by}
            left = [name for name in header if name not in kept]
            lines = [_rendered(part) for part in _parts(grid, columns, tints or {})]
            return "\n".join(lines + [f"(left out, to fit: {', '.join(left)})"] * bool(left))
    return "\n\n".join(_one_a_line(whole))


def _parts(grid: Grid, columns: int, tints: Mapping[str, Mapping[str, str]]) -> Iterator[Any]:
    """A heading and a table for each of its groups; one table where it has none."""
    from rich.text import Text

    widths = grid.widths(columns)
    header = any(grid.header)
    if header and grid.given:
        yield _columns(grid, widths, header=True)
    for head, group in groupby(zip(grid.heads, grid.rows, strict=True), key=lambda pair: pair[0]):
        if head is not None:
            yield Text(f"{head}:", _HEAD, overflow="fold")
        part = _columns(grid, widths, header=header and not grid.given)
        for _, row in group:
            part.add_row(*map(_tinted, row, (tints.get(name, {}) for name in grid.header)))
        yield part


def _columns(grid: Grid, widths: Sequence[int], *, header: bool) -> Any:
    """A table without rows."""
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=header)
    for at, name in enumerate(grid.header):
        side: Any = "right" if grid.numeric(at) else "left"
        style = "" if any(grid.header) or at else _HEAD
        made.add_column(
            Text(name, _HEAD), justify=side, width=widths[at], overflow="fold", style=style
        )
    return made


def _tinted(cell: str, styles: Mapping[str, str]) -> Any:
    from rich.text import Text

    # The longest beginning wins: "not supported" is no "not applicable".
    style = next((s for start, s in styles.items() if cell.startswith(start)), "")
    return Text(cell, style)


def _one_a_line(grid: Grid) -> Iterator[str]:
    """Each row as lines of a name and a cell, for a terminal that no table fits."""
    from rich.text import Text

    for row in grid.rows:
        named = zip(grid.header, row, strict=True)
        lines = [f"{name}: {cell}" if name else cell for name, cell in named if cell]
        yield "\n".join(_rendered(Text(line, overflow="fold")) for line in lines)


def _rendered(thing: Any) -> str:
    """What rich makes of it, without blanks at the ends of lines."""
    console = _console()
    with console.capture() as captured:
        console.print(thing)
    return "\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n"))


def _console() -> "Console":
    """Of stdout as it is now; the environment decides on colours, and on nothing else."""
    from rich.console import Console, detect_legacy_windows

    live = on_terminal()
    plain = not live or "NO_COLOR" in os.environ or detect_legacy_windows()
    return Console(
        file=sys.stdout,
        width=None if live else _UNBOUND,
        force_terminal=live,
        force_jupyter=False,
        color_system=None if plain else "auto",
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
