"""The step as it was derived, and as it was released: what the measures with `_u` are about."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from whitebox_probe.auditing.reference._parts import (
    DIM_HEAD,
    LAYERS,
    Layer,
    Reference,
    frame,
    generator,
    layer_norm,
    mixture,
    rotation,
    wrapped,
)
from whitebox_probe.auditing.verdicts import NOT_SUPPORTED, SUPPORTED
from whitebox_probe.models.model import ProbeModel

KAPPA = 0.3
_draw = partial(mixture, weak=0.15)


class Subspaces(nn.Module):
    """Multi-head subspace self-attention, sum_k softmax(V_k V_k^T / sqrt(p)) V_k O_k, V_k = X U_k.

    Args:
        U: (K, d, p). out: the output maps O side by side, (K p, d); those of U as derived. kappa:
            the step of equation 12, kappa (MSSA(X) - X); None adds MSSA(X) itself, as released code
            does. causal: whether a token sees itself and the tokens before it alone.
    """

    def __init__(
        self, U: Tensor, out: Tensor, *, kappa: float | None = None, causal: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("U", U)
        self.register_buffer("out", out)
        self.U: Tensor
        self.out: Tensor
        self.kappa = kappa
        self.causal = causal

    def forward(self, Z: Tensor, X: Tensor) -> Tensor:
        """(B, n, d) twice -> (B, n, d)."""
        V = X.unsqueeze(1) @ self.U.to(X.dtype)  # (B, K, n, p)
        scores = V @ V.mT / DIM_HEAD**0.5
        if self.causal:
            later = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
            scores = scores.masked_fill(later, -torch.inf)
        joined = (scores.softmax(dim=-1) @ V).transpose(1, 2).flatten(2)
        made = joined @ self.out.to(X.dtype)
        return made if self.kappa is None else self.kappa * (made - X)


def _equation(name: str, causal: bool) -> Callable[[int], ProbeModel]:
    def make(seed: int) -> ProbeModel:
        U = frame(seed)
        own = U.mT.flatten(0, 1)
        steps = [Subspaces(U, own, kappa=KAPPA, causal=causal) for _ in range(LAYERS)]
        return wrapped([Layer(U, step) for step in steps], name, causal=causal)

    return make


def _released(name: str, causal: bool) -> Callable[[int], ProbeModel]:
    def make(seed: int) -> ProbeModel:
        U, random = frame(seed), generator(seed, 3)
        steps = [Subspaces(U, rotation(random), causal=causal) for _ in range(LAYERS)]
        layers = [Layer(U, step, norm=layer_norm()) for step in steps]
        return wrapped(layers, name, causal=causal)

    return make


_TAKES_AWAY = (
    "a softmax over like tokens draws each towards the others: MSSA(X; U) - X takes away what "
    "tokens do not share, and so does -∇R^c"
)
_ROWS = (
    (
        "equation-12",
        "(1 - κ)Z + κ MSSA(Z; U), the same U in and out",
        _TAKES_AWAY,
        _equation,
        dict.fromkeys(("compresses", "attention_aligned", "attention_descends"), SUPPORTED),
    ),
    (
        "released",
        "Z + MSSA(LN Z), with a free output map",
        f"the map is a random rotation, so that the update points nowhere; yet {_TAKES_AWAY}",
        _released,
        {"attention_aligned": NOT_SUPPORTED},
    ),
)

NETWORKS = tuple(
    Reference(
        name + ("-causal" if causal else ""),
        text + (", with a causal mask" if causal else ""),
        truth,
        make(name + ("-causal" if causal else ""), causal),
        _draw,
        expected | {"incoherent_subspaces": SUPPORTED},
        {"descent_cosine_u": 1},
    )
    for name, text, truth, make, expected in _ROWS
    for causal in (False, True)
)
