"""Patches by convolutions, as ToST and CBT embed images."""

import math
from itertools import pairwise

from torch import Tensor, nn


class ConvEmbed(nn.Module):
    """Patches by convolutions that each halve the image: (B, C, H, W) -> (B, d, rows, columns)."""

    def __init__(self, channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        steps = int(math.log2(patch_size))
        if 2**steps != patch_size or steps < 1:
            raise ValueError(f"a patch size of {patch_size} is no power of 2")
        widths = [channels, *(dim // 2**k for k in reversed(range(steps)))]
        parts: list[nn.Module] = []
        for before, after in pairwise(widths):
            convolution = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
            parts += [nn.GELU(), nn.Sequential(convolution, nn.BatchNorm2d(after))]
        self.proj = nn.Sequential(*parts[1:])

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)
