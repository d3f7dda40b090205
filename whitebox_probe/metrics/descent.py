"""Is the attention the step that it was derived as: how its update points along -grad R^c.

The attention step is looked at where it acts: on X, the tokens after the layer's attention norm.
Its update D is what it adds to the residual stream. In the released code the output map is free;
`update="u"` puts U in its place, as the derivation has it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from whitebox_probe._core.checks import expect_finite, expect_shape
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.compression import _expect_basis
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.rate_change import _compression
from whitebox_probe.metrics.tokens import LayerTokens, project

__all__ = [
    "DescentAchieved",
    "DescentAchievedU",
    "DescentCosine",
    "DescentCosineU",
    "compression_gradient",
    "descent_achieved",
    "descent_cosine",
    "mssa_with_u",
]


def compression_gradient(Z: Tensor, U: Tensor, *, eps: float) -> Tensor:
    """Gradient of R^c(Z; U) with respect to the tokens.

    grad = a sum_k Z U_k (I + a (Z U_k)^T (Z U_k))^-1 U_k^T, a = p/(n eps^2)

    Shapes: Z (B, n, d), U (K, d, p) -> (B, n, d), float64.
    Raises: ShapeError, NonFiniteError.
    References: Yu et al. 2023, arXiv:2306.01129, equation 9 (tokens in rows here).
    """
    expect_shape(Z, "B n d", name="Z")
    _expect_basis(Z, U)
    return expect_finite(_gradient(Z, U, eps), name="gradient of R^c")


def _gradient(Z: Tensor, U: Tensor, eps: float) -> Tensor:
    Z, U = _linalg.upcast(Z), _linalg.upcast(U)
    V = project(Z, U)  # (B, K, n, p)
    n, p = V.shape[-2:]
    a = p / (n * eps**2)
    A = a * (V.mT @ V)
    A.diagonal(dim1=-2, dim2=-1).add_(1.0)
    with _linalg.one_thread(A.device):
        L, info = torch.linalg.cholesky_ex(A)
        # Of I + a G, whose eigenvalues are 1 at least, the inverse is as exact as a solution.
        inverse = torch.cholesky_inverse(L)  # (B, K, p, p)
    inner = (V @ inverse).masked_fill((info != 0)[..., None, None], torch.nan)
    return a * _back(inner, U)


def _back(V: Tensor, U: Tensor) -> Tensor:
    """What tokens in each subspace make together: sum_k V_k U_k^T, as one product.

    Shapes: V (B, K, n, p), U (K, d, p) -> (B, n, d).
    """
    side_by_side = V.transpose(1, 2).flatten(2)  # (B, n, K*p)
    return side_by_side @ U.mT.flatten(0, 1)


def mssa_with_u(Z: Tensor, U: Tensor) -> Tensor:
    """Multi-head subspace self-attention with U as its output map, as derived.

    sum_k softmax(V_k V_k^T / sqrt(p)) V_k U_k^T, V_k = Z U_k

    Shapes: Z (B, n, d), U (K, d, p) -> (B, n, d), in the precision of Z.
    Raises: ShapeError.
    References: Yu et al. 2023, arXiv:2306.01129, equations 10 and 11, without the constant.
    """
    expect_shape(Z, "B n d", name="Z")
    _expect_basis(Z, U)
    V = project(Z, U)
    out = F.scaled_dot_product_attention(V, V, V)
    return _back(out, U.to(Z))


def descent_cosine(Z: Tensor, update: Tensor, U: Tensor, *, eps: float) -> Tensor:
    """Cosine between an update of the tokens and -grad R^c(Z; U): 1 for steepest descent.

    0 where either is zero.

    Shapes: Z and update (B, n, d), U (K, d, p) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    """
    gradient = compression_gradient(Z, U, eps=eps)
    return expect_finite(_cosine(_linalg.upcast(update), -gradient), name="cosine")


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(a, dim=(-2, -1)) * torch.linalg.vector_norm(b, dim=(-2, -1))
    return (a * b).sum(dim=(-2, -1)) / norms.masked_fill(norms == 0, 1.0)


def descent_achieved(Z: Tensor, update: Tensor, U: Tensor, *, eps: float) -> Tensor:
    """Actual change of R^c by an update, as a share of the largest decrease of first order.

    (R^c(Z) - R^c(Z + D)) / (|grad R^c| |D|): 1 if a step of that length along -grad did all that
    the gradient promises, negative if R^c rises; 0 where the update or the gradient is zero.
    Divided by `descent_cosine` it is the share of what the update's own direction promises.

    Shapes: Z and update (B, n, d), U (K, d, p) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    """
    gradient = compression_gradient(Z, U, eps=eps)
    share = _achieved(_linalg.upcast(Z), _linalg.upcast(update), gradient, U, eps)
    return expect_finite(share, name="achieved share")


def _achieved(Z: Tensor, update: Tensor, gradient: Tensor, U: Tensor, eps: float) -> Tensor:
    norms = torch.linalg.vector_norm(gradient, dim=(-2, -1)) * torch.linalg.vector_norm(
        update, dim=(-2, -1)
    )
    fall = _compression(Z, U, eps) - _compression(Z + update, U, eps)
    return fall / norms.masked_fill(norms == 0, 1.0)


@dataclass(frozen=True, kw_only=True)
class _OfStep(SampleMeasure):
    """What the measures of the attention step share: the gradient is taken once a layer."""

    group = "fidelity"
    heavy = True
    unit = "-1 to 1"
    source = "Yu et al. 2023, arXiv:2306.01129, equations 9 to 11; own definition"
    cost = "O(n d K p + n K p^2 + K p^3) in float64"
    site = {"paper": "attn_in"}
    needs_basis = True
    default = False
    invariances = frozenset(
        {"token_order", "repeated_tokens", "head_order", "rotation_in_subspace"}
    )
    with_u = False

    eps: float = 0.1

    def inputs(self, site: str) -> tuple[str, ...]:
        """The step's input, and its update unless U stands in for the output map."""
        return (site,) if self.with_u else (site, "attn_out")

    def gradient(self, layer: LayerTokens, site: str) -> Tensor:
        """The gradient of R^c at the step's input."""
        U = layer.basis()
        return layer.once(
            f"gradient {self.eps}",
            site,
            lambda: _gradient(layer.at(site), U, self.eps),
            of_norm=False,
        )

    def update_of(self, layer: LayerTokens, site: str) -> Tensor:
        """What the step adds."""
        if not self.with_u:
            return _linalg.upcast(layer.at("attn_out"))
        U = layer.basis()
        return layer.once(
            "mssa with U",
            site,
            lambda: mssa_with_u(_linalg.upcast(layer.at(site)), U),
            of_norm=False,
        )


class DescentCosine(_OfStep):
    """Cosine between the model's attention update and -grad R^c at its input."""

    name = "descent_cosine"
    formula = "<D, -grad R^c(X; U)> / (|D| |grad R^c|)"
    label = r"$\cos(\Delta_{\mathrm{attn}},\,-\nabla R^c)$"
    better = "higher"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the step."""
        return _cosine(self.update_of(layer, site), -self.gradient(layer, site))


class DescentCosineU(DescentCosine):
    """The same, with U in place of the model's output map."""

    name = "descent_cosine_u"
    formula = "the same for D = sum_k softmax(V_k V_k^T/sqrt(p)) V_k U_k^T"
    label = r"$\cos(\Delta_{\mathrm{MSSA}(U)},\,-\nabla R^c)$"
    with_u = True


class DescentAchieved(_OfStep):
    """Fall of R^c by the model's attention update, as a share of the steepest first-order fall."""

    name = "descent_achieved"
    formula = "(R^c(X) - R^c(X + D)) / (|grad R^c(X)| |D|)"
    label = r"achieved share of the first-order decrease of $R^c$"
    better = "higher"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the step."""
        Z = _linalg.upcast(layer.at(site))
        gradient = self.gradient(layer, site)
        return _achieved(Z, self.update_of(layer, site), gradient, layer.basis(), self.eps)


class DescentAchievedU(DescentAchieved):
    """The same, with U in place of the model's output map."""

    name = "descent_achieved_u"
    formula = "the same for D = sum_k softmax(V_k V_k^T/sqrt(p)) V_k U_k^T"
    label = r"achieved share of the first-order decrease, $U$ as output map"
    with_u = True
