"""The coding rate R(Z): how many nats the tokens of a sample take, up to a precision."""

from dataclasses import dataclass

from torch import Tensor

from whitebox_probe._core.checks import expect_finite, expect_shape
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = ["CodingRate", "coding_rate"]


def coding_rate(Z: Tensor, *, eps: float) -> Tensor:
    """Coding rate of each sample's tokens, in nats.

    R(Z) = 1/2 logdet(I + d/(n eps^2) Z^T Z)

    Shapes: Z (B, n, d) -> (B,), float64. Rows are tokens; the papers write columns.
    Args: eps: coding precision; squared in the formula.
    Raises: ShapeError, NonFiniteError.
    References: Yu et al. 2020, arXiv:2006.08558; Yu et al. 2023, arXiv:2306.01129, equation 1.

    Example: one token of norm 1 along an axis, with d = 2 and eps = 1, takes ln(3)/2 nats.

    >>> import torch
    >>> round(float(coding_rate(torch.tensor([[[1.0, 0.0]]]), eps=1.0)), 6)
    0.549306
    """
    expect_shape(Z, "B n d", name="Z")
    Z = _linalg.upcast(Z)
    return expect_finite(rate_of_gram(Z, _linalg.gram(Z), eps=eps), name="R(Z)")


def rate_of_gram(Z: Tensor, G: Tensor, *, eps: float) -> Tensor:
    """The same, with the Gram matrix at hand; shapes (..., n, d), (..., m, m) -> (...)."""
    n, d = Z.shape[-2:]
    return _linalg.half_logdet(Z, G, d / (n * eps**2))


@dataclass(frozen=True, kw_only=True)
class CodingRate(SampleMeasure):
    """R(Z) of each sample.

    In the `official` convention the tokens are those after the layer's normalisation, scaled to
    unit norm. The release has no code for R: this is its convention for R^c applied to R.
    """

    name = "coding_rate"
    unit = "nats"
    formula = "R(Z) = 1/2 logdet(I + d/(n eps^2) Z^T Z)"
    tex = r"R(Z) = \frac{1}{2} \log\det\left(I + \frac{d}{n \varepsilon^2} Z^\top Z\right)"
    misleads = (
        "Nats grow with n, d and the norm of the tokens: two models of different sizes differ "
        "before they have learnt anything, and a norm in front of the site hides how long the "
        "tokens are. A high R is no sign of good features: Gaussian tokens of the same norms have "
        "about as much as there can be. With a small eps it counts directions, noise ones too; "
        "with a large one it is little more than the sum of squares."
    )
    source = "Yu et al. 2023, arXiv:2306.01129, equation 1"
    label = r"$R(<Z>)$"
    group = "rate"
    heavy = True
    cost = "O(n d min(n, d) + min(n, d)^3)"
    site = {"paper": "z_out", "official": "attn_in"}
    invariances = frozenset({"rotation", "token_order", "repeated_tokens"})

    uses_norm = True

    eps: float = 0.1

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """R of the site's tokens."""
        return rate(layer, site, eps=self.eps, unit=self.convention == "official")


def rate(layer: LayerTokens, site: str, *, eps: float, unit: bool) -> Tensor:
    """R of a site's normed tokens, or of unit tokens; shared between measures."""
    Z = layer.at(site)
    expect_shape(Z, "B n d", name=site)
    n, d = Z.shape[-2:]
    scale = d / (n * eps**2)
    if unit:
        return layer.half_logdet("unit rate", site, *layer.unit(site), scale, of_basis=False)
    G = layer.gram(site)
    return layer.half_logdet("rate", site, layer.normed(site), G, scale, of_basis=False)
