"""Is the second step the one that it was derived as: what it does to its LASSO objective."""

import math

from torch import Tensor

from whitebox_probe._core.checks import expect_shape
from whitebox_probe._core.errors import ShapeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = ["IstaObjectiveChange", "ista_objective"]


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
