"""R(Z) against textbook formulas in float64, closed forms and its guards."""

import math

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics.drawing import DTYPES, draw, scales, shapes
from whitebox_probe._core.errors import NonFiniteError, ShapeError
from whitebox_probe.metrics import functional as F


@settings(deadline=None, max_examples=60)
@given(shape=shapes, scale=scales, dtype=st.sampled_from(DTYPES), rank=st.integers(1, 2))
def test_it_equals_the_textbook_formula(shape, scale, dtype, rank):
    n, d = shape[:2]
    Z = draw(n, d, scale=scale, rank=rank, dtype=dtype)
    of = oracle.coding_rate if scale == 1.0 else oracle.coding_rate_by_singular_values
    for z, got in zip(Z, F.coding_rate(Z, eps=0.3), strict=True):
        # 1e-7 is the tolerance at which the package changes to singular values itself.
        np.testing.assert_allclose(got, of(z, 0.3), rtol=2e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "d"), [(20, 50), (50, 20), (50, 50), (1, 9)])
def test_of_ordinary_tokens_it_is_right_to_ten_digits(n, d, dtype):
    Z = draw(n, d, dtype=dtype)
    for z, got in zip(Z, F.coding_rate(Z, eps=0.5), strict=True):
        np.testing.assert_allclose(got, oracle.coding_rate(z, 0.5), rtol=1e-10)


def test_zero_tokens_take_no_nats():
    assert F.coding_rate(torch.zeros(1, 5, 4), eps=0.1).item() == 0


def test_orthonormal_tokens_have_the_rate_of_equal_eigenvalues():
    n, d, eps = 4, 7, 0.5
    Z = torch.linalg.qr(torch.randn(d, n, dtype=torch.float64)).Q.T[None]
    want = n / 2 * math.log1p(d / (n * eps**2))
    assert F.coding_rate(Z, eps=eps).item() == pytest.approx(want, rel=1e-12)


def test_rank_one_tokens_have_one_eigenvalue():
    n, d, eps = 6, 3, 0.2
    Z = torch.ones(n, 1) @ torch.tensor([[2.0, 0.0, 0.0]])
    want = 0.5 * math.log1p(d / (n * eps**2) * n * 4)
    assert F.coding_rate(Z[None], eps=eps).item() == pytest.approx(want, rel=1e-12)


def test_it_grows_with_scale_and_falls_with_eps():
    Z = draw(7, 5)
    rate = F.coding_rate(Z, eps=0.3)
    assert (F.coding_rate(2 * Z, eps=0.3) > rate).all()
    assert (F.coding_rate(Z, eps=0.6) < rate).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_tokens_are_measured_in_float64(dtype):
    Z = torch.randn(2, 6, 4).to(dtype)
    torch.testing.assert_close(
        F.coding_rate(Z, eps=0.1), F.coding_rate(Z.double(), eps=0.1), rtol=0, atol=0
    )


def test_huge_rank_deficient_float32_tokens_give_the_right_value():
    Z = draw(197, 384, scale=1e4, rank=3, dtype=torch.float32)
    want = oracle.coding_rate_by_singular_values(Z[0], 0.1)
    assert F.coding_rate(Z, eps=0.1)[0].item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_tokens_that_are_not_finite_are_named_not_averaged(bad):
    Z = torch.randn(3, 4, 5)
    Z[1, 2, 3] = bad
    with pytest.raises(NonFiniteError, match=r"1 of 3 samples.*sample 1"):
        F.coding_rate(Z, eps=0.1)


def test_wrong_shapes_show_what_came_and_what_is_needed():
    with pytest.raises(ShapeError, match=r"\(4, 5\).*\(B, n, d\)"):
        F.coding_rate(torch.randn(4, 5), eps=0.1)
    with pytest.raises(ShapeError):
        F.coding_rate(torch.randn(1, 0, 5), eps=0.1)
