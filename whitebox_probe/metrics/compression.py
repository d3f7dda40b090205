"""The compression R^c(Z; U): the coding rate of the tokens within the heads' subspaces."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from whitebox_probe._core.checks import (
    expect_basis,
    expect_finite,
    expect_finite_heads,
    expect_shape,
)
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import HEADS, LayerTokens, project
from whitebox_probe.sites import is_residual

__all__ = ["Compression", "compression", "official_bounds", "official_compression"]


_NOISE = 1e-5  # moves a rate by 2e-6 of its value


def compression(Z: Tensor, U: Tensor, *, eps: float) -> Tensor:
    """Coding rate of each sample's tokens within the subspaces, in nats.

    R^c(Z; U) = sum_k 1/2 logdet(I + p/(n eps^2) (Z U_k)^T (Z U_k))

    Shapes: Z (B, n, d), U (K, d, p) -> (B,), float64. Rows are tokens; the papers write columns.
    Args: eps: coding precision; squared in the formula.
    Raises: ShapeError, NonFiniteError.
    References: Yu et al. 2023, arXiv:2306.01129, equation 8.

    Example: with one subspace that is the whole space, R^c is R.

    >>> import torch
    >>> Z = torch.tensor([[[1.0, 0.0]]])
    >>> round(float(compression(Z, torch.eye(2)[None], eps=1.0)), 6)
    0.549306
    """
    expect_shape(Z, "B n d", name="Z")
    expect_basis(Z, U)
    expect_finite_heads(U)
    V = project(_linalg.upcast(Z), U)
    return expect_finite(_sum_over_heads(V, _linalg.gram(V), eps=eps), name="R^c(Z; U)")


def official_compression(V: Tensor, *, eps: float = 0.1) -> Tensor:
    """R^c as the official release measures it, in nats, from the tokens in each head's subspace.

    sum_k 1/2 logdet(I + p/(n eps^2) V_k^T V_k), each row of V_k scaled to unit norm. Rows that are
    rounding beside the largest of their sample, and directions that are, are zero: at unit norm
    they would count as the widest head.

    Shapes: V (B, K, n, p) -> (B,), float64.
    Args: eps: the release calls 0.01 "eps" and does not square it: that is eps = 0.1 here.
    Raises: ShapeError, NonFiniteError.
    References: Ma-Lab-Berkeley/CRATE, vis_utils (commit 674408f).
    """
    expect_shape(V, "B K n p", name="V")
    V = _linalg.unit_in_heads(V)
    return expect_finite(_sum_over_heads(V, _linalg.gram(V), eps=eps), name="R^c(Z; U)")


def official_bounds(
    *, heads: int, dim_head: int, tokens: int, eps: float = 0.1
) -> tuple[float, float]:
    """The smallest and the largest value that `official_compression` can take, in nats.

    Unit tokens that are all the same give (K/2) ln(1 + p/eps^2). Tokens spread evenly over
    m = min(n, p) directions give (K m/2) ln(1 + p/(m eps^2)), which is (K p/2) ln(1 + 1/eps^2)
    when there are at least p tokens.
    """
    most = min(tokens, dim_head)
    low = heads / 2 * math.log1p(dim_head / eps**2)
    high = heads * most / 2 * math.log1p(dim_head / (most * eps**2))
    return low, high


def _sum_over_heads(V: Tensor, G: Tensor, *, eps: float) -> Tensor:
    n, p = V.shape[-2:]
    return _linalg.half_logdet(V, G, p / (n * eps**2)).sum(dim=-1)  # (B, K) -> (B,)


@dataclass(frozen=True, kw_only=True)
class Compression(SampleMeasure):
    """R^c(Z; U) of each sample, in the `paper` or the `official` convention.

    The official one may also be taken at `z_in`, `z_half` and `z_out`: of the tokens there after
    the layer's norm, in its subspaces, each of unit norm. The norm is always part of it.
    """

    name = "compression"
    unit = "nats"
    formula = "R^c(Z; U) = sum_k 1/2 logdet(I + p/(n eps^2) (Z U_k)^T (Z U_k))"
    tex = (
        r"R^c(Z; U) = \sum_{k=1}^{K} \frac{1}{2} \log\det\left(I + \frac{p}{n \varepsilon^2} (Z "
        r"U_k)^\top (Z U_k)\right)"
    )
    misleads = (
        "It falls when tokens leave the subspaces as well as when they gather in them: tokens "
        "that are orthogonal to every U_k have none at all, so look at the coding rate beside it. "
        "A learned projection is not orthonormal, and smaller weights alone lower it. U changes "
        "from layer to layer, so that a falling curve may be the work of U and not of the tokens; "
        "and a vector that is added to all tokens in front of a norm lowers it too."
    )
    source = "Yu et al. 2023, arXiv:2306.01129, equation 8"
    label = r"$R^c(<Z>;\, U^\ell)$"
    group = "rate"
    heavy = True
    cost = "O(n d K p + n K p^2 + K p^3); the projection is free in the official convention"
    better = "lower"
    site = {"paper": "z_half", "official": HEADS}
    needs_basis = True
    uses_norm = True
    official_norm = True
    invariances = frozenset(
        {"rotation_in_subspace", "token_order", "repeated_tokens", "head_order"}
    )

    eps: float = 0.1

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """R^c of the site's tokens."""
        if self.convention == "official":
            return official_rate(layer, site, eps=self.eps)
        return rate_in_subspaces(layer, site, eps=self.eps)


def rate_in_subspaces(layer: LayerTokens, site: str, *, eps: float) -> Tensor:
    """R^c of a site's normed tokens in the layer's basis; shared between measures."""
    Z = layer.at(site)
    expect_shape(Z, "B n d", name=site)
    if layer.U is not None:
        expect_basis(Z, layer.U)
    V, G = layer.heads(site), layer.head_gram(site)
    n, p = V.shape[-2:]
    scale = p / (n * eps**2)
    value = layer.half_logdet("compression", site, V, G, scale).sum(dim=-1)
    if V.dtype == torch.float64 or layer.U is None:
        return value
    # Tokens of large norm and low rank: what float32 products add in the other directions shows.
    rough = _linalg.noise(layer.normed(site), layer.U, scale) > _NOISE
    if not _linalg.guarded():
        return value.masked_fill(rough, torch.nan)
    if bool(rough.any()):
        exact = project(_linalg.upcast(layer.normed(site)[rough]), layer.U)
        value = value.masked_fill(rough, torch.nan)
        value[rough] = _sum_over_heads(exact, _linalg.gram(exact), eps=eps)
    return value


def official_rate(layer: LayerTokens, site: str, *, eps: float) -> Tensor:
    """R^c of per-head tokens of unit norm; shared between measures.

    At a site of the residual stream the tokens are those that the layer's norm and subspaces make
    of it: at `z_in` what the release measures at the output of the projection.
    """
    if is_residual(site):
        Z = layer.at(site)
        expect_shape(Z, "B n d", name=site)
        expect_basis(Z, layer.basis())
        V, G = layer.unit_heads(site)
    else:
        expect_shape(layer.at(site), "B K n p", name=site)
        V, G = layer.unit(site)
    n, p = V.shape[-2:]
    return layer.half_logdet("official", site, V, G, p / (n * eps**2)).sum(dim=-1)
