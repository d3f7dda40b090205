"""Cells of a table, and how narrow they can be made."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

GAP = 2
"""Blanks between columns."""
_EASY, _KEPT = (
    24,
    12,
)  # columns that a broken text has, if it is as long: to read well, and at least
_WORD = 24  # a longer one is cut, at any character
_NUMBER = re.compile(
    r"-|[-+<]?\d[\d.,]*(e[-+]?\d+)?%?([ \n]\[[^\[\]]*\])?|[-+]?(inf|nan)", re.ASCII
)
_INTERVAL = re.compile(r" (?=\[[^\[\]]*\]$)")


@dataclass(frozen=True)
class Grid:
    """Rows of text under a header.

    Attributes: given: for each row, the heading that it stands under, if there are any. broken: to
        how few columns texts may be broken, at words; 0 where they may not. Numbers never are.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    given: tuple[str, ...] = ()
    broken: int = 0

    @property
    def heads(self) -> tuple[str | None, ...]:
        """For each row."""
        return self.given or (None,) * len(self.rows)

    def narrower(self, by: str | None, spare: Sequence[str], *, once: bool) -> Iterator["Grid"]:
        """The table, then less and less wide ones, in the order of `_screen.table`.

        Args: once: a first column `by` says nothing where it would say the same again.
        """
        whole = self._once() if once and by == self.header[0] else self
        yield whole
        under = self._without(by, as_heads=True) if by else self
        yield under
        yield whole._stacked()
        grid = replace(under._stacked(), broken=_EASY)
        yield grid
        for name in spare:
            grid = grid._without(name)
            yield grid
        yield replace(grid, broken=_KEPT)

    @property
    def least(self) -> int:
        """Columns that it takes at least."""
        return sum(map(self._least, range(len(self.header)))) + GAP * (len(self.header) - 1)

    def widths(self, columns: int) -> list[int]:
        """Of its columns: the widest give way, until all of them fit."""
        found = [self._natural(at) for at in range(len(self.header))]
        room = columns - GAP * (len(found) - 1)
        least = [self._least(at) for at in range(len(found))]
        while sum(found) > room:
            at = max(range(len(found)), key=lambda i: (found[i] > least[i], found[i]))
            found[at] -= 1
        return found

    def numeric(self, at: int) -> bool:
        """Whether a column holds numbers."""
        cells = [row[at] for row in self.rows if row[at]]
        return bool(cells) and all(map(_NUMBER.fullmatch, cells))

    def _natural(self, at: int) -> int:
        lines = [line for row in self.rows for line in row[at].split("\n")]
        return max(map(_length, [*self.header[at].split("\n"), *lines]))

    def _least(self, at: int) -> int:
        natural = self._natural(at)
        if not self.broken or self.numeric(at):
            return natural
        cells = [self.header[at], *(row[at] for row in self.rows)]
        word = max((_length(word) for cell in cells for word in cell.split()), default=0)
        return min(natural, max(min(word, _WORD), self.broken))

    def _once(self) -> "Grid":
        """With a name in the first row alone of those that share it."""
        before = [None, *(row[0] for row in self.rows)]
        rows = zip(before, self.rows, strict=False)
        return replace(self, rows=tuple(("" if old == r[0] else r[0], *r[1:]) for old, r in rows))

    def _stacked(self) -> "Grid":
        """With intervals below their values."""
        rows = tuple(tuple(_INTERVAL.sub("\n", cell) for cell in row) for row in self.rows)
        header = tuple(_INTERVAL.sub("\n", name) for name in self.header)
        return replace(self, rows=rows, header=header)

    def _without(self, name: str, *, as_heads: bool = False) -> "Grid":
        at = self.header.index(name)

        def cut(cells: tuple[str, ...]) -> tuple[str, ...]:
            return (*cells[:at], *cells[at + 1 :])

        given = tuple(row[at] for row in self.rows) if as_heads else self.given
        return Grid(cut(self.header), tuple(map(cut, self.rows)), given, self.broken)


def _length(text: str) -> int:
    """Columns of a terminal that text takes."""
    from rich.cells import cell_len

    return cell_len(text)
