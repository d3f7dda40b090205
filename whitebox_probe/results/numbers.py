"""Numbers in print, with the digits that their intervals let them have, and tables of them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

DIGITS = 2
"""Digits that half of an interval keeps: more of a mean than that is noise."""
ALONE = 4
"""Significant digits of a number without an interval."""
MOST = 6
"""Significant digits of the largest number of a cell, however narrow its interval."""
_ROUNDING = 1e-9
_SMALL, _LARGE = 1e-3, 1e6  # outside of which numbers are written with an exponent


@dataclass(frozen=True)
class Number:
    """A value with its interval, NaN where there is none.

    Args: sign: `+` to write it in front of what is positive too, as of a change.

    >>> print(Number(0.51234, 0.50871, 0.51602), Number(123.4567, sign="+"), Number(0.0))
    0.5123 [0.5087, 0.5160] +123.5 0
    >>> print(Number(1.23e-7, 1.1e-7, 1.4e-7), Number(-0.0001, -0.5, 0.5, sign="+"))
    1.23e-7 [1.10e-7, 1.40e-7] 0.00 [-0.50, +0.50]
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    sign: str = ""

    def __str__(self) -> str:
        """As text, `-` where there is no value."""
        told = self.parts()
        return f"{told[0]} [{told[1]}, {told[2]}]" if len(told) == 3 else (told or ["-"])[0]

    def latex(self) -> str:
        r"""For siunitx.

        >>> print(Number(0.51234, 0.50871, 0.51602).latex())
        \num{0.5123} [\num{0.5087}, \num{0.5160}]
        """
        told = [rf"\num{{{text}}}" for text in self.parts()]
        return f"{told[0]} [{told[1]}, {told[2]}]" if len(told) == 3 else (told or ["--"])[0]

    def parts(self) -> list[str]:
        """The value, and the ends of the interval if there is one; empty without a value."""
        if math.isnan(self.value):
            return []
        whole = [self.value, self.low, self.high]
        some = [x for x in whole if not math.isnan(x)]
        if not all(map(math.isfinite, some)):
            return [f"{x:{self.sign}g}" for x in some]
        if not any(some):
            return ["0"]
        exponent = _exponent(max(map(abs, some)))
        scale = exponent if not _SMALL <= 10.0**exponent < _LARGE else 0
        shift = 10.0**-scale
        decimals = self._decimals(exponent) + scale
        return [_fixed(x * shift, max(0, decimals), self.sign, scale) for x in some]

    def _decimals(self, exponent: int) -> int:
        """Decimal places, by the width of the interval and the size of the largest number."""
        half = (self.high - self.low) / 2
        if not half > _ROUNDING * 10.0**exponent:  # none, or nothing but rounding
            return ALONE - 1 - exponent
        return min(DIGITS - 1 - _exponent(half), MOST - 1 - exponent)


def text(value: float, low: float = math.nan, high: float = math.nan, *, sign: str = "") -> str:
    """A number as text.

    >>> text(2.0, 1.9, 2.1)
    '2.00 [1.90, 2.10]'
    """
    return str(Number(value, low, high, sign))


def _exponent(x: float) -> int:
    """Of ten, of a positive number as it is rounded."""
    return int(f"{x:.{ALONE - 1}e}".partition("e")[2])


def _fixed(x: float, decimals: int, sign: str, scale: int) -> str:
    """With so many decimals; zero has no sign, however it came about."""
    if float(f"{x:.{decimals}f}") == 0:
        return f"{0:.{decimals}f}"
    return f"{x:{sign}.{decimals}f}" + (f"e{scale}" if scale else "")


Cell = str | Number
_EDGE = re.compile(r"(?<!\w)_|_(?!\w)")


def latex(
    header: Sequence[str], rows: Sequence[Sequence[Cell]], *, caption: str | None = None
) -> str:
    r"""Rows as a booktabs tabular, in a floating table if it has a caption.

    Numbers stand in `\num{}`, so that siunitx sets them as the document's others.
    """
    of = [
        "r" if any(isinstance(row[i], Number) for row in rows) else "l" for i in range(len(header))
    ]
    lines = [" & ".join(map(_tex, row)) + r" \\" for row in (header, *rows)]
    body = [rf"\begin{{tabular}}{{{''.join(of)}}}", r"\toprule", lines[0], r"\midrule"]
    body += [*lines[1:], r"\bottomrule", r"\end{tabular}"]
    needs = r"% needs \usepackage{booktabs,siunitx}"
    if caption is not None:
        told = rf"\caption{{{_tex(caption)}}}"
        body = [r"\begin{table}", r"\centering", told, *body, r"\end{table}"]
    return "\n".join([needs, *body]) + "\n"


def markdown(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Rows as a table of GitHub's Markdown, numbers to the right."""
    right = [any(isinstance(row[i], Number) for row in rows) for i in range(len(header))]
    rule = ["---:" if each else "---" for each in right]
    lines = [rule if row is None else list(map(_marked, row)) for row in (header, None, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SPECIAL |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}


def _tex(cell: Cell) -> str:
    if isinstance(cell, Number):
        return cell.latex()
    return "".join(_SPECIAL.get(character, character) for character in " ".join(cell.split()))


def _marked(cell: Cell) -> str:
    """Text that Markdown shows as it is; an underscore inside a word is safe."""
    if isinstance(cell, Number):
        return str(cell)
    plain = "".join(f"\\{c}" if c in "\\`*|<>$~" else c for c in " ".join(cell.split()))
    return _EDGE.sub(r"\\_", plain)
