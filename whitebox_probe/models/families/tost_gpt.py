"""Token Statistics Transformers for text: the network, its sites, its files.

The release (folder `tost_lang`) was not read itself. The attention follows copies of its class in
other public code, which agree with each other. That its frame is nanoGPT's (layer norms, GELU, an
MLP 4d wide, a tied head) with scales gamma1 and gamma2, and how many layers and heads a size has,
is described; the published numbers of parameters fit it. That the scales are vectors (d,) is taken
from the release for images. Dropout, which evaluation leaves out, is not built.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe.models.families._gpt import GPT
from whitebox_probe.models.families._statistics import (
    MASS_EPS,
    TokenStatistics,
    TokenStatisticsAnatomy,
)
from whitebox_probe.models.family import NetworkFamily, Recognised
from whitebox_probe.models.keys.gpt import frame, marks, stated, tied

_BIASES = ("c_attn.bias", "c_fc.bias", "c_proj.bias", "ln_1.bias", "ln_2.bias", "ln_f.bias")
ENERGY_EPS = 1e-12  # the least energy that a token's share is taken of
INIT_STD = 0.02


class CausalTSSA(TokenStatistics):
    """Token statistics self-attention over a token and those before it.

    W = X U + b, head by head;  s_knc = w_knc^2 / sum_{j<=n} w_kjc^2 + beta_kn, with beta the
    learned `denom_bias`;  Pi = softmax over heads of temp_k sum_c s_knc;
    m_knc = sum_{j<=n} Pi_kj w_kjc^2 / sum_{j<=n} Pi_kj;  out = -Pi_kn w_knc / (1 + m_knc), then a
    linear map. beta is added to the share of every channel, so that a head's logit has it p times.

    Shapes: X (B, n, d) -> (B, n, d), n up to `block_size`. Rows k*p to (k+1)*p of `c_attn.weight`
    are U_k^T.
    References: Wu et al. 2025, arXiv:2412.17810, as in copies of the release's class.
    """

    projection = "c_attn"

    def __init__(self, dim: int, heads: int, block_size: int, bias: bool) -> None:
        super().__init__(dim, heads)
        self.c_attn = nn.Linear(dim, dim, bias=bias)
        self.c_proj = nn.Linear(dim, dim, bias=bias)
        self.denom_bias = nn.Parameter(torch.zeros(heads, block_size, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.step(self.c_attn(x)))

    def shares(self, W: Tensor) -> Tensor:
        """Of the energy so far, with the position's bias."""
        energy = W.square()
        share = energy / energy.cumsum(dim=-2).clamp_min(ENERGY_EPS)
        return share + self.denom_bias[:, : W.shape[-2]]

    def moments(self, W: Tensor, Pi: Tensor) -> Tensor:
        """Over the tokens so far: (B, K, n, p)."""
        return (Pi * W.square()).cumsum(dim=-2) / (Pi.cumsum(dim=-2) + MASS_EPS)


class MLP(nn.Module):
    """Two linear maps around a GELU, named as nanoGPT names them."""

    def __init__(self, dim: int, bias: bool) -> None:
        super().__init__()
        self.c_fc = nn.Linear(dim, 4 * dim, bias=bias)
        self.c_proj = nn.Linear(4 * dim, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.gelu(self.c_fc(x)))


class Block(nn.Module):
    """X + gamma1 TSSA(LN(X)), then X + gamma2 MLP(LN(X))."""

    def __init__(self, dim: int, heads: int, block_size: int, bias: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, bias=bias)
        self.attn = CausalTSSA(dim, heads, block_size, bias)
        self.ln_2 = nn.LayerNorm(dim, bias=bias)
        self.mlp = MLP(dim, bias)
        self.gamma1 = nn.Parameter(torch.ones(dim))
        self.gamma2 = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.gamma1 * self.attn(self.ln_1(x))
        return x + self.gamma2 * self.mlp(self.ln_2(x))


class ToSTGPT(GPT):
    """Token Statistics Transformer as a causal language model.

    Random weights are drawn as nanoGPT draws them; where the release starts gamma1 and gamma2 was
    not read, and they start at 1.

    Shapes: ids (B, n) -> logits of the last token (B, 1, vocabulary).
    Args: bias: whether linear maps and layer norms have one, as nanoGPT's option of that name.
    Raises: DataError for ids outside the vocabulary, or more of them than `block_size`.
    References: Wu et al. 2025, arXiv:2412.17810.
    """

    def __init__(
        self,
        *,
        dim: int,
        depth: int,
        heads: int,
        bias: bool = False,
        vocabulary: int = 50304,
        block_size: int = 1024,
    ) -> None:
        super().__init__(
            vocabulary=vocabulary,
            block_size=block_size,
            dim=dim,
            depth=depth,
            block=lambda: Block(dim, heads, block_size, bias),
            norm=nn.LayerNorm(dim, bias=bias),
        )
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):  # two of them add to the stream in each layer
                nn.init.normal_(parameter, std=INIT_STD / math.sqrt(2 * depth))
            elif name.endswith(("c_attn.weight", "c_fc.weight", "wte.weight", "wpe.weight")):
                nn.init.normal_(parameter, std=INIT_STD)
            elif name.endswith(("c_attn.bias", "c_fc.bias", "c_proj.bias")):
                nn.init.zeros_(parameter)


class ToSTGptAnatomy(TokenStatisticsAnatomy):
    """Causal statistics, then an MLP.

    `memberships` are causal: those of a token are taken from it and the tokens before it alone, and
    do not change when the text goes on.
    """

    blocks = "transformer.h"
    norms = ("ln_1", "ln_2")
    causal = True
    down = "c_proj"


class ToSTGptFamily(NetworkFamily):
    """The language ToST of Wu et al. 2025 (arXiv:2412.17810); input is token ids (B, n).

    What of the network was read in code and what is described stands at the top of this file.
    """

    name = "tost_gpt"
    network = ToSTGPT
    reads = ToSTGptAnatomy
    example = tuple(
        {"vocabulary": 23, "block_size": 8, "dim": 16, "depth": 2, "heads": 2, "bias": bias}
        for bias in (False, True)
    )
    tested = (
        "outputs and every site in float64 against the published equations, one head, channel "
        "and token at a time; that no site of a token depends on a later one; that a token's "
        "step is the gradient of its own compression; keys and shapes of the described format "
        "with and without biases, parameter counts of the three sizes; the nanoGPT file with "
        "its optimizer and arguments. No weights were released, and the release's own code was "
        "not read"
    )
    fingerprints = marks(
        {"attn.denom_bias": 3, "attn.c_attn.weight": 2, "attn.temp": 2, "gamma1": 1, "gamma2": 1}
    )

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """The bias of the energy's share, (K, block_size, 1), which no other GPT has."""
        if not self.marked(shapes):
            return None
        heads = shapes["transformer.h.0.attn.denom_bias"][0]
        biased = any(key.endswith(_BIASES) for key in shapes)
        return Recognised(frame(shapes) | {"heads": heads, "bias": biased})

    def stated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Layers and width of nanoGPT's `model_args`, which a cut file contradicts."""
        return stated(arguments, bias=False)

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """As of every model in nanoGPT's frame.

        Raises: CheckpointError where embedding and head differ: the network ties them.
        """
        return tied(weights, of="ToST language model")
