"""The wider catalogue against independent float64 references and closed forms."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st

from whitebox_probe._core.errors import NonFiniteError, ProbeError, ShapeError
from whitebox_probe.metrics import functional as F

shapes = {"n": st.integers(2, 9), "d": st.integers(2, 9), "seed": st.integers(0, 99)}


def tokens(n, d, seed, *, batch=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, n, d, generator=generator, dtype=dtype)


def gini_by_pairs(x):
    """Mean absolute difference over twice the mean: the definition, not the sorted form."""
    x = np.abs(np.asarray(x, dtype=np.float64))
    return np.abs(x[:, None] - x[None]).mean() / (2 * x.mean())


@given(**shapes)
def test_sparsity_measures(n, d, seed):
    Z = torch.relu(tokens(n, d, seed)) + 1e-3
    for i, z in enumerate(Z.numpy()):
        l1, l2 = np.abs(z).sum(1), np.sqrt((z**2).sum(1))
        assert F.l1_l2(Z)[i] == pytest.approx((l1 / l2).mean() / math.sqrt(d), rel=1e-12)
        assert F.gini(Z)[i] == pytest.approx(np.mean([gini_by_pairs(t) for t in z]), rel=1e-9)
        if z.std() > 1e-6 * np.abs(z).max():  # scipy warns of nearly equal entries
            want = scipy.stats.kurtosis(z.ravel())
            assert F.excess_kurtosis(Z)[i] == pytest.approx(want, rel=1e-9, abs=1e-12)
        want = np.mean(np.abs(z).mean(1) ** 2 / (z**2).mean(1))
        assert F.treves_rolls(Z)[i] == pytest.approx(want, rel=1e-12)


@given(**shapes)
def test_spectral_measures(n, d, seed):
    Z = tokens(n, d, seed)
    for i, z in enumerate(Z.numpy()):
        sigma = np.linalg.svd(z, compute_uv=False)
        share = sigma / sigma.sum()
        want = math.exp(scipy.stats.entropy(share))
        assert F.effective_rank(Z)[i] == pytest.approx(want, rel=1e-9)
        assert F.stable_rank(Z)[i] == pytest.approx((sigma**2).sum() / sigma[0] ** 2, rel=1e-9)
        want = (sigma**2).sum() ** 2 / (sigma**4).sum()
        assert F.participation_ratio(Z)[i] == pytest.approx(want, rel=1e-9)
        rank = np.arange(1, len(sigma) + 1)
        want = -scipy.stats.linregress(np.log(rank), np.log(sigma**2)).slope
        assert F.spectral_decay(Z)[i] == pytest.approx(want, rel=1e-8, abs=1e-8)


@given(**shapes)
def test_geometry(n, d, seed):
    Z = tokens(n, d, seed)
    for i, z in enumerate(Z.numpy()):
        unit = z / np.linalg.norm(z, axis=1, keepdims=True)
        cosines = (unit @ unit.T)[~np.eye(n, dtype=bool)]
        assert F.mean_cosine(Z)[i] == pytest.approx(cosines.mean(), rel=1e-9, abs=1e-12)
        want = np.linalg.norm(z, axis=1).mean()
        assert F.token_norm(Z)[i] == pytest.approx(want, rel=1e-12)


NAMES = ["l1_l2", "gini", "excess_kurtosis", "treves_rolls", "effective_rank", "stable_rank"]
NAMES += ["participation_ratio", "spectral_decay", "token_norm", "mean_cosine"]


@pytest.mark.parametrize("name", NAMES)
def test_zero_rank_one_and_huge_tokens_give_finite_values(name):
    measure = getattr(F, name)
    zero = torch.zeros(1, 4, 6)
    one = torch.ones(1, 4, 1) @ torch.arange(1.0, 7.0)[None, None]
    for Z in (zero, one, 1e4 * tokens(4, 6, 0), tokens(40, 6, 0, dtype=torch.float32)):
        assert measure(Z).isfinite().all()
    if name in ("effective_rank", "stable_rank", "participation_ratio"):
        assert measure(one).item() == pytest.approx(1, rel=1e-6)
        assert measure(zero).item() == 0
        Q = torch.linalg.qr(tokens(6, 6, 0)).Q
        assert measure(Q[:1]).item() == pytest.approx(6, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_named_and_never_a_number(name):
    Z = tokens(4, 6, 0, batch=3)
    Z[1, 2, 3] = torch.nan
    with pytest.raises(NonFiniteError, match="sample 1"):
        getattr(F, name)(Z)


def test_one_token_has_no_angle():
    with pytest.raises(ShapeError, match="one token"):
        F.mean_cosine(torch.ones(1, 1, 3))


def test_rank_me_uses_singular_values():
    X = tokens(30, 7, 3, batch=1)[0]
    sigma = np.linalg.svd(X.numpy(), compute_uv=False)
    p = sigma / sigma.sum() + 1e-7
    assert F.rank_me(X).item() == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-10)


class TestAttention:
    A = torch.rand(2, 3, 10, 10, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)

    def test_entropy(self):
        want = scipy.stats.entropy(self.A.double().numpy(), axis=-1).mean(axis=-1)
        np.testing.assert_allclose(F.attention_entropy(self.A).numpy(), want, rtol=1e-6)
        even = torch.full((1, 1, 5, 5), 0.2)
        assert F.attention_entropy(even).item() == pytest.approx(math.log(5), rel=1e-6)
        assert F.attention_entropy(torch.eye(5)[None, None]).item() == 0

    def test_distance_by_a_loop(self):
        got = F.attention_distance(self.A, prefix=1)
        A = self.A.double().numpy()[:, :, 1:, 1:]
        places = [(r, c) for r in range(3) for c in range(3)]
        for b in range(2):
            for k in range(3):
                rows = []
                for i, here in enumerate(places):
                    far = [math.dist(here, there) for there in places]
                    rows.append(np.dot(A[b, k, i], far) / A[b, k, i].sum())
                assert got[b, k] == pytest.approx(np.mean(rows), rel=1e-9)
        with pytest.raises(ProbeError, match="square grid"):
            F.attention_distance(self.A, prefix=0)

    def test_class_share(self):
        want = self.A.double()[:, :, 1:, 0].mean(-1)
        torch.testing.assert_close(F.attention_class_share(self.A, prefix=1), want)
        with pytest.raises(ProbeError, match="no class token"):
            F.attention_class_share(self.A, prefix=0)


class TestCoherence:
    U = torch.randn(3, 8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def test_forms_agree(self):
        angles = F.principal_angles(self.U).numpy()
        p = 2
        want = (np.cos(angles) ** 2).sum(-1) / p
        np.testing.assert_allclose(F.frobenius_coherence(self.U).numpy(), want, atol=1e-7)
        want = np.sqrt((np.sin(angles) ** 2).sum(-1))
        np.testing.assert_allclose(F.chordal_distance(self.U).numpy(), want, atol=1e-7)
        columns = self.U / self.U.norm(dim=1, keepdim=True)
        largest = max(
            abs(float(columns[i, :, a] @ columns[j, :, b]))
            for i in range(3)
            for j in range(3)
            for a in range(p)
            for b in range(p)
            if i != j
        )
        assert F.mutual_coherence(self.U).item() == pytest.approx(largest, rel=1e-12)

    def test_random_subspaces_overlap_by_p_over_d(self):
        random = torch.Generator().manual_seed(1)
        U = torch.randn(300, 12, 3, generator=random)
        overlap = F.frobenius_coherence(U)[~torch.eye(300, dtype=torch.bool)].mean()
        assert overlap.item() == pytest.approx(3 / 12, rel=0.01)
        mean, std = F.random_coherence(12, 3)
        spectral = F.coherence(U)[~torch.eye(300, dtype=torch.bool)].mean()
        assert spectral.item() == pytest.approx(mean, abs=4 * std / 8)
