"""The rate reduction, and its sparse form with either penalty, against textbook formulas."""

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.drawing import DTYPES, bases, draw, shapes
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.metrics import functional as F


@settings(deadline=None, max_examples=60)
@given(shape=shapes, dtype=st.sampled_from(DTYPES), rank=st.integers(1, 2))
def test_it_is_the_difference_of_both_rates(shape, dtype, rank):
    n, d, K, p = shape
    Z, U = draw(n, d, rank=rank, dtype=dtype), bases(K, d, p)
    for z, got in zip(Z, F.rate_reduction(Z, U, eps=0.3), strict=True):
        want = oracle.coding_rate(z, 0.3), oracle.compression(z, U, 0.3)
        np.testing.assert_allclose(got, want[0] - want[1], atol=4e-7 * max(want))


def test_the_sparse_form_counts_the_entries_that_are_not_zero_or_sums_them():
    Z, U = torch.relu(draw(6, 4)), bases(2, 4, 3)
    counted = F.sparse_rate_reduction(Z, U, eps=0.5, lam=0.7)
    summed = F.sparse_rate_reduction(Z, U, eps=0.5, lam=0.7, penalty="l1")
    for i, z in enumerate(Z.numpy()):
        rates = oracle.coding_rate(z, 0.5) - oracle.compression(z, U, 0.5)
        assert counted[i].item() == pytest.approx(rates - 0.7 * np.count_nonzero(z), rel=1e-10)
        assert summed[i].item() == pytest.approx(rates - 0.7 * np.abs(z).sum(), rel=1e-10)
    named = F.sparse_rate_reduction(Z, U, eps=0.5, lam=0.7, penalty="l0")
    assert torch.equal(named, counted)


def test_another_penalty_is_refused():
    with pytest.raises(ProbeError, match="unknown penalty 'l2'.*l0, l1"):
        F.sparse_rate_reduction(draw(3, 4), bases(1, 4, 2), eps=0.5, lam=0.1, penalty="l2")
