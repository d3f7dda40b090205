"""Is the attention the step that it was derived as: how its update points along -grad R^c.

The attention's update D is added to the residual stream, and the next thing that looks at it is a
norm: what D could do is the gradient of R^c through that norm, f(Z) = R^c(N(Z); U), and what it
does is f(Z + D). In the released code the output map is free. The measures with `_u` are of the
step as it was derived instead, (1 - k) X + k MSSA(X; U), where it acts: on X = N(Z).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from whitebox_probe._core.checks import (
    expect_alike,
    expect_basis,
    expect_finite,
    expect_finite_heads,
    expect_shape,
)
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics._slope import slope
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.rate_change import (
    exact_heads,
    rate,
    rate_at,
    rate_moved,
    rate_of,
    shared_update,
    through,
)
from whitebox_probe.metrics.tokens import MEAN, MEAN_OF, LayerTokens, Norm, project

__all__ = [
    "DescentAchieved",
    "DescentAchievedU",
    "DescentCosine",
    "DescentCosineCommon",
    "DescentCosineMean",
    "DescentCosineShared",
    "DescentCosineU",
    "compression_gradient",
    "descent_achieved",
    "descent_cosine",
    "mssa_with_u",
]


def compression_gradient(Z: Tensor, U: Tensor, *, eps: float, norm: Norm | None = None) -> Tensor:
    """Gradient of R^c(N(Z); U) with respect to the tokens; without a norm, of R^c(Z; U).

    grad_X = a sum_k X U_k (I + a (X U_k)^T (X U_k))^-1 U_k^T, a = p/(n eps^2), X = N(Z), and the
    product of the norm's Jacobian with it. Directions in which tokens are rounding have no part.

    Shapes: Z (B, n, d), U (K, d, p) -> (B, n, d), float64.
    Args: norm: a function of tokens that can be followed backwards, such as an nn.LayerNorm.
    Raises: ShapeError, NonFiniteError; ProbeError for a norm that has no gradient.
    References: Yu et al. 2023, arXiv:2306.01129, equation 9 (tokens in rows here).
    """
    expect_shape(Z, "B n d", name="Z")
    expect_basis(Z, U)
    expect_finite_heads(U)
    with _following(Z, U):
        X = through(norm, Z)
        V = project(_linalg.upcast(X), _linalg.upcast(U))
        gradient = _gradient(X, U, V, _linalg.gram(V), eps)
        if norm is not None:
            gradient = pulled_back(norm, Z, gradient)
    return expect_finite(gradient, name="gradient of R^c")


def _following(*given: Tensor) -> torch.set_grad_enabled:
    """Follow what is given, and not the parameters of a norm alone."""
    follow = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    return torch.set_grad_enabled(follow)


def _gradient(X: Tensor, U: Tensor, V: Tensor, G: Tensor, eps: float) -> Tensor:
    """At the tokens X, from V = X U_k (B, K, n, p) and its Gram matrices."""
    U = _linalg.upcast(U)
    n, p = V.shape[-2:]
    a = p / (n * eps**2)
    size = torch.linalg.vector_norm(_linalg.upcast(X.detach()), dim=(-2, -1))
    longest = torch.linalg.vector_norm(U.detach(), dim=1).amax(dim=-1)  # (K,)
    least = _linalg.rounding(V, width=X.shape[-1]) * size[:, None] * longest  # (B, K)
    return a * _back(slope(V, G, a, least), U)


def pulled_back(norm: Norm, Z: Tensor, gradient: Tensor) -> Tensor:
    """A gradient at N(Z) as one at Z: its product with the norm's Jacobian.

    Works within `torch.inference_mode` as well, and leaves nothing behind: no parameter of the norm
    gets a gradient. Where Z itself is followed, so is the result.

    Shapes: Z and gradient (B, n, d) -> (B, n, d), float64.
    Raises: ProbeError for a norm that has no gradient.
    """
    follow = torch.is_grad_enabled() and (Z.requires_grad or gradient.requires_grad)
    with torch.inference_mode(False), torch.enable_grad():
        leaf = Z if follow and Z.requires_grad else Z.detach().clone().requires_grad_()
        X = norm(leaf)
        given = gradient.to(X.dtype)
        if not X.requires_grad:
            raise ProbeError(
                "the attention norm has no gradient",
                "it cannot be followed from its output back to the residual stream",
                "Take a norm of differentiable operations; or prenorm=False, without the norm",
            )
        given = given if follow else given.detach().clone()
        (back,) = torch.autograd.grad(X, leaf, given, create_graph=follow)
    return _linalg.upcast(back)


def _back(V: Tensor, U: Tensor) -> Tensor:
    """What tokens in each subspace make together: sum_k V_k U_k^T, as one product.

    Shapes: V (B, K, n, p), U (K, d, p) -> (B, n, d).
    """
    side_by_side = V.transpose(1, 2).flatten(2)  # (B, n, K*p)
    return side_by_side @ U.mT.flatten(0, 1)


def mssa_with_u(Z: Tensor, U: Tensor, *, causal: bool = False) -> Tensor:
    """Multi-head subspace self-attention with U as its output map, as derived.

    sum_k softmax(V_k V_k^T / sqrt(p)) V_k U_k^T, V_k = Z U_k

    Shapes: Z (B, n, d), U (K, d, p) -> (B, n, d), in the precision of Z.
    Args: causal: whether a token attends to itself and the tokens before it alone.
    Raises: ShapeError.
    References: Yu et al. 2023, arXiv:2306.01129, equations 10 and 11, without the constant.
    """
    expect_shape(Z, "B n d", name="Z")
    expect_basis(Z, U)
    V = project(Z, U)
    out = F.scaled_dot_product_attention(V, V, V, is_causal=causal)
    return _back(out, U.to(Z))


def descent_cosine(
    Z: Tensor, update: Tensor, U: Tensor, *, eps: float, norm: Norm | None = None
) -> Tensor:
    """Cosine between an update of the tokens and -grad R^c(N(Z); U): 1 for steepest descent.

    0 where either is zero.

    Shapes: Z and update (B, n, d), U (K, d, p) -> (B,), float64.
    Args: norm: N, what stands between the tokens and the subspaces; nothing if not given.
    Raises: ShapeError, NonFiniteError; ProbeError for a norm that has no gradient.
    """
    expect_alike(update, Z, name="update")
    gradient = compression_gradient(Z, U, eps=eps, norm=norm)
    return expect_finite(_cosine(_linalg.upcast(update), -gradient), name="cosine")


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(a, dim=(-2, -1)) * torch.linalg.vector_norm(b, dim=(-2, -1))
    return (a * b).sum(dim=(-2, -1)) / norms.masked_fill(norms == 0, 1.0)


def descent_achieved(
    Z: Tensor, update: Tensor, U: Tensor, *, eps: float, norm: Norm | None = None
) -> Tensor:
    """Actual change of R^c by an update, as a share of the largest decrease of first order.

    (f(Z) - f(Z + D)) / (|grad f(Z)| |D|), f(Z) = R^c(N(Z); U): 1 if a step of that length along
    -grad did all that the gradient promises, negative if R^c rises; 0 where the update or the
    gradient is zero. Divided by `descent_cosine` it is the share of what the update's own direction
    promises. Through a norm give both in float64, and the norm as well: of float32 tokens each rate
    is off by about 5e-7 nats, which hides the fall by a small update.

    Shapes: Z and update (B, n, d), U (K, d, p) -> (B,), float64.
    Args: norm: N, what stands between the tokens and the subspaces; nothing if not given.
    Raises: ShapeError, NonFiniteError; ProbeError for a norm that has no gradient.
    """
    expect_alike(update, Z, name="update")
    gradient = compression_gradient(Z, U, eps=eps, norm=norm)
    with _following(Z, update, U):
        moved = _linalg.upcast(Z) + _linalg.upcast(update)
        moved = moved if norm is None else moved.to(Z.dtype)
        fall = rate(through(norm, Z), U, eps) - rate(through(norm, moved), U, eps)
    return expect_finite(_share(fall, _linalg.upcast(update), gradient), name="achieved share")


def _share(fall: Tensor, update: Tensor, gradient: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(gradient, dim=(-2, -1)) * torch.linalg.vector_norm(
        update, dim=(-2, -1)
    )
    return fall / norms.masked_fill(norms == 0, 1.0)


@dataclass(frozen=True, kw_only=True)
class _OfStep(SampleMeasure):
    """What the measures of the attention step share: the gradient is taken once a layer."""

    group = "fidelity"
    heavy = True
    unit = "-1 to 1"
    source = "Yu et al. 2023, arXiv:2306.01129, equations 9 to 12; own definition"
    cost = "O(n d K p + n K p^2 + K p^3) in float64, and once back through the norm"
    site = {"paper": "z_in"}
    needs_basis = True
    uses_norm = True
    attends_first = True
    default = False
    better: ClassVar[str | None] = "higher"
    invariances = frozenset(
        {"token_order", "repeated_tokens", "head_order", "rotation_in_subspace"}
    )

    eps: float = 0.1

    def inputs(self, site: str) -> tuple[str, ...]:
        """The tokens that enter the layer, and what its attention adds."""
        return (site, "attn_out")

    def normed_gradient(self, layer: LayerTokens, site: str) -> Tensor:
        """The gradient of R^c after the norm."""
        X, U = layer.exactly_normed(site), layer.basis()

        def compute() -> Tensor:
            return _gradient(X, U, *exact_heads(layer, site), self.eps)

        return layer.once(f"gradient after the norm {self.eps}", site, compute)

    def gradient(self, layer: LayerTokens, site: str) -> Tensor:
        """The gradient of R^c in the residual stream."""
        norm, found = layer.exact_norm, self.normed_gradient(layer, site)
        if norm is None:
            return found
        Z = layer.at(site)
        return layer.once(
            f"gradient {self.eps}", site, lambda: pulled_back(norm, _linalg.upcast(Z), found)
        )


class DescentCosine(_OfStep):
    """Cosine between the model's attention update and -grad R^c in the residual stream."""

    name = "descent_cosine"
    formula = "<D, -grad f(Z)> / (|D| |grad f(Z)|), f(Z) = R^c(N(Z); U)"
    tex = (
        r"\frac{\langle D, -\nabla f(Z) \rangle}{\|D\| \, \|\nabla f(Z)\|}, \quad f(Z) = "
        r"R^c(N(Z); U)"
    )
    misleads = (
        "In n d dimensions any two unrelated directions have a cosine near zero, of the order of "
        "1/sqrt(n d): 0.03 may be many standard errors from chance and still leave 99.9% of the "
        "update's square elsewhere. A shift that all tokens share may bring most of it. The size "
        "of the step does not count: see descent_achieved. An update of zeros has 0."
    )
    label = r"$\cos(\Delta_{\mathrm{attn}},\,-\nabla R^c)$"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the step."""
        return _cosine(_linalg.upcast(layer.at("attn_out")), -self.gradient(layer, site))


class DescentCosineCommon(_OfStep):
    """The part of `descent_cosine` that the shift of all tokens by one vector brings."""

    name = "descent_cosine_common"
    formula = "<m, -grad f(Z)> / (|D| |grad f(Z)|), m the mean of D over the tokens"
    tex = (
        r"\frac{\langle \mathbf{1} m^\top, -\nabla f(Z) \rangle}{\|D\| \, \|\nabla f(Z)\|}, "
        r"\quad m = \mathrm{mean}_i\, D_i"
    )
    misleads = (
        "It is a part of a cosine and not a cosine: it is divided by the length of the whole "
        "update. A small value may mean that the shift is short, or that it is orthogonal to the "
        "gradient. Subtract it from descent_cosine; do not read it alone."
    )
    label = r"$\cos(\Delta_{\mathrm{attn}},\,-\nabla R^c)$ by the common shift"
    better = None

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the step: what is left of the cosine is the tokens' own."""
        D = _linalg.upcast(layer.at("attn_out"))
        return _part(D.mean(dim=-2, keepdim=True), D, self.gradient(layer, site))


class DescentCosineMean(_OfStep):
    """The part of `descent_cosine` that the mean update over other samples brings.

    The mean is measured before (by `audit`): it is the same whatever the sample is.
    """

    name = "descent_cosine_mean"
    formula = "<M, -grad f(Z)> / (|D| |grad f(Z)|), M_i the mean over samples of D_i"
    tex = (
        r"\frac{\langle M, -\nabla f(Z) \rangle}{\|D\| \, \|\nabla f(Z)\|}, \quad M_i = "
        r"\mathrm{mean}_s\, D_i(s)"
    )
    misleads = (
        "It is a control, divided by the length of the whole update. The mean over few samples is "
        "noisy, and its cosine then too near zero, which flatters the model. It is measured by "
        "the audit alone."
    )
    label = r"$\cos(\Delta_{\mathrm{attn}},\,-\nabla R^c)$ by the mean over samples"
    better = None
    needs_operators = (MEAN, MEAN_OF)
    invariances = frozenset({"head_order", "rotation_in_subspace"})

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the step: what is left of the cosine looks at the sample."""
        D = _linalg.upcast(layer.at("attn_out"))
        return _part(layer.mean_update(), D, self.gradient(layer, site))


class DescentCosineShared(_OfStep):
    """The part of `descent_cosine` that what looks at no token brings.

    That is the shift that all tokens of the sample share, and what their places get beyond one in
    other samples (measured before, by `audit`).
    """

    name = "descent_cosine_shared"
    formula = "<m + M - <M>, -grad f(Z)> / (|D| |grad f(Z)|), M_i the mean over samples of D_i"
    tex = (
        r"\frac{\langle m + M - \langle M \rangle, -\nabla f(Z) \rangle}{\|D\| \, \|\nabla "
        r"f(Z)\|}"
    )
    misleads = (
        "It is a control: what of the cosine looks at no token of the sample beyond the shift "
        "they share. That shift may be the sample's own doing, so that a model is judged hard by "
        "it. Few samples make the mean noisy, and the control too small."
    )
    label = r"$\cos(\Delta_{\mathrm{attn}},\,-\nabla R^c)$ by what looks at no token"
    better = None
    needs_operators = (MEAN, MEAN_OF)
    invariances = frozenset({"head_order", "rotation_in_subspace"})

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the step: what is left of the cosine looks at the tokens."""
        D = _linalg.upcast(layer.at("attn_out"))
        return _part(shared_update(D, layer.mean_update()), D, self.gradient(layer, site))


def _part(part: Tensor, whole: Tensor, gradient: Tensor) -> Tensor:
    """Of the cosine of the whole with -gradient, what a part of it brings."""
    norms = torch.linalg.vector_norm(whole, dim=(-2, -1)) * torch.linalg.vector_norm(
        gradient, dim=(-2, -1)
    )
    inner = -(part * gradient).sum(dim=(-2, -1))
    return inner / norms.masked_fill(norms == 0, 1.0)


class DescentAchieved(_OfStep):
    """Fall of R^c by the model's attention update, as a share of the steepest first-order fall."""

    name = "descent_achieved"
    formula = "(f(Z) - f(Z + D)) / (|grad f(Z)| |D|), f(Z) = R^c(N(Z); U)"
    tex = r"\frac{f(Z) - f(Z + D)}{\|\nabla f(Z)\| \, \|D\|}, \quad f(Z) = R^c(N(Z); U)"
    misleads = (
        "A long step overshoots: it may be negative although the direction is downhill, and a "
        "tiny step has about the cosine of its direction. A large fall in nats and a small share "
        "go together where the gradient is steep. A shift of all tokens counts in full; the parts "
        "of attention_rate_change tell it apart. An update of zeros has 0. A norm that computes in "
        "float32 whatever it is given rounds f by about 5e-7 nats: of a fall as small as that it "
        "tells nothing."
    )
    label = r"achieved share of the first-order decrease of $R^c$"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the step."""
        fall = rate_at(layer, site, self.eps) - rate_moved(layer, site, "whole", self.eps)
        return _share(fall, _linalg.upcast(layer.at("attn_out")), self.gradient(layer, site))


class _OfDerivedStep(_OfStep):
    """The step as derived, on the tokens after the norm, with U in place of the output map."""

    cost = "O(n d K p + n^2 K p + K p^3) in float64"

    def inputs(self, site: str) -> tuple[str, ...]:
        """The tokens that enter the layer."""
        return (site,)

    def direction(self, layer: LayerTokens, site: str) -> Tensor:
        """MSSA(X; U) - X, with the model's causal mask where it has one."""
        X, U = layer.exactly_normed(site), layer.basis()
        own = _linalg.wide(layer.at(site)).dtype

        def compute() -> Tensor:  # attention in the precision of the tokens, as the model takes it
            return _linalg.upcast(mssa_with_u(X.to(own), U, causal=layer.causal)) - X

        return layer.once("derived step", site, compute)


class DescentCosineU(_OfDerivedStep):
    """Cosine between the step as derived and -grad R^c, on the tokens after the norm."""

    name = "descent_cosine_u"
    formula = "cosine of MSSA(X; U) - X and -grad R^c(X; U), X = N(Z)"
    tex = r"\cos\left(\mathrm{MSSA}(X; U) - X, \; -\nabla R^c(X; U)\right), \quad X = N(Z)"
    misleads = (
        "It is of the step that the paper derives, with U as the output map, and says nothing of "
        "what the model does: a high value beside a low descent_cosine means that the learned "
        "output map undoes it. For a ViT U is the projection that was named, and the step is one "
        "that no part of the network takes."
    )
    label = r"$\cos(\mathrm{MSSA}(X;U) - X,\,-\nabla R^c)$"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the step."""
        return _cosine(self.direction(layer, site), -self.normed_gradient(layer, site))


@dataclass(frozen=True, kw_only=True)
class DescentAchievedU(_OfDerivedStep):
    """Fall of R^c by the step as derived, as a share of the steepest first-order fall.

    The step is kappa (MSSA(X; U) - X).
    """

    name = "descent_achieved_u"
    formula = "(R^c(X) - R^c(X + D)) / (|grad R^c(X)| |D|), D = kappa (MSSA(X; U) - X), X = N(Z)"
    tex = (
        r"\frac{R^c(X) - R^c(X + D)}{\|\nabla R^c(X)\| \, \|D\|}, \quad D = "
        r"\kappa\,(\mathrm{MSSA}(X; U) - X)"
    )
    misleads = (
        "It depends on kappa, 0.5 unless you say otherwise, which no checkpoint holds. It is of "
        "the derived step and not of the model's own. Most of the fall may be plain shrinkage, "
        "since the step subtracts X."
    )
    label = r"achieved share of the first-order decrease, $U$ as output map"

    kappa: float = 0.5

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the step."""
        step = self.kappa * self.direction(layer, site)
        X = layer.exactly_normed(site)
        after = rate_of(layer, site, f"stepped {self.kappa}", lambda: X + step, self.eps, norm=None)
        fall = rate_at(layer, site, self.eps) - after
        return _share(fall, step, self.normed_gradient(layer, site))
