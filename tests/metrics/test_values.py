"""Values that mutants of the measures showed untried: each against NumPy or a closed form."""

import math

import numpy as np
import oracle
import pytest
import torch

from tests.metrics.drawing import bases
from whitebox_probe._core.errors import ProbeError, ShapeError
from whitebox_probe.metrics import _linalg, _slope
from whitebox_probe.metrics import functional as F
from whitebox_probe.metrics._classes import counts_of, lacking
from whitebox_probe.metrics.sums import Sums


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestVariationalCompression:
    @pytest.mark.parametrize("eps", [0.1, 0.5, 3.0])
    def test_it_is_numpys_term_by_term(self, eps):
        W, Pi = drawn(2, 3, 5, 4), drawn(2, 3, 5, seed=1).softmax(dim=1)
        K, n, p = W.shape[1:]
        for sample, (w, pi) in enumerate(zip(W.numpy(), Pi.numpy(), strict=True)):
            want = 0.0
            for k in range(K):
                count = pi[k].sum()
                for i in range(p):
                    mean = sum(pi[k, j] * w[k, j, i] ** 2 for j in range(n)) / count
                    want += count / n * math.log(1 + K * p / eps**2 * mean) / 2
            assert F.variational_compression(W, Pi, eps=eps)[sample].item() == pytest.approx(want)

    def test_a_head_without_tokens_adds_nothing(self):
        W, Pi = drawn(1, 2, 5, 4), torch.ones(1, 2, 5)
        Pi[:, 1] = 0
        # The whole width stays that of both heads.
        energy = W[0, 0].square().mean(dim=0)
        want = (1 + 8 / 0.25 * energy).log().sum() / 2
        assert F.variational_compression(W, Pi, eps=0.5).item() == pytest.approx(want.item())
        with pytest.raises(ShapeError, match="memberships have shape"):
            F.variational_compression(W, Pi[:, :, :4], eps=0.5)


class TestSlope:
    """Z (I + scale Z^T Z)^-1, by singular values."""

    @pytest.mark.parametrize(("n", "d"), [(6, 4), (4, 6), (5, 5)])
    @pytest.mark.parametrize("sizes", [(2.0, 1.0, 0.5), (1e9, 1.0, 0.5), (1e10, 30.0, 1.0)])
    def test_it_is_that_of_the_singular_values_however_far_they_are_apart(self, n, d, sizes):
        left = np.linalg.qr(drawn(n, 3).numpy())[0]
        right = np.linalg.qr(drawn(d, 3, seed=1).numpy())[0]
        Z = torch.from_numpy((left * np.array(sizes)) @ right.T)[None]
        scale = 0.7
        rest = np.array([s / (1 + scale * s**2) for s in sizes])
        want = (left * rest) @ right.T
        found = _slope.slope(Z, _linalg.gram(Z), scale, torch.tensor([1e-9]))
        # Beside one that is 1e10 as large a direction is known to 2e-6 of itself.
        np.testing.assert_allclose(found[0], want, atol=1e-5 * abs(want).max())

    def test_directions_that_are_rounding_have_no_slope(self):
        left = np.linalg.qr(drawn(6, 3).numpy())[0]
        right = np.linalg.qr(drawn(4, 3, seed=1).numpy())[0]
        sizes = np.array([1e9, 1.0, 1e-3])
        Z = torch.from_numpy((left * sizes) @ right.T)[None]
        found = _slope.slope(Z, _linalg.gram(Z), 1.0, torch.tensor([1e-2]))[0].numpy()
        along = left.T @ found @ right
        np.testing.assert_allclose(np.diag(along), [1e-9, 0.5, 0.0], atol=1e-7)


class TestRounding:
    def test_of_a_product_it_is_eps_by_the_root_of_the_width(self):
        eps, half = torch.finfo(torch.float32).eps, torch.finfo(torch.float16).eps
        assert _linalg.rounding(torch.ones(2, 9)) == pytest.approx(3 * eps)
        assert _linalg.rounding(drawn(2, 9)) == pytest.approx(3 * torch.finfo(torch.float64).eps)
        assert _linalg.rounding(torch.ones(2, 9), width=16) == pytest.approx(4 * eps)
        assert _linalg.rounding(torch.ones(2, 9), within=4) == pytest.approx(3 * eps)
        small = torch.ones(2, 9, dtype=torch.float16)
        assert _linalg.rounding(small) == pytest.approx(3 * eps)
        assert _linalg.rounding(small, width=16, within=4) == pytest.approx(4 * eps + half / 2)

    def test_a_token_is_rounding_beside_the_largest_of_its_own_sample(self):
        Z = drawn(3, 4, 9)
        Z[0, 1] *= 1e6
        Z[1] *= 1e-6
        floor = _linalg.token_floor(Z)
        want = 3 * 2.0**-52 * np.linalg.norm(Z.numpy(), axis=-1).max(axis=1)
        assert floor.shape == (3, 1)
        np.testing.assert_allclose(floor[:, 0], want)
        heads = _linalg.token_floor(Z[:, None].repeat(1, 2, 1, 1))
        assert heads.shape == (3, 1, 1)
        Z[2, 0, 0] = torch.inf
        assert _linalg.token_floor(Z)[2].isnan().all()
        assert _linalg.token_floor(torch.zeros(2, 0, 9)).tolist() == [[0.0], [0.0]]

    @pytest.mark.parametrize("m", [5, 31, 32, 127, 128, 130])
    def test_a_gram_matrix_is_the_smaller_product_in_blocks_or_whole(self, m):
        for shape in ((2, m, 140), (2, 140, m)):
            Z = drawn(*shape)
            X = Z if shape[1] == m else Z.mT
            np.testing.assert_allclose(_linalg.gram(Z), X @ X.mT, atol=1e-11)


class TestAttentionMaps:
    def test_rows_that_are_left_out_have_no_entropy_and_do_not_count(self):
        A = drawn(2, 3, 5, 5).softmax(dim=-1)
        A[0, :, 1] = 0
        found = F.attention_entropy(A)
        for sample, rows in ((0, [0, 2, 3, 4]), (1, [0, 1, 2, 3, 4])):
            for head in range(3):
                want = oracle.attention_entropy(A[sample, head][rows])
                assert found[sample, head].item() == pytest.approx(want)
        A[0, 1] = 0
        with pytest.raises(ProbeError, match="no row of attention"):
            F.attention_entropy(A)

    def test_distances_are_of_patches_alone_and_rows_that_are_left_out_do_not_count(self):
        A = drawn(2, 1, 7, 7).softmax(dim=-1)
        A[0, 0, 3] = 0
        found = F.attention_distance(A, prefix=1, grid=(2, 3))
        places = [(row, column) for row in range(2) for column in range(3)]
        for sample in range(2):
            far = []
            for i in range(6):
                row = A[sample, 0, 1 + i, 1:].numpy()
                if row.sum():
                    away = [math.dist(places[i], other) for other in places]
                    far.append(row @ away / row.sum())
            assert found[sample, 0].item() == pytest.approx(np.mean(far))


def test_classes_of_no_sample_are_none():
    sums = Sums()
    assert counts_of(sums).tolist() == []
    assert lacking(sums) == "no sample has a class"
    sums.total("count_0", torch.tensor(3.0))
    assert lacking(sums) == "there is one class"


def test_rates_of_bases_of_one_head_are_the_rate_of_the_whole():
    Z, U = drawn(2, 6, 4), bases(1, 4, 4)
    Q = np.linalg.qr(U.numpy())[0]
    found = F.compression(Z, torch.from_numpy(Q), eps=0.3)
    want = [oracle.coding_rate(each, 0.3) for each in Z]
    assert found.tolist() == pytest.approx(want)
