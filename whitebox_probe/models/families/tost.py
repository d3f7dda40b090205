"""Token Statistics Transformers for images: the network of the release, its sites, its files."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe.models.families._convolutions import ConvEmbed
from whitebox_probe.models.families._statistics import (
    MASS_EPS,
    TokenStatistics,
    TokenStatisticsAnatomy,
)
from whitebox_probe.models.family import NetworkFamily, Recognised
from whitebox_probe.models.keys.counts import numbered

NORM_EPS = 1e-6


class TSSA(TokenStatistics):
    """Token statistics self-attention, linear in the number of tokens.

    W = X U + b, head by head;  Pi = softmax over heads of temp_k |w_kn|^2, each channel of W scaled
    to unit norm over the tokens first;  m_kc = sum_n Pi_kn w_knc^2 / sum_n Pi_kn;
    out = -Pi_kn w_knc / (1 + m_kc), then a linear map.

    Shapes: X (B, n, d) -> (B, n, d). Rows k*p to (k+1)*p of `qkv.weight` are U_k^T.
    References: Wu et al. 2025, Token Statistics Transformer, ICLR (arXiv:2412.17810).
    """

    def __init__(self, dim: int, heads: int, qkv_bias: bool) -> None:
        super().__init__(dim, heads)
        self.qkv = nn.Linear(dim, dim, bias=qkv_bias)
        self.to_out = nn.Sequential(nn.Linear(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.to_out(self.step(self.qkv(x)))

    def shares(self, W: Tensor) -> Tensor:
        """Over all tokens."""
        return F.normalize(W, dim=-2).square()

    def moments(self, W: Tensor, Pi: Tensor) -> Tensor:
        """Over all tokens: (B, K, 1, p)."""
        share = Pi / (Pi.sum(dim=-2, keepdim=True) + MASS_EPS)
        return (share * W.square()).sum(dim=-2, keepdim=True)


class MLP(nn.Module):
    """Two linear maps around a GELU."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """X + gamma1 TSSA(LN(X)), then X + gamma2 MLP(LN(X))."""

    def __init__(self, dim: int, heads: int, hidden: int, qkv_bias: bool, eta: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = TSSA(dim, heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = MLP(dim, hidden)
        self.gamma1 = nn.Parameter(eta * torch.ones(dim))
        self.gamma2 = nn.Parameter(eta * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.gamma1 * self.attn(self.norm1(x))
        return x + self.gamma2 * self.mlp(self.norm2(x))


class ClassAttention(nn.Module):
    """Softmax attention with one query, the class token: (B, 1 + n, d) -> (B, 1, d)."""

    def __init__(self, dim: int, heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q[:, :, :1], k, v)  # (B, K, 1, p)
        return self.proj(out.transpose(1, 2).flatten(2))


class ClassBlock(nn.Module):
    """A layer in which the class token alone attends, as in XCiT (arXiv:2106.09681).

    With `tokens_norm` the second norm is of all tokens, and replaces them; otherwise of the class
    token alone.
    """

    def __init__(
        self, dim: int, heads: int, hidden: int, qkv_bias: bool, eta: float, tokens_norm: bool
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = ClassAttention(dim, heads, qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = MLP(dim, hidden)
        self.gamma1 = nn.Parameter(eta * torch.ones(dim))
        self.gamma2 = nn.Parameter(eta * torch.ones(dim))
        self.tokens_norm = tokens_norm

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.gamma1 * torch.cat([self.attn(y), y[:, 1:]], dim=1)
        rest = x[:, 1:]
        x = self.norm2(x) if self.tokens_norm else torch.cat([self.norm2(x[:, :1]), rest], dim=1)
        token = self.gamma2 * self.mlp(x[:, :1])
        return x + torch.cat([token, x[:, 1:]], dim=1)


class FourierPositions(nn.Module):
    """Sines and cosines of the relative row and column, linearly projected."""

    def __init__(self, dim: int, hidden: int = 32) -> None:
        super().__init__()
        self.hidden = hidden
        self.token_projection = nn.Conv2d(2 * hidden, dim, 1)

    def forward(self, rows: int, columns: int) -> Tensor:
        """Shapes: -> (1, d, rows, columns)."""
        weight = self.token_projection.weight
        down = self._waves(rows, weight.device)[:, None].expand(-1, columns, -1)
        across = self._waves(columns, weight.device).expand(rows, -1, -1)
        waves = torch.cat([down, across], dim=-1).permute(2, 0, 1)  # (2*hidden, rows, columns)
        return self.token_projection(waves[None].to(weight.dtype))

    def _waves(self, count: int, device: torch.device) -> Tensor:
        """Positions 1..count as fractions of a turn: (count, hidden), sine and cosine in turn."""
        turns = torch.arange(1, count + 1, device=device) / (count + 1e-6) * (2 * math.pi)
        pair = torch.arange(0, self.hidden, 2, device=device) / self.hidden
        angles = turns[:, None] / 10000**pair  # (count, hidden/2)
        return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class ToST(nn.Module):
    """Token Statistics Transformer for image classification.

    The class token joins only after the main blocks, in the class-attention ones.

    Shapes: images (B, C, H, W) -> logits (B, classes).
    Args:
        patch_size: a power of 2: so many convolutions halve the image.
        eta: initial value of the scales gamma1 and gamma2.
        tokens_norm: of the class-attention blocks, and of no site; as in XCiT of these sizes.
    References: Wu et al. 2025, arXiv:2412.17810; the frame is XCiT's, arXiv:2106.09681.
    """

    def __init__(
        self,
        *,
        patch_size: int = 16,
        channels: int = 3,
        classes: int = 1000,
        dim: int,
        depth: int,
        heads: int,
        mlp_ratio: float = 4.0,
        class_depth: int = 2,
        qkv_bias: bool = True,
        eta: float = 1.0,
        tokens_norm: bool = True,
    ) -> None:
        super().__init__()
        hidden = round(dim * mlp_ratio)
        self.patch_embed = ConvEmbed(channels, dim, patch_size)
        self.pos_embeder = FourierPositions(dim)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, hidden, qkv_bias, eta) for _ in range(depth))
        self.cls_attn_blocks = nn.ModuleList(
            ClassBlock(dim, heads, hidden, qkv_bias, eta, tokens_norm) for _ in range(class_depth)
        )
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.head = nn.Linear(dim, classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch_embed(images)  # (B, d, rows, columns)
        x = (x + self.pos_embeder(*x.shape[-2:])).flatten(2).mT  # (B, n, d)
        for block in self.blocks:
            x = block(x)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.cls_attn_blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class ToSTAnatomy(TokenStatisticsAnatomy):
    """Layers are the main blocks, which the class token has not joined yet: all are patches."""

    blocks = "blocks"
    norms = ("norm1", "norm2")
    down = "fc2"


class ToSTFamily(NetworkFamily):
    """ToST of Wu et al. 2025 (arXiv:2412.17810): token statistics attention, then an MLP."""

    name = "tost"
    network = ToST
    reads = ToSTAnatomy
    example = ({"patch_size": 4, "classes": 2, "dim": 16, "depth": 2, "heads": 2},)
    tested = (
        "outputs in float64 against the published equations; keys, shapes and parameter counts "
        "of the published sizes; the official file's layout, with averaged weights beside. No "
        "weights were released"
    )
    assumed_from = "the published sizes are built on XCiT's, which have it"
    fingerprints = (
        {
            "blocks.0.attn.temp": 2,
            "blocks.0.attn.qkv.weight": 2,
            "patch_embed.proj.0.0.weight": 4,
            "blocks.0.mlp.fc1.weight": 2,
            "head.weight": 2,
        },
    )

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """How the last norm of a class-attention block is applied, which no site sees."""
        return {"tokens_norm": True}

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """A temperature for each head, which also tells their number."""
        if not self.marked(shapes):
            return None
        temp, qkv, first, hidden, head = (shapes[key] for key in self.fingerprints[0])
        names = [key.split(".") for key in shapes]
        steps = sum(n[:2] == ["patch_embed", "proj"] and n[3:] == ["0", "weight"] for n in names)
        arch = {
            "patch_size": 2**steps,
            "channels": first[1],
            "classes": head[0],
            "dim": qkv[1],
            "depth": numbered(shapes, "blocks."),
            "heads": temp[0],
            "mlp_ratio": hidden[0] / qkv[1],
            "class_depth": numbered(shapes, "cls_attn_blocks."),
            "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        }
        return Recognised(arch)

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the whole width."""
        return {"heads": heads}
