"""CRATE image classifiers: the network of the official release, its sites, its files."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe.models.families._official import OfficialMSSA, is_mssa, is_official
from whitebox_probe.models.families._one_projection import Parts
from whitebox_probe.models.families._pairs import Pairs, PairsAnatomy
from whitebox_probe.models.families._steps import (
    MSSA,
    PUBLISHED_STEP,
    OneProjection,
    Patches,
    patch_grid,
    resampled,
)
from whitebox_probe.models.family import NetworkFamily, Recognised
from whitebox_probe.models.keys.counts import flat_image, numbered
from whitebox_probe.models.keys.positions import rule


class CRATE(nn.Module):
    """White-box transformer for image classification.

    Shapes: images (B, C, H, W) -> logits (B, classes).
    Args:
        image_size: a side, or (height, width).
        eta: step size of the ISTA step. lam: its sparsity weight. Neither is a tensor in a file.
        extra_head: outputs of a second head beside `mlp_head`, as the file of the segmentation
            demo has it. Its weights are kept, and it takes no part in the forward pass.
        interpolate_positions: whether position embeddings of another resolution are resampled
            when a file is loaded, and by which rule (`True`, `"crate"`, `"dinov2"`, `"timm"`);
            without it they are refused.
    References: Yu et al. 2023, arXiv:2306.01129.
    """

    def __init__(
        self,
        *,
        image_size: int | Sequence[int] = 224,
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
        interpolate_positions: bool | str = False,
    ) -> None:
        super().__init__()
        rule(interpolate_positions)  # a name that is not known is told before any work
        self.interpolate_positions = interpolate_positions
        patch_dim = channels * patch_size**2
        self.image_size = image_size
        self.to_patch_embedding = nn.Sequential(
            Patches(patch_size),
            nn.LayerNorm(patch_dim),
            nn.Linear(patch_dim, dim),
            nn.LayerNorm(dim),
        )
        self.patch_grid = patch_grid(image_size, patch_size)
        count = self.patch_grid[0] * self.patch_grid[1]
        self.pos_embedding = nn.Parameter(torch.randn(1, count + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.transformer = Pairs(
            dim, depth, lambda: MSSA(dim, heads, dim_head), step_size=eta, lam=lam
        )
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))
        if extra_head is not None:
            self.head = nn.Linear(classes, extra_head)

    def forward(self, img: Tensor) -> Tensor:
        x = self.to_patch_embedding(img)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        return self.mlp_head(self.transformer(x)[:, 0])


class CrateAnatomy(PairsAnatomy):
    """MSSA, then ISTA; `heads` is U_k^T of the normalised input, as the release hooks it."""

    network = CRATE

    def attention(self, module: nn.Module, parts: Parts) -> OneProjection:
        """Its own, or one of the official code."""
        found = module.get_submodule(parts.attention)
        return found if isinstance(found, OneProjection) else OfficialMSSA(found)

    def out(self, module: nn.Module, parts: Parts) -> nn.Module | None:
        """The official attention's output map."""
        found: Any = module.get_submodule(parts.attention)
        return None if isinstance(found, OneProjection) else found.to_out


class CrateFamily(NetworkFamily):
    """CRATE of Yu et al. 2023 (arXiv:2306.01129): MSSA, then ISTA."""

    name = "crate"
    network = CRATE
    reads = CrateAnatomy
    example = (
        {
            "image_size": 12,
            "patch_size": 4,
            "classes": 2,
            "dim": 16,
            "depth": 2,
            "heads": 2,
            "dim_head": 6,
        },
    )
    tested = (
        "outputs in float64 against the published equations; parameter counts of the four "
        "sizes; a training checkpoint (`module.` before each key, optimizer beside it) and the "
        "segmentation demo's two-headed file; the shipped files' accuracy, measured on the "
        "shipped images. No released file was seen"
    )
    positions = ("pos_embedding",)
    fingerprints = (
        {
            "transformer.layers.0.0.fn.qkv.weight": 2,
            "transformer.layers.0.1.fn.weight": 2,
            "to_patch_embedding.2.weight": 2,
            "pos_embedding": 3,
            "mlp_head.1.weight": 2,
        },
    )

    def matches(self, module: nn.Module) -> bool:
        """One of this package, or a module of the official code, known by its structure."""
        return isinstance(module, CRATE) or is_official(module, is_mssa)

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The step size and sparsity weight of the published models."""
        return dict(PUBLISHED_STEP)

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """Square ISTA weights behind an image embedding; `head` beside `mlp_head` in the demo."""
        if not self.marked(shapes):
            return None
        qkv, ista, patch, positions, head = (shapes[key] for key in self.fingerprints[0])
        if ista[0] != ista[1]:
            return None
        arch = {
            "classes": head[0],
            "dim": ista[0],
            "depth": numbered(shapes, "transformer.layers."),
        }
        if "head.weight" in shapes:
            arch["extra_head"] = shapes["head.weight"][0]
        image, asked = flat_image(patch[1], positions[1])
        return Recognised(arch | image, inner=qkv[0], ask=asked, flat=True)

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Resample the position embeddings, only where the architecture asks for it."""
        return resampled(weights, module, self.positions)
