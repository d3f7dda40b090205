"""Numbers as a table has room for them: as many digits as say something."""

import math

LEAST, MOST = 1e-3, 1e6  # outside, powers of ten are easier to read
SIGNIFICANT = 4


def number(
    value: float,
    *,
    sign: str = "",
    low: float = math.nan,
    high: float = math.nan,
    digits: int = SIGNIFICANT,
) -> str:
    """A value, and its interval where it has one, all to the same place.

    Args: digits: of the largest of them.

    >>> number(238.9238), number(0.0000032, sign="+"), number(-0.0), number(math.nan)
    ('238.9', '+3.2e-06', '0', '-')
    >>> number(0.05, sign="+", low=-0.0012, high=0.1)
    '+0.0500 [-0.0012, +0.1000]'
    """
    if math.isnan(value):
        return "-"
    values = [value] if math.isnan(low) else [value, low, high]
    largest = max(map(abs, values))
    if largest == 0 or not math.isfinite(largest):
        return "0" if largest == 0 else f"{value:{sign}}"
    if LEAST <= largest < MOST:
        places = max(0, digits - 1 - math.floor(math.log10(largest)))
        told = [_plain(f"{each:{sign}.{places}f}") for each in values]
    else:
        told = [_plain(f"{each:{sign}.3g}") for each in values]
    return told[0] if len(told) == 1 else f"{told[0]} [{told[1]}, {told[2]}]"


def _plain(text: str) -> str:
    """Nothing but zeros is 0, without a sign."""
    return text if any(digit in text.partition("e")[0] for digit in "123456789") else "0"
