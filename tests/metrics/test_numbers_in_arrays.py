"""A number that stands alone in an array or a tensor is that number, wherever one is taken."""

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from whitebox_probe.metrics import functional as F

G = torch.Generator().manual_seed(0)
Z, U = torch.randn(2, 5, 6, generator=G), torch.randn(3, 6, 2, generator=G)
A, D = torch.rand(2, 5, 8, generator=G), torch.randn(6, 8, generator=G)
CALLS = {
    "srr": lambda n: F.sparse_rate_reduction(Z, U, eps=n(0.1), lam=n(0.2)),
    "objective": lambda n: F.lasso_objective(A, Z, D, lam=n(0.1)),
    "optimum": lambda n: F.lasso_optimum(Z, D, lam=n(0.1), tolerance=n(0.01))[0],
    "gradient": lambda n: F.compression_gradient(Z, U, eps=n(0.1)),
    "coherence": lambda n: torch.tensor(F.random_coherence(n(6), p=n(2), draws=n(3))),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    "kind", [np.array, lambda n: np.array([n]), torch.tensor, lambda n: torch.tensor([n])]
)
def test_functions_take_it(name, kind):
    torch.testing.assert_close(CALLS[name](kind), CALLS[name](lambda n: n))


@pytest.mark.parametrize("grid", [np.array([2, 2]), [2, 2], torch.tensor([2, 2]), (np.int64(2), 2)])
def test_a_grid_is_any_row_of_two(grid):
    maps = torch.rand(2, 3, 5, 5, generator=G).softmax(-1)
    want = F.attention_distance(maps, prefix=1, grid=(2, 2))
    assert torch.equal(F.attention_distance(maps, prefix=1, grid=grid), want)


@pytest.mark.parametrize("kind", [np.array, lambda n: np.array([n]), torch.tensor])
@pytest.mark.parametrize(
    ("measure", "name"),
    [("SparseRateReduction", "lam"), ("DeadFeatures", "tau"), ("DescentAchievedU", "kappa")],
)
def test_measures_take_it(measure, name, kind):
    made = getattr(wp.metrics, measure)(**{name: kind(0.5)}).definition
    assert made == getattr(wp.metrics, measure)(**{name: 0.5}).definition
    assert type(made.parameters()[name]) is float


def test_a_number_that_is_learnt_stays_so():
    lam = torch.tensor([0.1], requires_grad=True)
    F.lasso_objective(A, Z, D, lam=lam).sum().backward()
    assert lam.grad.shape == (1,)
