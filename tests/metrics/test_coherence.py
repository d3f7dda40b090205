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
from whitebox_probe._core.errors import NonFiniteError, ShapeError
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


def test_subspaces_that_are_not_finite_are_called_heads():
    U = torch.randn(4, 8, 2)
    U[2, 3, 1] = torch.inf
    told = r"U is not finite for 1 of 4 heads: U\[2\] holds NaN or infinity. Check the weights"
    for function in (F.coherence, F.overlap, F.principal_angles, Coherence().measure):
        with pytest.raises(NonFiniteError, match=told):
            function(U)
    Z = torch.randn(2, 5, 8)
    for function in (F.token_snr, F.token_clusters):
        with pytest.raises(NonFiniteError, match=told):
            function(Z, U)
    for function in (F.compression, F.compression_gradient):
        with pytest.raises(NonFiniteError, match=told):
            function(Z, U, eps=0.1)


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


def next_layer_overlap(first, second):
    """Of each head of a layer the best of the next one's, in NumPy; the mean."""
    Q, P = ([np.linalg.qr(U)[0] for U in each.double().numpy()] for each in (first, second))
    best = [max(((q.T @ p) ** 2).sum() / q.shape[1] for p in P) for q in Q]
    return np.mean(best)


@pytest.mark.parametrize(("K", "M", "d", "p"), [(1, 1, 4, 2), (2, 3, 9, 2), (4, 2, 12, 5)])
def test_the_overlap_with_the_next_layer_is_numpys(K, M, d, p):
    measure = Coherence()
    first, second = bases(K, d, p, seed=1), bases(M, d, p, seed=2)
    found = measure.between(measure.prepare(first), measure.prepare(second))
    assert found == {"next_layer_overlap": pytest.approx(next_layer_overlap(first, second))}
    # Whatever the vectors that span them are.
    turned = second @ torch.triu(torch.ones(p, p, dtype=second.dtype))
    again = measure.between(measure.prepare(first), measure.prepare(turned))
    assert again == pytest.approx(found)


def test_the_overlap_with_the_next_layer_of_known_subspaces():
    e = torch.eye(6, dtype=torch.float64)
    turn = 0.3
    tilted = math.cos(turn) * e[0] + math.sin(turn) * e[5]
    first = torch.stack([e[:, [0, 1]], e[:, [2, 3]]])
    second = torch.stack([e[:, [4, 5]], torch.stack([tilted, e[1]], 1), e[:, [1, 2]]])
    measure = Coherence()

    def between(one, other):
        prepared = (measure.prepare(one), measure.prepare(other))
        return measure.between(*prepared)["next_layer_overlap"]

    # Half of (cos^2 + 1) of the tilted one, and one direction of two.
    want = ((math.cos(turn) ** 2 + 1) / 2 + 1 / 2) / 2
    assert between(first, second) == pytest.approx(want, rel=1e-12)
    # The other way round: of the plane apart the tilt's sine alone, and one direction of two.
    want = (0 + (math.cos(turn) ** 2 + 1) / 2 + 1 / 2) / 3
    assert between(second, first) == pytest.approx(want, rel=1e-12)
    assert between(first, first) == pytest.approx(1)
    assert between(first, e[None, :, [4, 5]]) == pytest.approx(0, abs=1e-12)
    # A head of one direction alone is held whole by a plane that has it.
    line = torch.stack([e[:, 0], 2 * e[:, 0]], 1)[None]
    assert between(line, first) == pytest.approx(1)
    assert between(first[:1], line) == pytest.approx(1)
    assert math.isnan(between(0 * first, second))
    assert math.isnan(between(first, 0 * second))


def test_the_numbers_of_a_layer_are_those_of_its_pairs():
    U = bases(4, 9, 2)
    numbers, matrices = Coherence().measure(U)
    i, j = np.triu_indices(4, 1)
    angles = oracle.principal_angles(U)[i, j]
    cosines = np.cos(angles)
    want = {
        "coherence_mean": cosines.max(axis=1).mean(),
        "coherence_max": cosines.max(),
        "overlap_mean": (cosines**2).mean(),
        "overlap_random": 2 / 9,
        "mutual_coherence": oracle.mutual_coherence(U),
        "chordal_mean": np.sqrt((np.sin(angles) ** 2).sum(axis=1)).mean(),
        "principal_angle_min": angles.min(),
        "principal_angle_mean": angles.mean(),
        "coherence_random": F.random_coherence(9, 2)[0],
    }
    assert numbers == pytest.approx(want, abs=1e-9)
    np.testing.assert_allclose(matrices["angles"], np.degrees(angles), atol=1e-6)
    np.testing.assert_array_equal(matrices["coherence"].diagonal(), np.ones(4))
    np.testing.assert_array_equal(F.frobenius_coherence(U).diagonal(), np.ones(4))
    np.testing.assert_array_equal(F.chordal_distance(U).diagonal(), np.zeros(4))
    one, _ = Coherence().measure(U[:1])
    assert all(math.isnan(value) for value in one.values())
    assert math.isnan(F.mutual_coherence(U[:1]))


def test_heads_of_fewer_directions_are_compared_by_the_directions_that_they_have():
    e = torch.eye(5, dtype=torch.float64)
    line = torch.stack([e[:, 0], 3 * e[:, 0]], 1)
    U = torch.stack([line, e[:, [0, 1]], e[:, [2, 3]]])
    angles = F.principal_angles(U)
    assert angles[0, 1, 0] == pytest.approx(0, abs=1e-7)
    assert angles[0, 1, 1].isnan()
    assert angles[1, 2].tolist() == pytest.approx([math.pi / 2] * 2)
    numbers, _ = Coherence().measure(U)
    assert numbers["overlap_mean"] == pytest.approx(1 / 3)  # one of three pairs is held whole
    assert numbers["overlap_random"] == pytest.approx(2 / 5)  # the larger of two spans, over d
    assert numbers["principal_angle_min"] == pytest.approx(0, abs=1e-7)
    # Of four angles that there are: one is 0.
    assert numbers["principal_angle_mean"] == pytest.approx(3 / 4 * math.pi / 2)
    _, full = Coherence().measure(torch.stack([U[0], 0 * U[0], U[1], U[2]]))
    known = ~full["angles"][:, 0].isnan()
    assert known.tolist() == [False, True, True, False, False, True]
    assert full["angles"].shape == (6, 2)


def test_no_head_at_all_has_matrices_of_nothing():
    numbers, matrices = Coherence().measure(torch.zeros(3, 5, 2))
    shapes = {"coherence": (3, 3), "overlap": (6, 6), "angles": (3, 2), "angles_random": (2,)}
    assert {name: tuple(each.shape) for name, each in matrices.items()} == shapes
    assert all(each.isnan().all() for each in matrices.values())
    assert set(numbers) == set(Coherence.rows[:-1])


def test_a_vector_of_rounding_alone_is_no_direction():
    e = torch.eye(4)
    for size, ranks in ((1e-8, 1), (1e-4, 2)):
        second = (e[:, 0] + size * e[:, 1])[:, None]
        U = torch.cat([e[:, :1], second], dim=1)[None].repeat(2, 1, 1)
        assert int((~F.principal_angles(U)[0, 1].isnan()).sum()) == ranks


def test_chance_of_directions_is_that_of_their_closed_form():
    """The cosine of two directions of R^d has mean 1 / (d - 1) * 2 / B(1/2, (d - 1)/2)."""
    d = 8
    mean, std = F.random_coherence(d, 1, draws=4000)
    beta = math.gamma(0.5) * math.gamma((d - 1) / 2) / math.gamma(d / 2)
    want = 2 / ((d - 1) * beta)
    assert mean == pytest.approx(want, rel=0.04)
    assert std == pytest.approx(math.sqrt(1 / d - want**2), rel=0.05)
    assert F.random_coherence(d, 1) == F.random_coherence(d, 1, draws=64, seed=0)
    with pytest.raises(ShapeError, match="do not fit"):
        F.random_coherence(2, 3)
    assert F.random_coherence(3, 3)[0] == pytest.approx(1)
