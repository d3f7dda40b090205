"""Coherence of subspaces against scipy's angles, and of known subspaces."""

import math

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import whitebox_probe as wp
from tests.metrics.drawing import bases
from whitebox_probe._core.errors import ShapeError
from whitebox_probe.metrics import functional as F
from whitebox_probe.metrics.coherence import Coherence


@settings(deadline=None, max_examples=25)
@given(d=st.integers(2, 12), K=st.integers(1, 4), p=st.integers(1, 4), seed=st.integers(0, 9))
def test_angles_and_coherence_equal_scipy(d, K, p, seed):
    U = bases(K, d, p, seed=seed)
    want = oracle.principal_angles(U)
    # arccos loses half of the digits at angle zero.
    np.testing.assert_allclose(F.principal_angles(U), want, atol=1e-7)
    np.testing.assert_allclose(F.coherence(U), np.cos(want[..., 0]), atol=1e-7)
    np.testing.assert_allclose(F.frobenius_coherence(U), (np.cos(want) ** 2).mean(-1), atol=1e-7)
    chordal = np.sqrt((np.sin(want) ** 2).sum(-1))
    np.testing.assert_allclose(F.chordal_distance(U), chordal, atol=1e-7)
    unit = U / U.norm(dim=1, keepdim=True)
    flat = unit.permute(1, 0, 2).reshape(d, -1)
    np.testing.assert_allclose(F.overlap(U), (flat.T @ flat).abs(), atol=1e-12)


def test_orthogonal_subspaces_have_coherence_zero_and_equal_ones_one():
    eye = torch.eye(4, dtype=torch.float64)
    apart = torch.stack([eye[:, :2], eye[:, 2:]])
    assert F.coherence(apart)[0, 1].item() == pytest.approx(0, abs=1e-12)
    assert F.principal_angles(apart)[0, 1].min().item() == pytest.approx(math.pi / 2)
    turned = torch.stack([eye[:, :2], 3 * eye[:, [1, 0]]])
    assert F.coherence(turned)[0, 1].item() == pytest.approx(1)


def test_mutual_coherence_is_the_largest_cosine_of_two_heads_vectors():
    U = bases(3, 8, 2)
    want = oracle.mutual_coherence(U)
    assert F.mutual_coherence(U).item() == pytest.approx(want, rel=1e-12)


def test_random_subspaces_overlap_by_p_over_d():
    random = torch.Generator().manual_seed(1)
    U = torch.randn(300, 12, 3, generator=random)
    apart = ~torch.eye(300, dtype=torch.bool)
    overlap = F.frobenius_coherence(U)[apart].mean()
    assert overlap.item() == pytest.approx(3 / 12, rel=0.01)
    mean, std = F.random_coherence(12, 3)
    spectral = F.coherence(U)[apart].mean()
    assert spectral.item() == pytest.approx(mean, abs=4 * std / 8)


def test_subspaces_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match="p at most d"):
        F.coherence(torch.randn(2, 3, 4))


def test_a_head_of_zeros_has_no_angles_and_its_pairs_are_left_out():
    U = torch.randn(4, 12, 3, generator=torch.Generator().manual_seed(5))
    pruned = U.clone()
    pruned[1] = 0
    measure = Coherence()
    numbers, matrices = measure.measure(pruned)
    wanted, kept = measure.measure(U[[0, 2, 3]])
    assert numbers == pytest.approx(wanted, nan_ok=True)
    for name, width in (("coherence", 1), ("overlap", 3)):
        rows = [i for k in (0, 2, 3) for i in range(k * width, (k + 1) * width)]
        torch.testing.assert_close(matrices[name][rows][:, rows], kept[name])
        assert matrices[name][width : 2 * width].isnan().all()
    nothing, _ = measure.measure(0 * U)
    assert all(np.isnan(value) for value in nothing.values())
    other = measure.prepare(torch.randn(4, 12, 3, generator=torch.Generator().manual_seed(6)))
    assert measure.between(measure.prepare(pruned), other) == pytest.approx(
        measure.between(measure.prepare(U[[0, 2, 3]]), other)
    )


def test_angles_of_a_result_are_those_of_numpy(crate):
    images = torch.rand(2, 3, 12, 12)
    result = wp.probe(crate, images, ["coherence"], progress=False)
    found, chance = result.matrix("angles"), result.matrix("angles_random")
    for layer in (1, 2, 3):
        U = crate.subspaces(layer).double().numpy()
        first, second = (np.linalg.qr(each)[0] for each in U)
        cosines = np.linalg.svd(first.T @ second, compute_uv=False).clip(0, 1)
        np.testing.assert_allclose(found[layer - 1, 0], np.degrees(np.arccos(cosines)), atol=1e-5)
    random = np.random.default_rng(0)
    draws = []
    for _ in range(400):
        first, second = (np.linalg.qr(random.standard_normal((16, 6)))[0] for _ in range(2))
        cosines = np.linalg.svd(first.T @ second, compute_uv=False).clip(0, 1)
        draws.append(np.degrees(np.arccos(cosines)))
    np.testing.assert_allclose(chance[0], np.mean(draws, axis=0), atol=2.5)
