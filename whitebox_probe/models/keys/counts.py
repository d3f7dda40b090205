"""What numbers and shapes in a file's keys say, alike in many formats."""

import math
from collections.abc import Iterable


def numbered(keys: Iterable[str], prefix: str) -> int:
    """How many layers there are, by the number that follows a prefix in their keys.

    >>> numbered(["blocks.0.norm.weight", "blocks.0.norm.bias", "blocks.1.norm.bias"], "blocks.")
    2
    """
    rest = (key.removeprefix(prefix) for key in keys if key.startswith(prefix))
    return len({name.replace("/", ".").partition(".")[0] for name in rest})


def flat_patch(width: int) -> tuple[int, int]:
    """The channels, 3 or else 1, and the side of the patches that are `width` numbers each."""
    channels = next((c for c in (3, 1) if math.isqrt(width // c) ** 2 * c == width), 1)
    return channels, math.isqrt(width // channels)


def grid_side(rows: int) -> int:
    """The side of the square grid whose rows stand behind one of a class token."""
    return math.isqrt(max(rows - 1, 0))
