"""Measures of sparsity against their definitions, and where they are defined by convention."""

import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.drawing import draw, scales, sizes
from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.metrics import functional as F

NAMES = ["l0", "hoyer", "thresholded", "l1_l2", "gini", "excess_kurtosis", "treves_rolls"]


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 9), d=st.integers(2, 9), scale=scales)
def test_counts_and_hoyer_equal_their_loops(n, d, scale):
    Z = scale * torch.relu(torch.randn(2, n, d, dtype=torch.float64))
    for i in range(2):
        assert F.l0(Z)[i] == pytest.approx(oracle.l0(Z[i]), rel=1e-12)
        assert F.hoyer(Z)[i] == pytest.approx(oracle.hoyer(Z[i]), rel=1e-10, abs=1e-12)
        assert F.thresholded(Z)[i] == pytest.approx(oracle.thresholded(Z[i]), rel=1e-12)


@given(**sizes)
def test_graded_measures_equal_their_definitions(n, d, seed):
    Z = torch.relu(draw(n, d, seed=seed)) + 1e-3
    for i, z in enumerate(Z.numpy()):
        assert F.l1_l2(Z)[i] == pytest.approx(oracle.l1_l2(z), rel=1e-12)
        assert F.gini(Z)[i] == pytest.approx(oracle.gini(z), rel=1e-9)
        assert F.treves_rolls(Z)[i] == pytest.approx(oracle.treves_rolls(z), rel=1e-12)
        if z.std() > 1e-6 * abs(z).max():  # scipy warns of nearly equal entries
            want = oracle.excess_kurtosis(z)
            assert F.excess_kurtosis(Z)[i] == pytest.approx(want, rel=1e-9, abs=1e-12)


def test_zero_tokens_have_the_values_of_the_docstrings():
    zero = torch.zeros(1, 4, 6)
    want = dict.fromkeys(NAMES, 0.0) | {"hoyer": 1.0}
    assert {name: getattr(F, name)(zero).item() for name in NAMES} == want


@pytest.mark.parametrize("name", NAMES)
def test_rank_one_and_huge_tokens_give_finite_values(name):
    one = torch.ones(1, 4, 1) @ torch.arange(1.0, 7.0)[None, None]
    for Z in (one, 1e4 * draw(4, 6), draw(40, 6, dtype=torch.float32)):
        assert getattr(F, name)(Z).isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", NAMES)
def test_tokens_that_are_not_finite_are_named_not_averaged(name, bad):
    Z = torch.randn(3, 4, 5)
    Z[1, 2, 3] = bad
    with pytest.raises(NonFiniteError, match=r"1 of 3 samples.*sample 1"):
        getattr(F, name)(Z)
