"""Values against float64 references, closed forms and invariances."""

import math

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whitebox_probe._core.errors import NonFiniteError, ShapeError
from whitebox_probe.metrics import functional as F

# Rounding of float32 tokens themselves is 6e-8; the rates amplify it by the scale d/(n eps^2).
RTOL = {torch.float64: 1e-10, torch.float32: 1e-5}

shapes = st.tuples(st.integers(1, 9), st.integers(2, 9), st.integers(1, 3), st.integers(1, 2))
scales = st.sampled_from([1e-4, 1.0, 1e4])


def draw(n, d, *, scale=1.0, rank=None, dtype=torch.float64, seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    rank = rank or d
    left = torch.randn(batch, n, rank, generator=generator, dtype=torch.float64)
    right = torch.randn(rank, d, generator=generator, dtype=torch.float64)
    return (scale * left @ right).to(dtype)


@settings(deadline=None, max_examples=60)
@given(shape=shapes, scale=scales, dtype=st.sampled_from(list(RTOL)), rank=st.integers(1, 2))
def test_rates_equal_the_textbook_formulas(shape, scale, dtype, rank):
    n, d, K, p = shape
    Z = draw(n, d, scale=scale, rank=rank, dtype=dtype)
    U = torch.randn(K, d, min(p, d), dtype=torch.float64)
    rate, compressed = F.coding_rate(Z, eps=0.3), F.compression(Z, U, eps=0.3)
    for i in range(len(Z)):
        # The projection of float32 tokens is made in float64, so only their own rounding is left.
        if scale == 1.0:
            want = oracle.coding_rate(Z[i], 0.3), oracle.compression(Z[i], U, 0.3)
        else:
            want = (
                oracle.coding_rate_by_singular_values(Z[i], 0.3),
                oracle.compression_by_singular_values(Z[i], U, 0.3),
            )
        # 1e-7 is the tolerance at which the package changes to singular values itself.
        np.testing.assert_allclose(rate[i], want[0], rtol=2e-7)
        np.testing.assert_allclose(compressed[i], want[1], rtol=2e-7)
        reduction = F.rate_reduction(Z, U, eps=0.3)[i]
        np.testing.assert_allclose(reduction, want[0] - want[1], atol=4e-7 * max(want))


@pytest.mark.parametrize("dtype", list(RTOL))
@pytest.mark.parametrize(("n", "d"), [(20, 50), (50, 20), (50, 50), (1, 9)])
def test_rates_of_ordinary_tokens_are_right_to_ten_digits(n, d, dtype):
    Z, U = draw(n, d, dtype=dtype), torch.randn(3, d, 4, dtype=torch.float64)
    for i in range(2):
        got = F.coding_rate(Z, eps=0.5)[i], F.compression(Z, U, eps=0.5)[i]
        np.testing.assert_allclose(got[0], oracle.coding_rate(Z[i], 0.5), rtol=1e-10)
        np.testing.assert_allclose(got[1], oracle.compression(Z[i], U, 0.5), rtol=1e-10)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 9), K=st.integers(1, 3), p=st.integers(1, 5), scale=scales)
def test_official_compression_equals_the_release_head_by_head(n, K, p, scale):
    V = scale * torch.randn(2, K, n, p, dtype=torch.float64)
    for i in range(2):
        want = oracle.official_compression(V[i])
        np.testing.assert_allclose(F.official_compression(V)[i], want, rtol=1e-10)


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 9), d=st.integers(2, 9), scale=scales)
def test_sparsity_measures_equal_their_loops(n, d, scale):
    Z = scale * torch.relu(torch.randn(2, n, d, dtype=torch.float64))
    for i in range(2):
        assert F.l0(Z)[i] == pytest.approx(oracle.l0(Z[i]), rel=1e-12)
        assert F.hoyer(Z)[i] == pytest.approx(oracle.hoyer(Z[i]), rel=1e-10, abs=1e-12)
        assert F.thresholded(Z)[i] == pytest.approx(oracle.thresholded(Z[i]), rel=1e-12)


def test_sparse_rate_reduction_counts_the_non_zero_entries():
    Z = torch.relu(torch.randn(2, 6, 4, dtype=torch.float64))
    U = torch.randn(2, 4, 3, dtype=torch.float64)
    got = F.sparse_rate_reduction(Z, U, eps=0.5, lam=0.7)
    for i in range(2):
        want = oracle.coding_rate(Z[i], 0.5) - oracle.compression(Z[i], U, 0.5)
        assert got[i].item() == pytest.approx(want - 0.7 * np.count_nonzero(Z[i]), rel=1e-10)


@settings(deadline=None, max_examples=25)
@given(d=st.integers(2, 12), K=st.integers(1, 4), p=st.integers(1, 4))
def test_angles_and_coherence_equal_scipy(d, K, p):
    U = torch.randn(K, d, min(p, d), dtype=torch.float64)
    want = oracle.principal_angles(U)
    # arccos loses half of the digits at angle zero.
    np.testing.assert_allclose(F.principal_angles(U), want, atol=1e-7)
    np.testing.assert_allclose(F.coherence(U), np.cos(want[..., 0]), atol=1e-7)
    unit = U / U.norm(dim=1, keepdim=True)
    flat = unit.permute(1, 0, 2).reshape(d, -1)
    np.testing.assert_allclose(F.overlap(U), (flat.T @ flat).abs(), atol=1e-12)


class TestClosedForms:
    def test_zero_tokens_take_no_nats(self):
        Z, U = torch.zeros(1, 5, 4), torch.randn(2, 4, 2)
        assert F.coding_rate(Z, eps=0.1).item() == 0
        assert F.compression(Z, U, eps=0.1).item() == 0
        assert F.official_compression(torch.zeros(1, 2, 5, 3)).item() == 0
        assert F.l0(Z).item() == F.thresholded(Z).item() == 0
        assert F.hoyer(Z).item() == 1

    def test_orthonormal_tokens_have_the_rate_of_equal_eigenvalues(self):
        n, d, eps = 4, 7, 0.5
        Z = torch.linalg.qr(torch.randn(d, n, dtype=torch.float64)).Q.T[None]
        want = n / 2 * math.log1p(d / (n * eps**2))
        assert F.coding_rate(Z, eps=eps).item() == pytest.approx(want, rel=1e-12)

    def test_rank_one_tokens_have_one_eigenvalue(self):
        n, d, eps = 6, 3, 0.2
        Z = torch.ones(n, 1) @ torch.tensor([[2.0, 0.0, 0.0]])
        want = 0.5 * math.log1p(d / (n * eps**2) * n * 4)
        assert F.coding_rate(Z[None], eps=eps).item() == pytest.approx(want, rel=1e-12)

    def test_compression_in_the_whole_space_is_the_coding_rate(self):
        Z = torch.randn(3, 5, 4, dtype=torch.float64)
        Q = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
        torch.testing.assert_close(F.compression(Z, Q[None], eps=0.3), F.coding_rate(Z, eps=0.3))

    def test_official_bounds_are_attained(self):
        K, p = 3, 4
        low, high = F.official_bounds(heads=K, dim_head=p, tokens=10)
        same = torch.ones(1, K, 10, p)
        spread = torch.eye(p).repeat(5, 1).expand(1, K, -1, -1)
        assert F.official_compression(same).item() == pytest.approx(low, rel=1e-12)
        assert F.official_compression(spread).item() == pytest.approx(high, rel=1e-12)
        few = torch.eye(p)[:3].expand(1, K, -1, -1)  # fewer tokens than directions
        _, high = F.official_bounds(heads=K, dim_head=p, tokens=3)
        assert F.official_compression(few).item() == pytest.approx(high, rel=1e-12)

    def test_orthogonal_subspaces_have_coherence_zero_and_equal_ones_one(self):
        eye = torch.eye(4, dtype=torch.float64)
        apart = torch.stack([eye[:, :2], eye[:, 2:]])
        assert F.coherence(apart)[0, 1].item() == pytest.approx(0, abs=1e-12)
        assert F.principal_angles(apart)[0, 1].min().item() == pytest.approx(math.pi / 2)
        turned = torch.stack([eye[:, :2], 3 * eye[:, [1, 0]]])
        assert F.coherence(turned)[0, 1].item() == pytest.approx(1)


class TestInvariances:
    Z = torch.randn(2, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    U = torch.randn(3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def rates(self, Z, U):
        return torch.stack([F.coding_rate(Z, eps=0.3), F.compression(Z, U, eps=0.3)])

    def test_order_of_tokens_and_of_heads_does_not_matter(self):
        torch.testing.assert_close(
            self.rates(self.Z[:, torch.randperm(7)], self.U[[2, 0, 1]]), self.rates(self.Z, self.U)
        )

    def test_repeating_all_tokens_does_not_matter(self):
        torch.testing.assert_close(
            self.rates(self.Z.repeat(1, 3, 1), self.U), self.rates(self.Z, self.U)
        )

    def test_rotating_tokens_and_bases_together_does_not_matter_but_tokens_alone_does(self):
        Q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
        before = self.rates(self.Z, self.U)
        torch.testing.assert_close(self.rates(self.Z @ Q, Q.T @ self.U), before)
        alone = self.rates(self.Z @ Q, self.U)
        torch.testing.assert_close(alone[0], before[0])
        assert not torch.allclose(alone[1], before[1])

    def test_rotating_within_a_subspace_does_not_matter_but_scaling_does(self):
        Q = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64)).Q
        before = F.compression(self.Z, self.U, eps=0.3)
        torch.testing.assert_close(F.compression(self.Z, self.U @ Q, eps=0.3), before)
        assert (F.compression(self.Z, 2 * self.U, eps=0.3) > before).all()

    def test_rates_grow_with_scale_and_fall_with_eps(self):
        assert (self.rates(2 * self.Z, self.U) > self.rates(self.Z, self.U)).all()
        assert (F.coding_rate(self.Z, eps=0.6) < F.coding_rate(self.Z, eps=0.3)).all()

    def test_sparsity_does_not_change_with_scale(self):
        Z = torch.relu(self.Z)
        for measure in (F.l0, F.hoyer, F.thresholded):
            torch.testing.assert_close(measure(1e3 * Z), measure(Z))


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
    Z, U = torch.randn(3, 4, 5), torch.randn(2, 5, 2)
    Z[1, 2, 3] = bad
    calls = [
        lambda: F.coding_rate(Z, eps=0.1),
        lambda: F.compression(Z, U, eps=0.1),
        lambda: F.l0(Z),
        lambda: F.hoyer(Z),
        lambda: F.thresholded(Z),
        lambda: F.official_compression(Z[:, None]),
    ]
    for call in calls:
        with pytest.raises(NonFiniteError, match=r"1 of 3 samples.*sample 1"):
            call()


def test_wrong_shapes_show_what_came_and_what_is_needed():
    with pytest.raises(ShapeError, match=r"\(4, 5\).*\(B, n, d\)"):
        F.coding_rate(torch.randn(4, 5), eps=0.1)
    with pytest.raises(ShapeError, match=r"U has shape \(2, 4, 2\).*\(K, 5, p\)"):
        F.compression(torch.randn(1, 3, 5), torch.randn(2, 4, 2), eps=0.1)
    with pytest.raises(ShapeError, match="p at most d"):
        F.coherence(torch.randn(2, 3, 4))
    with pytest.raises(ShapeError):
        F.coding_rate(torch.randn(1, 0, 5), eps=0.1)
