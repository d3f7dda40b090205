"""Is the layer the step that it was derived as? Its attention against -grad R^c, its ISTA against
the LASSO objective that it descends.

The attention step is looked at where it acts: on X, the tokens after the layer's attention norm.
Its update D is what it adds to the residual stream. In the released code the output map is free;
`update="u"` puts U in its place, as the derivation has it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from whitebox_probe._core.checks import expect_finite, expect_shape
from whitebox_probe._core.errors import ShapeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.compression import _expect_basis, _sum_over_heads
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import LayerTokens, project

__all__ = [
    "DescentAchieved",
    "DescentAchievedU",
    "DescentCosine",
    "DescentCosineU",
    "IstaObjectiveChange",
    "RateChangeNoSkip",
    "RateChangeSkip",
    "TokenSNR",
    "compression_gradient",
    "descent_achieved",
    "descent_cosine",
    "ista_objective",
    "mssa_with_u",
    "token_snr",
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


def ista_objective(A: Tensor, Y: Tensor, D: Tensor, *, lam: float) -> Tensor:
    """The LASSO objective of codes A for tokens Y: 1/2 |Y - A D^T|_F^2 + lam |A|_1.

    Shapes: A (B, n, h), Y (B, n, d), D (d, h) acting on token rows as A D^T -> (B,), float64; h is
        d in a CRATE, and more in an overcomplete dictionary.
    Raises: ShapeError.
    References: Yu et al. 2023, arXiv:2306.01129, equation 14.
    """
    expect_shape(A, "B n h", name="A")
    expect_shape(Y, "B n d", name="Y")
    if D.shape != (Y.shape[-1], A.shape[-1]):
        raise ShapeError(
            f"D has shape {tuple(D.shape)}",
            f"codes of width {A.shape[-1]} for tokens of width {Y.shape[-1]} need (d, h) = "
            f"({Y.shape[-1]}, {A.shape[-1]})",
            "Take the code at its own site, 'code', where the dictionary is overcomplete",
        )
    A, Y, D = _linalg.upcast(A), _linalg.upcast(Y), _linalg.upcast(D)
    error = Y - A @ D.mT
    return 0.5 * error.square().sum(dim=(-2, -1)) + lam * A.abs().sum(dim=(-2, -1))


def token_snr(Z: Tensor, U: Tensor) -> Tensor:
    """Signal-to-noise of tokens in each subspace: |Q_k Q_k^T Z|_F / |(I - Q_k Q_k^T) Z|_F.

    Q_k from QR of U_k. Infinite only if the tokens lie in the subspace entirely: then it is capped
    at 1e8, what rounding allows to be told.

    Shapes: Z (B, n, d), U (K, d, p) -> (B, K), float64.
    Raises: ShapeError, NonFiniteError.
    References: arXiv:2506.03790 (attention-only transformers), definition of SNR.
    """
    expect_shape(Z, "B n d", name="Z")
    _expect_basis(Z, U)
    return expect_finite(_snr(_linalg.upcast(Z), _linalg.orthonormalise(U)), name="token SNR")


def _snr(Z: Tensor, Q: Tensor) -> Tensor:
    whole = Z.square().sum(dim=(-2, -1))[:, None]
    signal = project(Z, Q).square().sum(dim=(-2, -1))
    noise = (whole - signal).clamp_min(1e-16 * whole)
    return (signal / noise.masked_fill(whole == 0, 1.0)).sqrt()


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


@dataclass(frozen=True, kw_only=True)
class _RateChange(SampleMeasure):
    """Change of R^c from the tokens that enter the attention step to others."""

    unit = "nats"
    group = "fidelity"
    heavy = True
    source = "arXiv:2411.17182 (MSSA with its skip connection may raise R^c)"
    cost = "twice compression"
    site = {"paper": "z_in"}
    needs_basis = True
    uses_norm = True
    default = False
    better = "lower"
    invariances = frozenset(
        {"token_order", "repeated_tokens", "head_order", "rotation_in_subspace"}
    )
    after = "z_half"

    eps: float = 0.1

    def inputs(self, site: str) -> tuple[str, ...]:
        """Before and after."""
        return (site, self.after)

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """After minus before, both after the attention norm where rates are."""
        before = _exact(layer, site, self.eps)
        if self.after != "attn_out" or layer.norm is None:
            return _exact(layer, self.after, self.eps) - before
        after = layer.norm(layer.at(self.after))  # which is no place of the residual stream
        return _compression(after, layer.basis(), self.eps) - before


def _compression(Z: Tensor, U: Tensor, eps: float) -> Tensor:
    V = project(_linalg.upcast(Z), _linalg.upcast(U))
    return _sum_over_heads(V, _linalg.gram(V), eps=eps)


def _exact(layer: LayerTokens, site: str, eps: float) -> Tensor:
    """R^c of a site's normed tokens, projected in float64; shared between measures and eps."""
    Z, U = layer.normed(site), layer.basis()
    V = layer.once("exact heads", site, lambda: project(_linalg.upcast(Z), _linalg.upcast(U)))
    G = layer.once("exact head gram", site, lambda: _linalg.gram(V))
    n, p = V.shape[-2:]
    return layer.half_logdet("exact", site, V, G, p / (n * eps**2)).sum(dim=-1)


class RateChangeSkip(_RateChange):
    """Change of R^c across the attention step with its skip connection: Z^l to Z^(l+1/2)."""

    name = "attention_rate_change"
    formula = "R^c(Z^(l+1/2); U) - R^c(Z^l; U)"
    label = r"$R^c(Z^{\ell+1/2}) - R^c(Z^{\ell})$"


class RateChangeNoSkip(_RateChange):
    """Change of R^c from the tokens to the attention's output alone, without the skip."""

    name = "attention_rate_change_no_skip"
    formula = "R^c(attn_out; U) - R^c(Z^l; U)"
    label = r"$R^c(\mathrm{attn\_out}) - R^c(Z^{\ell})$"
    after = "attn_out"


class IstaObjectiveChange(SampleMeasure):
    """Relative change of the LASSO objective over a layer's proximal steps, with its own D and lam.

    Where the steps start is A_0. A CRATE takes one from Y itself, the tokens after its norm, to
    Z^(l+1). With an overcomplete dictionary (CRATE-LM, CRATE-alpha) two steps lead from A_0 = 0 to
    the code inside the layer, at `code`; then f(A_0) = 1/2 |Y|_F^2.
    """

    name = "ista_objective_change"
    unit = "share of the objective"
    formula = "(f(A) - f(A_0)) / f(A_0), f(A) = 1/2 |Y - A D^T|_F^2 + lam |A|_1; A_0 = Y, or 0"
    source = "Yu et al. 2023, arXiv:2306.01129, equations 14 to 16"
    label = r"relative change of $\frac{1}{2}\|Y - DA\|^2 + \lambda\|A\|_1$"
    group = "fidelity"
    heavy = True
    cost = "O(n d h) in float64, twice"
    better = "lower"
    site = {"paper": "z_out"}
    code_site = "code"
    needs_operators = ("D", "lam")
    default = False
    invariances = frozenset({"token_order", "repeated_tokens"})

    def inputs(self, site: str) -> tuple[str, ...]:
        """The code, and the tokens that it codes."""
        return (site, "mlp_in")

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the steps; 0 where the objective is zero before and after."""
        Y, A = layer.at("mlp_in"), layer.at(site)
        D, lam = layer.operator("D"), float(layer.operator("lam"))
        assert isinstance(D, Tensor)
        after = ista_objective(A, Y, D, lam=lam)
        if site == self.code_site or D.shape[0] != D.shape[1]:
            before = 0.5 * _linalg.upcast(Y).square().sum(dim=(-2, -1))
        else:
            before = ista_objective(Y, Y, D, lam=lam)
        return (after - before) / before.masked_fill(before == 0, math.inf)


class TokenSNR(SampleMeasure):
    """Signal-to-noise ratio of tokens in each head's subspace."""

    name = "token_snr"
    unit = "ratio"
    formula = "|Q_k Q_k^T Z|_F / |(I - Q_k Q_k^T) Z|_F"
    source = "arXiv:2506.03790"
    label = r"token SNR of $<Z>$"
    group = "fidelity"
    heavy = True
    cost = "O(n d K p) in float64"
    site = {"paper": "z_out"}
    needs_basis = True
    uses_norm = True
    default = False
    invariances = frozenset(
        {"scale", "token_order", "repeated_tokens", "head_order", "rotation_in_subspace"}
    )

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of each head, on the normed tokens."""
        return _snr(_linalg.upcast(layer.normed(site)), layer.orthonormal())
