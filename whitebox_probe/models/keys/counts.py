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


def flat_patch(width: int, channels: int | None = None) -> tuple[int, int]:
    """The channels and the side of square patches that are `width` numbers each.

    3 channels or else 1, then 4 and 2, unless they are known: 1 and 4 cannot be told apart.
    """
    tried = (3, 1, 4, 2) if channels is None else (channels,)
    fitting = (c for c in tried if c > 0 and math.isqrt(width // c) ** 2 * c == width)
    channels = next(fitting, channels or 1)
    return channels, math.isqrt(width // channels)


def flat_image(width: int, rows: int) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
    """Channels, patch and image of a file with flat patches; what is to be asked for.

    An image is taken to be square where its patches can be.
    """
    channels, patch = flat_patch(width)
    found = {"channels": channels, "patch_size": patch}
    side, n = grid_side(rows), rows - 1
    if side * side == n:
        return found | {"image_size": side * patch}, {}
    grids = [(h, n // h) for h in range(math.isqrt(max(n, 0)), 0, -1) if n % h == 0][:3]
    return found, {"image_size": tuple(f"[{h * patch},{w * patch}]" for h, w in grids)}


def grid_side(rows: int) -> int:
    """The side of the square grid whose rows stand behind one of a class token."""
    return math.isqrt(max(rows - 1, 0))
