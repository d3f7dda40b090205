"""The rate reduction R - R^c, and its sparse form, the objective that CRATE is derived from."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.metrics.coding_rate import coding_rate, rate
from whitebox_probe.metrics.compression import compression, official_rate, rate_in_subspaces
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import HEADS, LayerTokens

__all__ = [
    "RateReduction",
    "SparseRateReduction",
    "rate_reduction",
    "sparse_rate_reduction",
]


_PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "l0": lambda Z: torch.count_nonzero(Z, dim=(-2, -1)),
    "l1": lambda Z: Z.abs().sum(dim=(-2, -1), dtype=torch.float64),
}


def rate_reduction(Z: Tensor, U: Tensor, *, eps: float) -> Tensor:
    """Rate reduction of each sample's tokens, in nats: R(Z) - R^c(Z; U).

    Shapes: Z (B, n, d), U (K, d, p) -> (B,), float64.
    Args: eps: coding precision; squared in the formula.
    Raises: ShapeError, NonFiniteError.
    References: Yu et al. 2020, arXiv:2006.08558.
    """
    return coding_rate(Z, eps=eps) - compression(Z, U, eps=eps)


def sparse_rate_reduction(
    Z: Tensor, U: Tensor, *, eps: float, lam: float, penalty: str = "l0"
) -> Tensor:
    """Sparse rate reduction of each sample's tokens: R(Z) - R^c(Z; U) - lam ||Z||_0.

    ||Z||_0 is the number of entries that are not exactly zero. Larger is better. A number has no
    gradient: to train with it, `penalty="l1"` puts ||Z||_1, the sum of magnitudes, in its place.

    Shapes: Z (B, n, d), U (K, d, p) -> (B,), float64, in nats.
    Args:
        eps: coding precision; squared in the formula. lam: nats a non-zero entry costs, or with
            `l1` one of magnitude 1. penalty: `l0` or `l1`.
    Raises: ShapeError, NonFiniteError; ProbeError for another penalty.
    References: Yu et al. 2023, arXiv:2306.01129, equation 1; section 2.4 for the l1.
    """
    if penalty not in _PENALTIES:
        raise ProbeError(
            f"unknown penalty '{penalty}'", "it says how zeros count", nearest(penalty, _PENALTIES)
        )
    return rate_reduction(Z, U, eps=eps) - lam * _PENALTIES[penalty](Z)


@dataclass(frozen=True, kw_only=True)
class RateReduction(SampleMeasure):
    """R(Z) - R^c(Z; U) of each sample, both taken on the same tokens."""

    name = "rate_reduction"
    unit = "nats"
    formula = "R(Z) - R^c(Z; U)"
    tex = r"\Delta R(Z; U) = R(Z) - R^c(Z; U)"
    misleads = (
        "Subspaces that miss the tokens raise it as much as subspaces that fit them, since R^c is "
        "then near zero. With projections that are not orthonormal it may be negative and says "
        "nothing of geometry: take orthonormal bases. It is a difference of two large numbers, "
        "each with its own growth in n, d and K."
    )
    source = "Yu et al. 2020, arXiv:2006.08558, equation 4"
    label = r"$\Delta R(<Z>;\, U^\ell)$"
    group = "rate"
    heavy = True
    cost = "what coding_rate and compression take on the same tokens"
    better = "higher"
    site = {"paper": "z_out", "official": "attn_in"}
    needs_basis = True
    uses_norm = True
    invariances = frozenset(
        {"token_order", "repeated_tokens", "head_order", "rotation_in_subspace"}
    )

    eps: float = 0.1

    def inputs(self, site: str) -> tuple[str, ...]:
        """In the official convention R^c comes from the projected tokens themselves."""
        return (site, HEADS) if self.convention == "official" else (site,)

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """R - R^c; the parts are shared with the other measures of the layer."""
        unit = self.convention == "official"
        whole = rate(layer, site, eps=self.eps, unit=unit)
        if unit:
            return whole - official_rate(layer, HEADS, eps=self.eps)
        return whole - rate_in_subspaces(layer, site, eps=self.eps)


@dataclass(frozen=True, kw_only=True)
class SparseRateReduction(SampleMeasure):
    """R(Z) - R^c(Z; U) - lam ||Z||_0 of each sample: the objective itself."""

    name = "sparse_rate_reduction"
    unit = "nats"
    formula = "R(Z) - R^c(Z; U) - lam |Z|_0"
    tex = r"R(Z) - R^c(Z; U) - \lambda \|Z\|_0"
    misleads = (
        "The count of non-zero entries is not divided by n d and outweighs the rates at the usual "
        "lam: of a model without exact zeros the last term is the constant lam n d, and of a "
        "CRATE the curve is mostly that of the l0 share. No release states the lam that the "
        "principle was meant with. Read its three parts one by one."
    )
    source = "Yu et al. 2023, arXiv:2306.01129, equation 1"
    label = r"$\Delta R(<Z>) - \lambda\|<raw>\|_0$"
    group = "rate"
    heavy = True
    cost = "as rate_reduction"
    better = "higher"
    site = {"paper": "z_out"}
    needs_basis = True
    uses_norm = True
    invariances = frozenset({"token_order", "head_order", "rotation_in_subspace"})

    eps: float = 0.1
    lam: float = 0.1

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """The objective on the site's tokens."""
        reduction = rate(layer, site, eps=self.eps, unit=False) - rate_in_subspaces(
            layer, site, eps=self.eps
        )
        return reduction - self.lam * layer.nonzero(site)
