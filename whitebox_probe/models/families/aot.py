"""Attention-only transformers (AoT), for images or for text: the network, its sites, its files."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe.models.anatomy import Tap
from whitebox_probe.models.families._one_projection import (
    ONE_PROJECTION,
    OneProjectionAnatomy,
    Parts,
    square_grid,
)
from whitebox_probe.models.families._steps import (
    MSSA,
    Patches,
    PreNorm,
    expect_ids,
    patches_a_side,
)
from whitebox_probe.models.family import NetworkFamily, Recognised
from whitebox_probe.models.keys.counts import flat_patch, grid_side, numbered

_NO_SECOND_STEP = "its layers are attention and a skip connection, with no second step"


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


class AotAnatomy(OneProjectionAnatomy):
    """MSSA with a skip connection: with no second step, `z_half` and `z_out` are the same."""

    absent = {
        "mlp_in": _NO_SECOND_STEP,
        "mlp_hidden": _NO_SECOND_STEP,
        "code": _NO_SECOND_STEP,
    } | ONE_PROJECTION

    def count(self, module: Any) -> int:
        """The layers."""
        return len(module.layers)

    def tokens(self, module: Any) -> int | None:
        """The class token and the patches of an image; a text may have any length."""
        return None if module.causal else module.input.positions.shape[1]

    def parts(self, module: Any, number: int) -> Parts:
        """Those of a second step are absent."""
        path = f"layers.{number - 1}"
        taps = {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.norm", "output"),
            "attn_out": Tap(f"{path}.fn", "output"),
            "z_half": Tap(path, "output"),
            "z_out": Tap(path, "output"),
        }
        return Parts(f"{path}.fn", f"{path}.norm", taps, causal=module.causal)

    def prefix_tokens(self, module: Any) -> int:
        """The class token of the image model; none for text."""
        return 0 if module.causal else 1

    def grid(self, module: Any, inputs: Tensor) -> tuple[int, int] | None:
        """A square: the network is built for images of one side."""
        return square_grid(self.tokens(module), self.prefix_tokens(module))


class AotFamily(NetworkFamily):
    """AoT of Wang et al. 2025 (arXiv:2506.03790): Z + MSSA(LN Z) in each layer, and no MLP.

    No code and no weights of the authors were found. The block follows the paper's formula, with
    the free output map of the released CRATE code in place of U; the embedding, the head and all
    key names are our own, so a file can only come from this package's network.
    """

    name = "aot"
    network = AoT
    reads = AotAnatomy
    example = tuple(
        {"dim": 16, "depth": 2, "heads": 2, "dim_head": 6} | kind
        for kind in (
            {"image_size": 12, "patch_size": 4, "classes": 2},
            {"vocabulary": 23, "block_size": 8},
        )
    )
    tested = (
        "each layer against the paper's formula, for images and text; its own state dict, saved "
        "and loaded with the heads named. There is no published format"
    )
    fingerprints = tuple(
        {"layers.0.fn.qkv.weight": 2, "head.1.weight": 2} | positions
        for positions in ({"input.positions": 3}, {"input.positions.weight": 2})
    )

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """Our own names; the input says whether it is for images or text."""
        if not self.marked(shapes):
            return None
        qkv = shapes["layers.0.fn.qkv.weight"]
        head = shapes["head.1.weight"]
        positions = shapes.get("input.positions") or shapes["input.positions.weight"]
        arch: dict[str, Any] = {"dim": qkv[1], "depth": numbered(shapes, "layers.")}
        patch = shapes.get("input.projection.weight", ())
        if len(patch) != 2:
            arch |= {"vocabulary": head[0], "block_size": positions[0]}
            return Recognised(arch, inner=qkv[0])
        channels, patch_size = flat_patch(patch[1])
        arch |= {
            "image_size": grid_side(positions[1]) * patch_size,
            "patch_size": patch_size,
            "channels": channels,
            "classes": head[0],
        }
        return Recognised(arch, inner=qkv[0], flat=True)
