"""From the names of DINOv2's own training code, and of its relatives, to those of timm."""

import re
from collections.abc import Mapping

from torch import Tensor

_CHUNK = re.compile(r"^blocks\.\d+\.(?=\d+\.)")


def is_release(weights: Mapping[str, Tensor]) -> bool:
    """Whether a vision transformer's keys are of that code; beside them it keeps a mask token."""
    return "blocks.0.ls1.gamma" in unchunked(weights)


def unchunked(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights with every block under its own number.

    To share a network between machines, training puts its blocks in chunks and keeps their
    numbers: the 23rd block is `blocks.3.22`, and `blocks.22` here.
    """
    return {_CHUNK.sub("blocks.", key): tensor for key, tensor in weights.items()}
