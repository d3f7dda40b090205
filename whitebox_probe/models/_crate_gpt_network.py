"""CRATE-GPT2 and CRATE-LM, with the parameter names of the official releases."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe.models._layers import ISTA, expect_ids


class CausalMSSA(nn.Module):
    """Subspace self-attention over a token and those before it, named as nanoGPT names attention.

    V_k = X U_k;  out = concat_k softmax(V_k V_k^T / sqrt(p), causal) V_k W_o^T + b_o

    Shapes: X (B, n, d) -> (B, n, d). Rows k*p to (k+1)*p of `c_attn.weight` are U_k^T.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not share a width of {dim} evenly")
        self.heads = heads
        self.dim_head = dim // heads
        self.c_attn = nn.Linear(dim, dim, bias=False)
        self.c_proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        V = self.c_attn(x).unflatten(-1, (self.heads, self.dim_head)).transpose(1, 2)
        out = F.scaled_dot_product_attention(V, V, V, is_causal=True)  # (B, K, n, p)
        return self.c_proj(out.transpose(1, 2).flatten(2))


class OvercompleteISTA(nn.Module):
    """Two proximal steps from zero towards a sparse code in h > d atoms, and its reconstruction.

    A_1 = ReLU(eta Y W^T - eta lam)
    A_2 = ReLU(A_1 + eta (Y - A_1 W) W^T - eta lam);  Y^+ = A_2 W, with W = `weight`

    The release computes Y W^T - A_1 W W^T in three products; factored, it takes two.

    Shapes: Y (B, n, d) -> (B, n, d); A_1, A_2 (B, n, h); W (h, d). A_2 leaves `relu`.
    References: Bai and Ma 2024, arXiv:2410.16443, as in the released crate_overcomplete.py.
    """

    def __init__(self, dim: int, atoms: int, step_size: float, lam: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(atoms, dim))
        nn.init.kaiming_uniform_(self.weight)
        self.relu = nn.ReLU()
        self.step_size = step_size
        self.lam = lam

    def forward(self, y: Tensor) -> Tensor:
        shrink = self.step_size * self.lam
        first = F.relu(self.step_size * F.linear(y, self.weight) - shrink)  # (B, n, h)
        gradient = F.linear(y - first @ self.weight, self.weight)  # (B, n, h)
        code = self.relu(first + self.step_size * gradient - shrink)
        return code @ self.weight


class Block(nn.Module):
    """MSSA with its skip connection, then ISTA without one."""

    def __init__(self, dim: int, heads: int, ista: nn.Module) -> None:
        super().__init__()
        self.prenorm_1 = nn.LayerNorm(dim)
        self.attn = CausalMSSA(dim, heads)
        self.prenorm_2 = nn.LayerNorm(dim)
        self.ista = ista

    def forward(self, x: Tensor) -> Tensor:
        return self.ista(self.prenorm_2(x + self.attn(self.prenorm_1(x))))


class CrateGPT(nn.Module):
    """White-box causal language model.

    Shapes: ids (B, n) -> logits of the last token (B, 1, vocabulary), as the release gives them.
    Args:
        atoms: h, the atoms of CRATE-LM's overcomplete dictionary; None is CRATE-GPT2, whose
            dictionary is d x d and which has no final normalisation.
        eta: step size of the ISTA step. lam: its sparsity weight. Neither is a tensor in a file.
    Raises: DataError for ids outside the vocabulary, or more of them than `block_size`.
    References: Yu et al. 2023, arXiv:2311.13110; Bai and Ma 2024, arXiv:2410.16443.
    """

    def __init__(
        self,
        *,
        vocabulary: int = 50304,
        block_size: int = 1024,
        dim: int,
        depth: int,
        heads: int,
        atoms: int | None = None,
        eta: float = 0.1,
        lam: float = 0.1,
    ) -> None:
        super().__init__()

        def ista() -> nn.Module:
            return ISTA(dim, eta, lam) if atoms is None else OvercompleteISTA(dim, atoms, eta, lam)

        parts: dict[str, nn.Module] = {
            "wte": nn.Embedding(vocabulary, dim),
            "wpe": nn.Embedding(block_size, dim),
            "h": nn.ModuleList([Block(dim, heads, ista()) for _ in range(depth)]),
        }
        if atoms is not None:
            parts["ln_f"] = nn.LayerNorm(dim)
        self.transformer = nn.ModuleDict(parts)
        self.lm_head = nn.Linear(dim, vocabulary, bias=False)
        self.lm_head.weight = parts["wte"].weight  # type: ignore[assignment]  # tied

    def forward(self, ids: Tensor) -> Tensor:
        return self.logits(self.tokens(ids)[:, -1:])

    def tokens(self, ids: Tensor) -> Tensor:
        """What the last layer leaves, (B, n, d)."""
        parts: Any = self.transformer
        expect_ids(ids, vocabulary=parts.wte.num_embeddings, length=parts.wpe.num_embeddings)
        x = parts.wte(ids) + parts.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in parts.h:
            x = block(x)
        return x

    def logits(self, tokens: Tensor) -> Tensor:
        """The next token's logits at each of the tokens (B, n, d) -> (B, n, vocabulary)."""
        parts: Any = self.transformer
        return self.lm_head(parts.ln_f(tokens) if "ln_f" in parts else tokens)
