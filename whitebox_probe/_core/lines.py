"""A thing in one line."""

from collections.abc import Sequence

LINE = 150  # characters
_NAME = 40


def names(several: Sequence[str], *, most: int = 2) -> str:
    """Names, shortened in their middle; of more than a few, the first and how many there are.

    >>> names(["a", "b", "c"]), names(["a", "b"])
    ('a, b and 1 more', 'a, b')
    """
    told = ", ".join(map(short, several[:most]))
    return f"{told} and {len(several) - most} more" if len(several) > most else told


def short(text: str, most: int = _NAME) -> str:
    """Text of so many characters at most, on one line.

    >>> short("vit_giant_patch14_reg4_dinov2.lvd142m", 16)
    'vit_gia…lvd142m'
    """
    text = " ".join(text.split())
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"
