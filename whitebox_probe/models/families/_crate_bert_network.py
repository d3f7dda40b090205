"""The CRATE-BERT encoder, with the parameter names of its transformers pull request."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe.models.families._steps import ISTA, expect_ids, head_width


class Embeddings(nn.Module):
    """Words, positions and token types, summed and normalised.

    As in RoBERTa, positions count from `pad` + 1 and padding stays at `pad`.
    """

    def __init__(self, vocabulary: int, positions: int, types: int, dim: int, pad: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, dim, padding_idx=pad)
        self.position_embeddings = nn.Embedding(positions, dim, padding_idx=pad)
        self.token_type_embeddings = nn.Embedding(types, dim)
        self.LayerNorm = nn.LayerNorm(dim, eps=1e-12)
        self.pad = pad

    def forward(self, ids: Tensor) -> Tensor:
        expect_ids(
            ids,
            vocabulary=self.word_embeddings.num_embeddings,
            length=self.position_embeddings.num_embeddings - self.pad - 1,
        )
        real = (ids != self.pad).long()  # (B, n)
        positions = real.cumsum(dim=1) * real + self.pad
        x = self.word_embeddings(ids) + self.position_embeddings(positions)
        return self.LayerNorm(x + self.token_type_embeddings.weight[0])


class SelfAttention(nn.Module):
    """Normalisation, and MSSA without its output map."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.dim_head = head_width(dim, heads)
        self.prenorm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        V = self.qkv(self.prenorm(x)).unflatten(-1, (self.heads, self.dim_head)).transpose(1, 2)
        out = F.scaled_dot_product_attention(V, V, V)  # (B, K, n, p)
        return out.transpose(1, 2).flatten(2)


class SelfOutput(nn.Module):
    """MSSA's output map, without a bias, and the skip connection."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim, bias=False)

    def forward(self, heads: Tensor, x: Tensor) -> Tensor:
        return self.dense(heads) + x


class Attention(nn.Module):
    """The attention step with its skip connection."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self = SelfAttention(dim, heads)
        self.output = SelfOutput(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.self(x), x)


class NormedISTA(ISTA):
    """A proximal step behind its own normalisation, without a skip connection."""

    def __init__(self, dim: int, step_size: float, lam: float) -> None:
        super().__init__(dim, step_size, lam)
        self.prenorm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.prenorm(x))


class Layer(nn.Module):
    """MSSA with its skip connection, then ISTA."""

    def __init__(self, dim: int, heads: int, eta: float, lam: float) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.output = NormedISTA(dim, eta, lam)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.attention(x))


class CrateBert(nn.Module):
    """White-box bidirectional encoder of text.

    Shapes: ids (B, n) -> tokens of the last layer (B, n, d). The pooler and the task heads, which
    stand after the last layer, are not built.
    Args:
        pad: the padding token's id. As in the original without a mask, padding is attended to.
        eta: step size of the ISTA step. lam: its sparsity weight. Neither is a tensor in a file.
    Raises: DataError for ids outside the vocabulary, or more of them than positions.
    References: Yu et al. 2023, arXiv:2311.13110; huggingface/transformers pull request 27759.
    """

    def __init__(
        self,
        *,
        vocabulary: int = 50265,
        positions: int = 512,
        types: int = 2,
        pad: int = 1,
        dim: int,
        depth: int,
        heads: int,
        eta: float = 0.1,
        lam: float = 0.1,
    ) -> None:
        super().__init__()
        layers = nn.ModuleList([Layer(dim, heads, eta, lam) for _ in range(depth)])
        self.crate = nn.ModuleDict(
            {
                "embeddings": Embeddings(vocabulary, positions, types, dim, pad),
                "encoder": nn.ModuleDict({"layer": layers}),
            }
        )

    def forward(self, ids: Tensor) -> Tensor:
        parts: Any = self.crate
        x: torch.Tensor = parts.embeddings(ids)
        for layer in parts.encoder.layer:
            x = layer(x)
        return x
