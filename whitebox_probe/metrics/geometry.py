"""Geometry of tokens: their angles and norms, within a sample."""

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_finite, expect_shape
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = ["MeanCosine", "TokenNorm", "mean_cosine", "token_norm"]


def mean_cosine(Z: Tensor) -> Tensor:
    """Mean cosine between two different tokens of a sample (anisotropy): -1/(n-1) to 1.

    A zero token, or one that is rounding beside the sample's largest, has cosine 0 with all; NaN
    where fewer than two tokens are not zero, such as of one token.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    References: Ethayarajh 2019, arXiv:1909.00512.

    >>> import torch
    >>> mean_cosine(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])).tolist()
    [0.0]
    """
    expect_shape(Z, "B n d", name="Z")
    alone = _alone(_linalg.token_norms(Z))
    return expect_finite(_mean_cosine(Z, alone), name="mean cosine", undefined=alone)


def _alone(norms: Tensor) -> Tensor:
    """Which samples have fewer than two tokens that are not zero: norms (B, n) -> (B,)."""
    return ((norms != 0).sum(dim=-1) < 2) & norms.sum(dim=-1).isfinite()


def _mean_cosine(Z: Tensor, lonely: Tensor) -> Tensor:
    n = Z.shape[-2]
    unit = _linalg.unit_tokens(_linalg.upcast(Z), _linalg.token_floor(Z))
    together = unit.sum(dim=-2).square().sum(dim=-1)
    alone = unit.square().sum(dim=(-2, -1))
    return ((together - alone) / max(n * (n - 1), 1)).masked_fill(lonely, torch.nan)


def token_norm(Z: Tensor) -> Tensor:
    """Mean Euclidean norm of a sample's tokens.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.

    >>> import torch
    >>> token_norm(torch.tensor([[[3.0, 4.0], [0.0, 0.0]]])).tolist()
    [2.5]
    """
    expect_shape(Z, "B n d", name="Z")
    return expect_finite(_token_norm(Z), name="token norm")


def _token_norm(Z: Tensor) -> Tensor:
    return torch.linalg.vector_norm(_linalg.upcast(Z), dim=-1).mean(dim=-1)


class MeanCosine(SampleMeasure):
    """Mean cosine between two different tokens of a sample."""

    name = "mean_cosine"
    unit = "-1 to 1"
    formula = "mean over i != j of <z_i, z_j> / (|z_i| |z_j|)"
    tex = r"\frac{1}{n(n-1)} \sum_{i \ne j} \frac{\langle z_i, z_j \rangle}{\|z_i\| \, \|z_j\|}"
    misleads = (
        "A common mean of all tokens, or one feature of large size, brings it near 1 whatever the "
        "rest does: most deep features look collapsed by it and are not after centring. It says "
        "nothing of how many directions the tokens span, and its least value, -1/(n-1), depends "
        "on how many tokens there are. A token that is zero counts as at right angles to all."
    )
    source = "Ethayarajh 2019, arXiv:1909.00512"
    label = "mean cosine of tokens of $<Z>$"
    group = "geometry"
    site = {"paper": "z_out", "official": "z_out"}
    default = False
    invariances = frozenset({"rotation", "scale", "token_order"})
    none_where = "{} have fewer than two tokens that are not zero"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the site's tokens."""
        return _mean_cosine(layer.at(site), _alone(layer.norms(site)))

    def undefined(self, layer: LayerTokens, site: str) -> Tensor | None:
        """Those of one token, or of one that is not zero."""
        return _alone(layer.norms(site))


class TokenNorm(SampleMeasure):
    """Mean Euclidean norm of a sample's tokens."""

    name = "token_norm"
    unit = "as the features"
    formula = "mean over i of |z_i|_2"
    tex = r"\frac{1}{n} \sum_{i=1}^{n} \|z_i\|_2"
    misleads = (
        "Norms of a pre-norm residual stream grow with depth in any network, trained or not, and "
        "the next layer's norm takes them away: growth is no evidence of anything that layer "
        "sees. A mean hides a few tokens (registers, the class token) that are ten times as long "
        "as the rest."
    )
    source = "standard"
    label = "mean norm of tokens of $<Z>$"
    group = "geometry"
    site = {"paper": "z_out", "official": "z_out"}
    default = False
    invariances = frozenset({"rotation", "token_order", "repeated_tokens"})

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the site's tokens."""
        return _token_norm(layer.at(site))
