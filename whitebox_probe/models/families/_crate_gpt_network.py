"""CRATE-GPT2 and CRATE-LM, with the parameter names of the official releases."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe.models.families._gpt_network import GPT
from whitebox_probe.models.families._steps import ISTA, head_width


class CausalMSSA(nn.Module):
    """Subspace self-attention over a token and those before it, named as nanoGPT names attention.

    V_k = X U_k;  out = concat_k softmax(V_k V_k^T / sqrt(p), causal) V_k W_o^T + b_o

    Shapes: X (B, n, d) -> (B, n, d). Rows k*p to (k+1)*p of `c_attn.weight` are U_k^T.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.dim_head = head_width(dim, heads)
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


class CrateGPT(GPT):
    """White-box causal language model.

    Shapes: ids (B, n) -> logits of the last token (B, 1, vocabulary).
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
        def block() -> nn.Module:
            code = ISTA(dim, eta, lam) if atoms is None else OvercompleteISTA(dim, atoms, eta, lam)
            return Block(dim, heads, code)

        super().__init__(
            vocabulary=vocabulary,
            block_size=block_size,
            dim=dim,
            depth=depth,
            block=block,
            norm=None if atoms is None else nn.LayerNorm(dim),
        )
