"""The variational form of the compression, whose gradient is token statistics attention."""

from dataclasses import dataclass

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_finite, expect_shape
from whitebox_probe._core.errors import ShapeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import HEADS, LayerTokens

__all__ = ["VariationalCompression", "variational_compression"]

_MEMBERSHIPS = "memberships"


def variational_compression(W: Tensor, Pi: Tensor, *, eps: float) -> Tensor:
    """Variational compression of each sample's tokens, in nats.

    R^var = 1/2 sum_k n_k/n sum_i log(1 + d/eps^2 sum_j Pi_kj W_kji^2 / n_k), n_k = sum_j Pi_kj

    W_k = Z U_k are the tokens in head k's subspace, and d = K p: the heads share the whole width.
    A head that takes no token (n_k = 0) adds nothing.

    Shapes: W (B, K, n, p), Pi (B, K, n) -> (B,), float64.
    Args: eps: coding precision; squared in the formula.
    Raises: ShapeError, NonFiniteError.
    References: Wu et al. 2025, arXiv:2412.17810.

    >>> import torch
    >>> W, Pi = torch.tensor([[[[1.0], [1.0]]]]), torch.ones(1, 1, 2)
    >>> round(float(variational_compression(W, Pi, eps=1.0)), 6)
    0.346574
    """
    return expect_finite(_variational(W, Pi, eps), name="R^var")


def _variational(W: Tensor, Pi: Tensor, eps: float) -> Tensor:
    expect_shape(W, "B K n p", name="W")
    if Pi.shape != W.shape[:3]:
        raise ShapeError(
            f"memberships have shape {tuple(Pi.shape)}",
            f"tokens of shape {tuple(W.shape)} need {tuple(W.shape[:3])}",
            "Pass one membership for each head and token",
        )
    W, Pi = _linalg.upcast(W), _linalg.upcast(Pi)
    _, K, n, p = W.shape
    count = Pi.sum(dim=-1)  # (B, K)
    energy = torch.einsum("bkn,bknp->bkp", Pi, W.square())
    mean = energy / count.masked_fill(count == 0, 1.0)[..., None]
    each = (K * p / eps**2 * mean).log1p().sum(dim=-1)  # (B, K)
    return 0.5 * (count / n * each).sum(dim=-1)


@dataclass(frozen=True, kw_only=True)
class VariationalCompression(SampleMeasure):
    """R^var of each sample, for models whose heads share the tokens by memberships (ToST).

    Where memberships are causal (a language ToST), the value is of the whole window, with the
    membership that each token got as the last one so far. A token's attention step descends R^var
    of the text up to it, so that only the last token's descends this value itself.
    """

    name = "variational_compression"
    unit = "nats"
    formula = "R^var = 1/2 sum_k n_k/n sum_i log(1 + d/eps^2 sum_j Pi_kj W_kji^2 / n_k)"
    tex = (
        r"R^{\mathrm{var}} = \frac{1}{2} \sum_{k} \frac{n_k}{n} \sum_{i} \log\left(1 + "
        r"\frac{d}{\varepsilon^2} \frac{1}{n_k} \sum_{j} \Pi_{kj} W_{kji}^2\right)"
    )
    misleads = (
        "It is an upper bound that looks at each direction of a subspace by itself: a rotation "
        "within the subspace changes it, and it may fall while R^c rises. Memberships are the "
        "model's own and differ from layer to layer. In a causal model only the last token's step "
        "descends this value."
    )
    source = "Wu et al. 2025, arXiv:2412.17810"
    label = r"$R^{\mathrm{var}}(<Z>)$"
    group = "rate"
    cost = "O(n K p)"
    better = "lower"
    site = {"paper": HEADS}
    default = False
    invariances = frozenset({"token_order", "repeated_tokens", "head_order"})

    eps: float = 0.1

    def inputs(self, site: str) -> tuple[str, ...]:
        """Projected tokens and their memberships."""
        return (site, _MEMBERSHIPS)

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """R^var of the site's tokens."""
        return _variational(layer.at(site), layer.at(_MEMBERSHIPS), self.eps)
