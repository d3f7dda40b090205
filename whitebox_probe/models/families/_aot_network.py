"""The attention-only transformer, for images or for text; its parameter names are our own."""

from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe.models.families._crate_network import Patches
from whitebox_probe.models.families._steps import MSSA, PreNorm, expect_ids, patches_a_side


class ImageInput(nn.Module):
    """Patches of an image, projected, behind a class token: (B, C, H, W) -> (B, N + 1, d)."""

    def __init__(self, image_size: int, patch_size: int, channels: int, dim: int) -> None:
        super().__init__()
        self.patches = Patches(patch_size)
        self.projection = nn.Linear(channels * patch_size**2, dim)
        self.start = nn.Parameter(torch.randn(1, 1, dim))
        count = patches_a_side(image_size, patch_size) ** 2
        self.positions = nn.Parameter(torch.randn(1, count + 1, dim))

    def forward(self, images: Tensor) -> Tensor:
        x = self.projection(self.patches(images))
        return torch.cat([self.start.expand(len(x), -1, -1), x], dim=1) + self.positions


class TokenInput(nn.Module):
    """Token and position embeddings: ids (B, n) -> (B, n, d)."""

    def __init__(self, vocabulary: int, block_size: int, dim: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, dim)
        self.positions = nn.Embedding(block_size, dim)

    def forward(self, ids: Tensor) -> Tensor:
        words, positions = self.words, self.positions
        expect_ids(ids, vocabulary=words.num_embeddings, length=positions.num_embeddings)
        return words(ids) + positions(torch.arange(ids.shape[1], device=ids.device))


class Denoise(PreNorm):
    """One layer: x + MSSA(LN x), and nothing else."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class AoT(nn.Module):
    """Attention-only transformer: layers of MSSA with a skip connection, and no MLP.

    Shapes: images (B, C, H, W) -> logits of the class token (B, classes), where `image_size` is
    given; token ids (B, n) -> logits of the last token (B, vocabulary), where `vocabulary` is, with
    causal attention.
    Raises: DataError for ids outside the vocabulary, or more of them than `block_size`.
    References: Wang et al. 2025, arXiv:2506.03790.
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        heads: int,
        dim_head: int,
        image_size: int | None = None,
        patch_size: int = 16,
        channels: int = 3,
        classes: int = 1000,
        vocabulary: int | None = None,
        block_size: int = 1024,
    ) -> None:
        super().__init__()
        self.causal = vocabulary is not None
        if vocabulary is not None and image_size is None:
            self.input: Any = TokenInput(vocabulary, block_size, dim)
        elif image_size is not None and vocabulary is None:
            self.input = ImageInput(image_size, patch_size, channels, dim)
        else:
            raise ValueError("give image_size for images, or vocabulary for text, and not both")
        self.layers = nn.ModuleList(
            [Denoise(dim, MSSA(dim, heads, dim_head, causal=self.causal)) for _ in range(depth)]
        )
        outputs = classes if vocabulary is None else vocabulary
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, outputs, bias=not self.causal))

    def forward(self, x: Tensor) -> Tensor:
        x = self.input(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, -1 if self.causal else 0])
