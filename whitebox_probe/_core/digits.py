"""Numbers as a table has room for them: with the digits that their intervals let them have."""

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal

DIGITS = 2
"""Digits that half of an interval keeps: more of a mean than that is noise."""
ALONE = 4
"""Significant digits of a number without an interval."""
MOST = 6
"""Significant digits of the largest number of a cell, however narrow its interval."""
_ROUNDING = 1e-9
_SMALL, _LARGE = 1e-3, 1e6  # outside of which numbers are written with an exponent
_EXACT = Context(prec=1100, rounding=ROUND_HALF_EVEN)  # more digits than any float has


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
        decimals = self._decimals(exponent) + scale
        return [_fixed(x, max(0, decimals), self.sign, scale) for x in some]

    def _decimals(self, exponent: int) -> int:
        """Decimal places, by the width of the interval and the size of the largest number."""
        half = self.high / 2 - self.low / 2  # the width itself may be more than a float holds
        if not half > _ROUNDING * 10.0**exponent:  # none, or nothing but rounding
            return ALONE - 1 - exponent
        return min(DIGITS - 1 - _exponent(half), MOST - 1 - exponent)


def number(value: float, *, sign: str = "", low: float = math.nan, high: float = math.nan) -> str:
    """A number as text, with its interval if it has one.

    >>> number(238.9238), number(0.0000032, sign="+"), number(-0.0), number(math.nan)
    ('238.9', '+3.200e-6', '0', '-')
    >>> number(2.0, low=1.9, high=2.1)
    '2.00 [1.90, 2.10]'
    """
    return str(Number(value, low, high, sign))


def _exponent(x: float) -> int:
    """Of ten, of a positive number as it is rounded."""
    return int(f"{x:.{ALONE - 1}e}".partition("e")[2])


def _fixed(x: float, decimals: int, sign: str, scale: int) -> str:
    """With so many decimals; zero has no sign, however it came about."""
    # As a Decimal: the power of ten that brings up a denormal is more than a float holds.
    exact = Decimal.from_float(float(x)).scaleb(-scale, _EXACT)
    rounded = exact.quantize(Decimal((0, (1,), -decimals)), context=_EXACT)
    if not rounded:
        return f"{0:.{decimals}f}"
    return f"{rounded:{sign}f}" + (f"e{scale}" if scale else "")
