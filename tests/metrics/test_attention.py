"""Measures of attention maps against loops over their rows."""

import math

import numpy as np
import oracle
import pytest
import torch

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.metrics import functional as F

A = torch.rand(2, 3, 10, 10, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
PLACES = [(b, k) for b in range(2) for k in range(3)]


def test_entropy():
    got = F.attention_entropy(A)
    for place in PLACES:
        np.testing.assert_allclose(got[place], oracle.attention_entropy(A[place]), rtol=1e-6)
    even = torch.full((1, 1, 5, 5), 0.2)
    assert F.attention_entropy(even).item() == pytest.approx(math.log(5), rel=1e-6)
    assert F.attention_entropy(torch.eye(5)[None, None]).item() == 0


def test_distance():
    got = F.attention_distance(A, prefix=1, grid=(3, 3))
    for place in PLACES:
        want = oracle.attention_distance(A[place][1:, 1:], 3)
        assert got[place] == pytest.approx(want, rel=1e-9)
    with pytest.raises(ProbeError, match="their grid is 3x3"):
        F.attention_distance(A, prefix=0, grid=(3, 3))


@pytest.mark.parametrize("grid", [(1, 9), (9, 1), (3, 3)])
def test_distance_is_between_places_of_the_grid(grid):
    place = torch.tensor([[i, j] for i in range(grid[0]) for j in range(grid[1])]).double()
    B = A[..., 1:, 1:].double()
    far = (B * torch.cdist(place, place)).sum(-1) / B.sum(-1)
    got = F.attention_distance(A, prefix=1, grid=grid)
    torch.testing.assert_close(got, far.mean(-1))


def test_class_share():
    want = A.double()[:, :, 1:, 0].mean(-1)
    torch.testing.assert_close(F.attention_class_share(A, prefix=1), want)
    with pytest.raises(ProbeError, match="no class token"):
        F.attention_class_share(A, prefix=0)
