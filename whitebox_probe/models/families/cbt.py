"""Contract-and-Broadcast Transformers: the network of the release, its sites, its files."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe.models.families._convolutions import ConvEmbed
from whitebox_probe.models.families._official import is_official
from whitebox_probe.models.families._one_projection import Parts
from whitebox_probe.models.families._pairs import Pairs, PairsAnatomy
from whitebox_probe.models.families._steps import (
    PUBLISHED_STEP,
    OneProjection,
    attention_weights,
    head_width,
    patch_grid,
    resampled,
)
from whitebox_probe.models.family import NetworkFamily, Recognised
from whitebox_probe.models.keys.counts import grid_side, numbered
from whitebox_probe.models.keys.positions import rule
from whitebox_probe.models.offloaded import fetched

POOLED = 8
"""The side of the grid of representatives in every published model."""


class Contraction(OneProjection):
    """Contract-and-broadcast self-attention, between its projection and its output map.

    W are the projected tokens, head by head;  R = the average of W over 8 x 8 parts of the grid;
    A = softmax(R W^T / sqrt(p));  contracted: R + s_r A W = R';
    broadcast: s_x A^T softmax(R' R'^T / sqrt(p)) R', with s_r and s_x a number a head.

    The release takes all tokens but the last for the grid, although the class token is the first:
    the representatives average the grid moved on by one token, and so they do here.

    References: Wen et al. 2025, arXiv:2509.16875; as in the released attn_layers.py.
    """

    projection = "proj"

    def __init__(self, heads: int, dim_head: int) -> None:
        super().__init__(heads, dim_head)
        self.step_x = nn.Parameter(torch.randn(heads, 1, 1))
        self.step_rep = nn.Parameter(torch.randn(heads, 1, 1))

    def representatives(self, projected: Tensor) -> Tensor:
        """The averages that attend to the tokens: (B, n, K*p) -> (B, K, 64, p)."""
        side = grid_side(projected.shape[1])
        grid = projected[:, :-1].mT.unflatten(2, (side, side))  # (B, K*p, rows, columns)
        return self.split(F.adaptive_avg_pool2d(grid, POOLED).flatten(2).mT)

    def step(self, projected: Tensor) -> Tensor:
        """The tokens' update, before the last map: (B, n, K*p), as it came."""
        W = self.split(projected)  # (B, K, n, p)
        R = self.representatives(projected)  # (B, K, 64, p)
        A = attention_weights(R, W, causal=False)  # (B, K, 64, n)
        R = R + self.step_rep * (A @ W)
        contracted = attention_weights(R, R, causal=False) @ R
        out = self.step_x * (A.mT @ contracted)  # (B, K, n, p)
        return out.transpose(1, 2).flatten(2)


class CBSA(Contraction):
    """The attention of a layer: (B, n, d) -> (B, n, d)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(heads, head_width(dim, heads))
        self.proj = nn.Linear(dim, dim, bias=False)
        self.to_out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_out(self.step(self.proj(x)))


class OfficialCBSA(Contraction):
    """Reads an attention of the release; it computes nothing of the network itself."""

    def __init__(self, attention: Any) -> None:
        inner, heads = int(attention.proj.out_features), int(attention.heads)
        super().__init__(heads, inner // heads)
        for name in ("step_x", "step_rep"):
            setattr(self, name, nn.Parameter(fetched(attention, name), requires_grad=False))
        self.proj, self.to_out = attention.proj, attention.to_out

    def forward(self, x: Tensor) -> Tensor:
        return self.to_out(self.step(self.proj(x)))


class CBT(nn.Module):
    """Contract-and-Broadcast Transformer for image classification.

    Shapes: images (B, C, H, W) -> logits (B, classes).
    Args:
        image_size: a side; the release pools a square grid.
        patch_size: a power of 2: so many convolutions halve the image.
        eta: step size of the ISTA step. lam: its sparsity weight. Neither is a tensor in a file.
        interpolate_positions: as of CRATE.
    References: Wen et al. 2025, arXiv:2509.16875.
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
        eta: float = 0.1,
        lam: float = 0.1,
        interpolate_positions: bool | str = False,
    ) -> None:
        super().__init__()
        rule(interpolate_positions)  # a name that is not known is told before any work
        self.interpolate_positions = interpolate_positions
        self.image_size = image_size
        self.to_patch_embedding = ConvEmbed(channels, dim, patch_size)
        self.patch_grid = patch_grid(image_size, patch_size)
        if self.patch_grid[0] != self.patch_grid[1]:
            raise ValueError(f"an image_size of {image_size} is not square")
        self.pos_embedding = nn.Parameter(torch.randn(1, self.patch_grid[0] ** 2 + 1, dim))
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim))
        self.transformer = Pairs(dim, depth, lambda: CBSA(dim, heads), step_size=eta, lam=lam)
        self.mlp_head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, classes))

    def forward(self, img: Tensor) -> Tensor:
        x = self.to_patch_embedding(img).flatten(2).mT  # (B, n, d)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embedding
        return self.mlp_head(self.transformer(x)[:, 0])


class CbtAnatomy(PairsAnatomy):
    """CBSA, then ISTA; `heads` is U_k^T of the normalised input, as the release hooks it."""

    network = CBT
    absent = PairsAnatomy.absent | {
        "attn_weights": "its tokens attend to representatives: it makes no n x n weights",
    }

    def attention(self, module: nn.Module, parts: Parts) -> OneProjection:
        """Its own, or one of the official code."""
        found = module.get_submodule(parts.attention)
        return found if isinstance(found, OneProjection) else OfficialCBSA(found)

    def update(self, module: nn.Module, parts: Parts) -> Callable[[Tensor], Tensor] | None:
        """What the official attention is to compute; its own is not tried."""
        read = self.attention(module, parts)
        return read.forward if isinstance(read, OfficialCBSA) else None


class CbtFamily(NetworkFamily):
    """CBT of Wen et al. 2025 (arXiv:2509.16875): contract-and-broadcast attention, then ISTA."""

    name = "cbt"
    network = CBT
    reads = CbtAnatomy
    example = (
        {
            "image_size": 12,
            "patch_size": 4,
            "classes": 2,
            "dim": 16,
            "depth": 2,
            "heads": 2,
        },
    )
    tested = (
        "outputs and every site in float64 against the equations of the released code, one head "
        "and part of the grid at a time; that code's own modules run beside it, sizes T and S "
        "among them: within 1.3e-14 in float64 and 2e-5 in float32, as far as its own float32 is "
        "from its float64; keys, shapes and parameter counts of the four sizes; the official "
        "file's layout. No released file was seen"
    )
    positions = ("pos_embedding",)
    fingerprints = (
        {
            "transformer.layers.0.0.fn.step_rep": 3,
            "transformer.layers.0.0.fn.step_x": 3,
            "transformer.layers.0.0.fn.proj.weight": 2,
            "transformer.layers.0.1.fn.weight": 2,
            "to_patch_embedding.proj.0.0.weight": 4,
            "pos_embedding": 3,
            "mlp_head.1.weight": 2,
        },
    )

    def matches(self, module: nn.Module) -> bool:
        """One of this package, or a module of the official code, known by its structure."""
        return isinstance(module, CBT) or is_official(module, _is_cbsa)

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The step size and sparsity weight of the published models."""
        return dict(PUBLISHED_STEP)

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """A step size for each head, which also tells their number; a square grid of patches."""
        if not self.marked(shapes):
            return None
        step, _, _, ista, first, positions, head = (shapes[key] for key in self.fingerprints[0])
        side = grid_side(positions[1])
        if ista[0] != ista[1] or side * side + 1 != positions[1]:
            return None
        names = [key.split(".") for key in shapes]
        halved = sum(
            n[:2] == ["to_patch_embedding", "proj"] and n[3:] == ["0", "weight"] for n in names
        )
        arch = {
            "image_size": side * 2**halved,
            "patch_size": 2**halved,
            "channels": first[1],
            "classes": head[0],
            "dim": ista[0],
            "depth": numbered(shapes, "transformer.layers."),
            "heads": step[0],
        }
        return Recognised(arch)

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the whole width."""
        return {"heads": heads}

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Resample the position embeddings, only where the architecture asks for it."""
        return resampled(weights, module, self.positions)


def _is_cbsa(attention: Any) -> bool:
    names = ("proj", "heads", "step_x", "step_rep", "to_out")
    return all(hasattr(attention, name) for name in names)
