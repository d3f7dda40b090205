"""Is the second step the one that it was derived as: what it does to its LASSO objective.

F(A) = 1/2 |Y - A D^T|_F^2 + lam |A|_1 over codes A that are not negative, as those of a step that
ends in a ReLU are. Where the step starts is A_0: with a complete dictionary (d atoms) max(Y, 0),
the feasible point nearest to the tokens that the step is applied to; with an overcomplete one 0,
from which two steps lead to the code inside the layer, at `code`.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_shape
from whitebox_probe._core.errors import ProbeError, ShapeError
from whitebox_probe._core.hashing import seed_of
from whitebox_probe._core.onednn import linear
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = [
    "LassoChange",
    "LassoGapClosed",
    "LassoGapOfOthers",
    "LassoGapShrunk",
    "LassoKkt",
    "LassoReconstruction",
    "LassoVsZero",
    "lasso_kkt",
    "lasso_objective",
    "lasso_optimum",
]

TOLERANCE = 0.01
"""Of the way from the start to the optimum, by the duality gap. The optimum itself is then met some
hundred times closer: the bound is a loose one."""
STEPS = 500
TOKENS = 64
"""Of a sample's tokens, on which the optimum is sought: each has its own, and it costs the most."""
_EVERY = 10


def lasso_objective(A: Tensor, Y: Tensor, D: Tensor, *, lam: float) -> Tensor:
    """The LASSO objective of codes A for tokens Y: 1/2 |Y - A D^T|_F^2 + lam |A|_1.

    Shapes: A (B, n, h), Y (B, n, d), D (d, h) acting on token rows as A D^T -> (B,), float64; h is
        d in a CRATE, and more in an overcomplete dictionary.
    Raises: ShapeError.
    References: Yu et al. 2023, arXiv:2306.01129, equation 14.
    """
    A, Y, D = _expect(A, Y, D)
    error = Y - A @ D.mT
    return 0.5 * error.square().sum(dim=(-2, -1)) + lam * A.abs().sum(dim=(-2, -1))


def lasso_optimum(
    Y: Tensor,
    D: Tensor,
    *,
    lam: float,
    start: Tensor | None = None,
    tolerance: float = TOLERANCE,
    steps: int = STEPS,
) -> tuple[Tensor, Tensor]:
    """Codes A >= 0 of least objective, and how far above the least it may be: the duality gap.

    FISTA with restarts in the precision of the tokens, until the gap is at most the share
    `tolerance` of what `start` (0 if not given) lies above, or after `steps` steps; the gap is told
    either way, in float64.

    Shapes: Y (B, n, d), D (d, h) -> (B, n, h) in the precision of Y, and (B,), float64.
    Raises: ShapeError.
    References: Beck and Teboulle 2009, SIAM Journal on Imaging Sciences 2; O'Donoghue and Candes
        2015, Foundations of Computational Mathematics 15 (restarts); Kim et al. 2007, IEEE Journal
        of Selected Topics in Signal Processing 1 (the gap).
    """
    A = Y.new_zeros(*Y.shape[:-1], D.shape[-1]) if start is None else start.clamp_min(0.0)
    _expect(A, Y, D)
    D = D.to(Y)
    first, gap = _value_and_gap(A, Y, D, lam)
    best = A.clone()
    length = 1 / float(squared_norm(D).clamp_min(torch.finfo(D.dtype).tiny))
    # A gradient step is linear: A - length (A G - C) = A M + length C.
    C = length * (Y @ D - lam)
    M = torch.eye(D.shape[1], dtype=D.dtype, device=D.device) - length * (D.mT @ D)
    # Each sample has its own restarts and its own end: no other of its batch shows in its value.
    rows = torch.arange(len(Y), device=Y.device)
    ahead, weight, least = A.clone(), Y.new_ones(len(Y)), first
    for step in range(1, steps + 1):
        moved = linear(ahead, M).add_(C).clamp_min_(0.0)  # M is symmetric
        way = moved - A
        # Momentum that points uphill is dropped.
        uphill = ahead.sub_(moved).mul_(way).sum(dim=(-2, -1)) > 0
        after = torch.where(uphill, 1.0, (1 + (1 + 4 * weight**2).sqrt()) / 2)
        push = torch.where(uphill, 0.0, (weight - 1) / after)[:, None, None]
        ahead, A, weight = way.mul_(push).add_(moved), moved, after
        if step % _EVERY and step != steps:
            continue
        value, above = _value_and_gap(A, Y, D, lam)
        better = value < least
        best[rows[better]] = A[better]
        least = torch.minimum(value, least)
        gap[rows] = torch.minimum(gap[rows], above).clamp_min(0.0)
        done = (first[rows] - least).clamp_min(1e-9 * first[rows])
        going = (gap[rows] > tolerance * done) & gap[rows].isfinite()
        if not bool(going.any()):
            break
        if not bool(going.all()):
            rows, least, weight = rows[going], least[going], weight[going]
            A, ahead, Y, C = A[going], ahead[going], Y[going], C[going]
    return best, gap


def _value_and_gap(A: Tensor, Y: Tensor, D: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """The objective, and what it lies above its dual at the residual, scaled into the allowed."""
    A, Y, D = _linalg.upcast(A), _linalg.upcast(Y), _linalg.upcast(D)
    R = Y - A @ D.mT
    value = 0.5 * R.square().sum(dim=(-2, -1)) + lam * A.abs().sum(dim=(-2, -1))
    steepest = (R @ D).amax(dim=-1, keepdim=True).clamp_min(torch.finfo(R.dtype).tiny)
    theta = R * (lam / steepest).clamp_max(1.0)
    dual = (theta * (Y - 0.5 * theta)).sum(dim=(-2, -1))
    return value, value - dual


def lasso_kkt(A: Tensor, Y: Tensor, D: Tensor, *, lam: float) -> Tensor:
    """How far codes are from fulfilling the conditions of an optimum, free of scale.

    |A - max(A - g, 0)|_F / |max(Y D - lam, 0)|_F with the gradient g = (A D^T - Y) D + lam: 0 at
    the optimum alone, 1 at A = 0.

    Shapes: A (B, n, h), Y (B, n, d), D (d, h) -> (B,), float64.
    Raises: ShapeError.
    References: Boyd and Vandenberghe 2004, "Convex Optimization", section 5.5.3.
    """
    A, Y, D = _expect(A, Y, D)
    gradient = (A @ D.mT - Y) @ D + lam
    left = torch.linalg.vector_norm(A - (A - gradient).clamp_min(0.0), dim=(-2, -1))
    at_zero = torch.linalg.vector_norm((Y @ D - lam).clamp_min(0.0), dim=(-2, -1))
    return left / at_zero.masked_fill(at_zero == 0, math.inf)


def squared_norm(D: Tensor) -> Tensor:
    """|D|_2^2, the largest eigenvalue of D^T D, float64."""
    return singular_values_of(D)[-1].square()


def singular_values_of(D: Tensor) -> Tensor:
    """Singular values of a dictionary, ascending, as many as it has rows or columns at least."""
    with _linalg.one_thread(D.device):
        return torch.linalg.svdvals(_linalg.upcast(D)).flip(-1)


def _expect(A: Tensor, Y: Tensor, D: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    expect_shape(A, "B n h", name="A")
    expect_shape(Y, "B n d", name="Y")
    if D.shape != (Y.shape[-1], A.shape[-1]):
        raise ShapeError(
            f"D has shape {tuple(D.shape)}",
            f"codes of width {A.shape[-1]} for tokens of width {Y.shape[-1]} need (d, h) = "
            f"({Y.shape[-1]}, {A.shape[-1]})",
            "Take the code at its own site, 'code', where the dictionary is overcomplete",
        )
    if A.shape[:-1] != Y.shape[:-1]:
        raise ShapeError(
            f"A has shape {tuple(A.shape)}",
            f"tokens of shape {tuple(Y.shape)} need ({len(Y)}, {Y.shape[1]}, h)",
            "Pass one code for each token",
        )
    return _linalg.upcast(A), _linalg.upcast(Y), _linalg.upcast(D)


def _codes(A: Tensor, name: str, site: str) -> Tensor:
    negative = (A < 0).flatten(1).any(dim=1)
    if A.device.type != "cpu":
        return A.masked_fill(negative[:, None, None], torch.nan)
    if bool(negative.any()):
        raise ProbeError(
            f"'{name}' cannot be taken of codes with negative entries",
            f"at {site} some entries are below zero, and the step that it judges ends in a ReLU",
            "Declare no D for a second step without a ReLU, or leave the measure out",
        )
    return A


@dataclass(frozen=True, kw_only=True)
class OfLasso(SampleMeasure):
    """What the measures of the proximal steps share: the objective is taken once a layer."""

    source = "Yu et al. 2023, arXiv:2306.01129, equations 14 to 16"
    group = "fidelity"
    heavy = True
    cost = "O(n d h) in float64"
    site = {"paper": "z_out"}
    code_site = "code"
    needs_operators: ClassVar[tuple[str, ...]] = ("D", "lam")
    default = False
    invariances = frozenset({"token_order", "repeated_tokens"})

    def inputs(self, site: str) -> tuple[str, ...]:
        """The code, and the tokens that it codes."""
        return (site, "mlp_in")

    def parts(self, layer: LayerTokens, site: str) -> tuple[Tensor, Tensor, Tensor, float]:
        """A, Y, D and lam.

        Raises: ProbeError for codes with negative entries; on an accelerator, which is not waited
            for, their samples are NaN.
        """
        D, lam = layer.operator("D"), float(layer.operator("lam"))
        assert isinstance(D, Tensor)
        A = layer.at(site)
        if A.shape[-1] == D.shape[-1]:  # else they are no codes of D at all, which is told later
            checked = partial(_codes, A, self.name, site)
            A = layer.once("code", site, checked, of_basis=False, of_norm=False)
        return A, layer.at("mlp_in"), D, lam

    def start(self, layer: LayerTokens, site: str) -> Tensor:
        """A_0."""
        A, Y, D, _ = self.parts(layer, site)
        complete = site != self.code_site and D.shape[0] == D.shape[1]
        return Y.clamp_min(0.0) if complete else torch.zeros_like(A)

    def value(self, layer: LayerTokens, site: str, what: str) -> Tensor:
        """F of the code, of the `start` or of `zero`."""
        A, Y, D, lam = self.parts(layer, site)

        def compute() -> Tensor:
            at = {"code": lambda: A, "zero": lambda: torch.zeros_like(A)}
            codes = at.get(what, lambda: self.start(layer, site))()
            return lasso_objective(codes, Y, D, lam=lam)

        return layer.once(f"lasso {what}", site, compute, of_basis=False, of_norm=False)


class LassoChange(OfLasso):
    """Relative change of the LASSO objective over a layer's proximal steps."""

    name = "lasso_change"
    unit = "share of the objective"
    formula = "(F(A) - F(A_0)) / F(A_0), F(A) = 1/2 |Y - A D^T|^2 + lam |A|_1, A_0 = max(Y, 0) or 0"
    tex = (
        r"\frac{F(A) - F(A_0)}{F(A_0)}, \quad F(A) = \frac{1}{2} \|Y - A D^\top\|_F^2 + \lambda "
        r"\|A\|_1, \quad A_0 = \max(Y, 0) \text{ or } 0"
    )
    misleads = (
        "The value depends on the start, which is max(Y, 0) for a complete dictionary and 0 for "
        "an overcomplete one: the two kinds must not be compared. A fall may come from shrinking "
        "alone, with any dictionary (lasso_gap_shrunk, lasso_gap_others), and from a poor start "
        "there is more to fall. lam and eta are assumed where no file holds them."
    )
    label = r"relative change of $\frac{1}{2}\|Y - DA\|^2 + \lambda\|A\|_1$"
    better = "lower"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the steps; 0 where the objective is zero before and after."""
        after, before = (self.value(layer, site, what) for what in ("code", "start"))
        return (after - before) / before.masked_fill(before == 0, math.inf)


class LassoGapClosed(OfLasso):
    """Share of the way from the start to the optimum that a layer's proximal steps go.

    Negative where the objective rises. The optimum is that of FISTA, to a hundredth of the way by
    its duality gap, or after 500 steps. Of more than 64 tokens, 64 are taken, evenly spread.
    """

    name = "lasso_gap_closed"
    unit = "share of the gap"
    formula = "(F(A_0) - F(A)) / (F(A_0) - F*), F* the least F over A >= 0"
    tex = r"\frac{F(A_0) - F(A)}{F(A_0) - F^\ast}, \quad F^\ast = \min_{A \geq 0} F(A)"
    misleads = (
        "Untrained weights may close more of the gap than trained ones, because a random "
        "dictionary is well conditioned: on the shipped CRATE 40% against 28%. It is the "
        "architecture's doing until a control says otherwise. Of more than 64 tokens only 64 are "
        "taken, and F* is known to a hundredth of the way."
    )
    label = r"share of the gap to $F^*$ that is closed"
    better: ClassVar[str | None] = "higher"
    cost = "O(min(n, 64) h^2), some forty times"
    exempt = {"gradient": "its optimum is sought in steps, which are not followed backwards"}

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the steps; 0 where the start is the optimum, to a millionth."""

        def compute() -> Tensor:
            with torch.no_grad():
                return self._share(layer, site)

        return layer.once(self.name, site, compute, of_basis=False, of_norm=False)

    def _share(self, layer: LayerTokens, site: str) -> Tensor:
        A, Y, D, lam, A0 = self.some(layer, site)
        before, after = (lasso_objective(codes, Y, D, lam=lam) for codes in (A0, A))
        return self.closed(layer, site, before, after)

    def closed(self, layer: LayerTokens, site: str, before: Tensor, after: Tensor) -> Tensor:
        """The share of the way from one objective to F* that another has come; NaN for neither."""
        finite = before.isfinite() & after.isfinite()
        least = torch.minimum(self.least(layer, site), torch.minimum(before, after))
        return _share(before, after, least).masked_fill(~finite, torch.nan)

    def some(self, layer: LayerTokens, site: str) -> tuple[Tensor, Tensor, Tensor, float, Tensor]:
        """A, Y, D, lam and A_0 of `TOKENS` tokens at most."""
        A, Y, D, lam = self.parts(layer, site)
        A0 = self.start(layer, site)
        if Y.shape[1] > TOKENS:
            last, of_32 = Y.shape[1] - 1, torch.float32
            spread = torch.linspace(0, last, TOKENS, dtype=of_32, device=Y.device).round().long()
            A, Y, A0 = A[:, spread], Y[:, spread], A0[:, spread]
        return A, Y, D, lam, A0

    def least(self, layer: LayerTokens, site: str) -> Tensor:
        """F*, of tokens that are finite."""

        def compute() -> Tensor:
            A, Y, D, lam, A0 = self.some(layer, site)
            finite = torch.stack([each.flatten(1).isfinite().all(dim=1) for each in (A, Y)]).all(0)
            Y, A0 = (torch.where(finite[:, None, None], each, 0.0) for each in (Y, A0))
            found, _ = lasso_optimum(Y, D, lam=lam, start=A0)
            return lasso_objective(found, Y, D, lam=lam)

        return layer.once("lasso least", site, compute, of_basis=False, of_norm=False)


def _share(before: Tensor, after: Tensor, least: Tensor) -> Tensor:
    way = before - least
    return torch.where(way > 1e-6 * before, (before - after) / way, torch.zeros_like(way))


class LassoGapOfOthers(LassoGapClosed):
    """The same, were each code's entries handed to other atoms: a null of `lasso_gap_closed`.

    Entries, their sizes and their number stay; a step that lowers the objective of a dictionary
    that it does not use, as any shrinkage may, closes as much here. The optimum is the same: it
    does not depend on the order of the atoms.
    """

    name = "lasso_gap_others"
    formula = "the share for codes A P and A_0 P, P one random order of the atoms"
    tex = (
        r"\text{the share for codes } A P \text{ and } A_0 P, \quad P \text{ one order of the "
        r"atoms}"
    )
    misleads = (
        "It is a control and no effect: read the difference from lasso_gap_closed. One order of "
        "the atoms is drawn and used everywhere. Where D is close to a multiple of the identity, "
        "another order is a poor code, and the control is low for that reason alone."
    )
    source = "own definition"
    label = "share of the gap that is closed with other atoms"
    better = None

    def _share(self, layer: LayerTokens, site: str) -> Tensor:
        A, Y, D, lam, A0 = self.some(layer, site)
        random = torch.Generator().manual_seed(seed_of("order of atoms", D.shape[1]))
        other = D[:, torch.randperm(D.shape[1], generator=random).to(D.device)]
        before, after = (lasso_objective(codes, Y, other, lam=lam) for codes in (A0, A))
        return self.closed(layer, site, before, after)


class LassoGapShrunk(LassoGapClosed):
    """The same for the step's start, shrunk or stretched as the step does it on the whole.

    The code at the end is its start times <A, A_0>/|A_0|^2, and something more. What that scaling
    closes asks for no dictionary: a step that does nothing else closes no more than this.
    """

    name = "lasso_gap_shrunk"
    formula = "the share for codes c A_0, c = <A, A_0> / |A_0|_F^2 of each sample"
    tex = r"\text{the share for codes } c A_0, \quad c = \frac{\langle A, A_0 \rangle}{\|A_0\|_F^2}"
    misleads = (
        "It is a control: what scaling the start as much as the step does would close. The factor "
        "is the step's own and not the best one, so that a better scaling may close more than "
        "both. With a start of zeros there is nothing to scale, and it is 0."
    )
    source = "own definition"
    label = "share of the gap that is closed by scaling"
    better = None

    def _share(self, layer: LayerTokens, site: str) -> Tensor:
        A, Y, D, lam, A0 = self.some(layer, site)
        A0 = _linalg.upcast(A0)
        squares = A0.square().sum(dim=(-2, -1))
        scale = (_linalg.upcast(A) * A0).sum(dim=(-2, -1)) / squares.masked_fill(squares == 0, 1.0)
        scaled = scale[:, None, None] * A0
        before, after = (lasso_objective(codes, Y, D, lam=lam) for codes in (A0, scaled))
        return self.closed(layer, site, before, after)


class LassoVsZero(OfLasso):
    """The objective of the code over that of a code of zeros."""

    name = "lasso_vs_zero"
    unit = "ratio"
    formula = "F(A) / F(0), F(0) = 1/2 |Y|_F^2"
    tex = r"\frac{F(A)}{F(0)}, \quad F(0) = \frac{1}{2} \|Y\|_F^2"
    misleads = (
        "Above 1 the code is worse than none at all, and still may be what the next layer can "
        "use: one proximal step is not meant to solve the problem. The ratio depends on lam, "
        "which may be an assumption, and on the norm of Y: it is fixed by the layer's norm and "
        "its gain."
    )
    label = r"$F(A) / F(0)$"
    better = "lower"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Above 1: no code at all would be better."""
        zero = self.value(layer, site, "zero")
        return self.value(layer, site, "code") / zero.masked_fill(zero == 0, math.inf)


class LassoKkt(OfLasso):
    """How far the code is from fulfilling the conditions of the optimum."""

    name = "lasso_kkt"
    unit = "ratio"
    formula = "|A - max(A - g, 0)|_F / |max(Y D - lam, 0)|_F, g = (A D^T - Y) D + lam"
    tex = (
        r"\frac{\|A - \max(A - g, 0)\|_F}{\|\max(Y D - \lambda, 0)\|_F}, \quad g = (A D^\top - "
        r"Y) D + \lambda"
    )
    misleads = (
        "It is zero at the optimum and has no scale otherwise: half the residual is not half the "
        "way. It is divided by the residual of a code of zeros, so that where lam is large and "
        "that is small, good codes look bad."
    )
    source = "Boyd and Vandenberghe 2004, section 5.5.3"
    label = "residual of the KKT conditions"
    better = "lower"

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the code."""
        A, Y, D, lam = self.parts(layer, site)
        return lasso_kkt(A, Y, D, lam=lam)


class LassoReconstruction(OfLasso):
    """What the code leaves of the tokens that it codes."""

    name = "lasso_reconstruction"
    unit = "share of |Y|^2"
    formula = "|Y - A D^T|_F^2 / |Y|_F^2"
    tex = r"\frac{\|Y - A D^\top\|_F^2}{\|Y\|_F^2}"
    misleads = (
        "The penalty is left out, so that a dense code reconstructs best: low is good only beside "
        "a low l0. Codes are not negative: with a complete dictionary near the identity half of Y "
        "cannot be reached at all. A high value does not mean that information is lost, as D is "
        "often invertible."
    )
    label = r"$\|Y - DA\|^2 / \|Y\|^2$"
    better = "lower"
    invariances = frozenset({"token_order", "repeated_tokens", "scale"})

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the code; above 1 it is farther from the tokens than zero is."""
        A, Y, D, _ = self.parts(layer, site)
        left = lasso_objective(A, Y, D, lam=0.0)
        zero = self.value(layer, site, "zero")
        return left / zero.masked_fill(zero == 0, math.inf)
