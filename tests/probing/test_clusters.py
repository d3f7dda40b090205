"""The basis of clusters: subspaces that tokens lie in are found, from every seed."""

import pytest
import torch

from whitebox_probe.probing.bases import k_subspaces


def planted(seed, count, dim, width, sizes, noise, *, orthogonal=True):
    """Points on subspaces, in any order, and the subspaces."""
    random = torch.Generator().manual_seed(1000 + seed)

    def drawn(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=random)

    if orthogonal:
        Q = torch.linalg.qr(drawn(width, width)).Q
        true = Q[:, : count * dim].unflatten(1, (count, dim)).transpose(0, 1)
    else:
        true = torch.linalg.qr(drawn(count, width, dim)).Q
    X = torch.cat([drawn(n, dim) @ B.T for n, B in zip(sizes, true, strict=True)])
    X = X + noise * drawn(*X.shape)
    return X[torch.randperm(len(X), generator=random)], true


@pytest.mark.parametrize(
    ("sizes", "noise", "least"),
    [
        ([100] * 4, 0.0, 1 - 1e-9),
        ([100] * 4, 0.05, 0.99),
        ([300, 100, 40, 20], 0.0, 1 - 1e-9),
        ([300, 100, 40, 20], 0.05, 0.98),
        ([12] * 4, 0.0, 1 - 1e-9),
    ],
)
def test_orthogonal_subspaces_are_found_from_every_seed(sizes, noise, least):
    for seed in range(40):
        X, true = planted(seed, 4, 3, 24, sizes, noise)
        found = k_subspaces(X, 4, 3, seed=seed)
        shared = torch.einsum("kdp,jdq->kjpq", found, true).square().sum(dim=(2, 3)) / 3
        assert shared.amax(dim=0).min() > least, seed
        assert len(set(shared.argmax(dim=0).tolist())) == 4, seed


@pytest.mark.parametrize(
    ("count", "dim", "width", "orthogonal"), [(8, 4, 32, True), (5, 4, 12, False)]
)
def test_many_subspaces_and_such_as_overlap_are_found_too(count, dim, width, orthogonal):
    for seed in range(10):
        X, true = planted(seed, count, dim, width, [80] * count, 0.02, orthogonal=orthogonal)
        found = k_subspaces(X, count, dim, seed=seed)
        shared = torch.einsum("kdp,jdq->kjpq", found, true).square().sum(dim=(2, 3)) / dim
        assert shared.amax(dim=0).min() > 0.98, seed


def test_the_same_seed_gives_the_same_subspaces_and_they_are_orthonormal():
    X, _ = planted(0, 4, 3, 24, [50] * 4, 0.3)
    first, second = (k_subspaces(X, 4, 3, seed=5) for _ in range(2))
    assert torch.equal(first, second)
    torch.testing.assert_close(first.mT @ first, torch.eye(3).double().expand(4, 3, 3))


def test_points_that_are_all_one_leave_zeros():
    X = torch.ones(20, 6)
    found = k_subspaces(X, 2, 2, seed=0)
    assert (found.norm(dim=1) > 0).sum(dim=1).max() == 1
    assert k_subspaces(0 * X, 2, 2, seed=0).abs().sum() == 0
