"""The CRATE image classifier, with the parameter names of the official release."""

from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe.models.families._steps import ISTA, MSSA, PreNorm, patches_a_side


class Patches(nn.Module):
    """Cut images into flattened patches, channel fastest, as the release orders them."""

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        s = self.patch_size
        x = x.view(B, C, H // s, s, W // s, s)  # (B, C, rows, s, columns, s)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(B, -1, s * s * C)  # (B, N, s*s*C)


class Transformer(nn.Module):
    """The stack of layers; each is MSSA with its skip connection, then ISTA without one."""

    def __init__(
        self, dim: int, depth: int, heads: int, dim_head: int, step_size: float, lam: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(depth):
            attention = PreNorm(dim, MSSA(dim, heads, dim_head))
            self.layers.append(nn.ModuleList([attention, PreNorm(dim, ISTA(dim, step_size, lam))]))

    def forward(self, x: Tensor) -> Tensor:
        layer: Any
        for layer in self.layers:
            attention, ista = layer
            x = ista(x + attention(x))
        return x


class CRATE(nn.Module):
    """White-box transformer for image classification.

    Shapes: images (B, C, H, W) -> logits (B, classes).
    Args:
        eta: step size of the ISTA step. lam: its sparsity weight. Neither is a tensor in a file.
        extra_head: outputs of a second head beside `mlp_head`, as the file of the segmentation
            demo has it. Its weights are kept, and it takes no part in the forward pass.
        interpolate_positions: whether position embeddings of another resolution are resampled
            when a file is loaded (`resize_positions`); without it they are refused.
    References: Yu et al. 2023, arXiv:2306.01129.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch_size: int = 16,
        channels: int = 3,
        classes: int = 1000,
        dim: int,
        depth: int,
        heads: int,
        dim_head: int,
        eta: float = 0.1,
        lam: float = 0.1,
        extra_head: int | None = None,
        interpolate_positions: bool = False,
    ) -> None:
        super().__init__()
        self.interpolate_positions = interpolate_positions
        patch_dim = channels * patch_size**2
        self.image_size = image_size
        self.to_patch_embedding = nn.Sequential(
            Patches(patch_size),
            nn.LayerNorm(patch_dim),
            nn.Linear(patch_dim, dim),
            nn.LayerNorm(dim),
        )
        count = patches_a_side(image_size, patch_size) ** 2
        self.pos_embedding = nn.Parameter(torch.randn(1, count + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.transformer = Transformer(dim, depth, heads, dim_head, eta, lam)
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))
        if extra_head is not None:
            self.head = nn.Linear(classes, extra_head)

    def forward(self, img: Tensor) -> Tensor:
        x = self.to_patch_embedding(img)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        return self.mlp_head(self.transformer(x)[:, 0])
