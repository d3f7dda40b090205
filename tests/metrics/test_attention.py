"""Measures of attention maps against loops over their rows."""

import math

import numpy as np
import oracle
import pytest
import timm
import torch

import whitebox_probe as wp
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


def test_a_map_that_is_no_distribution_is_refused():
    mixed = torch.softmax(torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0)), -1)
    mixed = mixed - 0.5 * mixed.flip(1)
    sunk = torch.full((2, 3, 5, 5), 0.1)
    for A, why in ((mixed, "negative weights"), (sunk, "do not sum to 1")):
        with pytest.raises(ProbeError, match=f"no distribution.*{why}"):
            F.attention_entropy(A)
        with pytest.raises(ProbeError, match=f"no distribution.*{why}"):
            F.attention_class_share(A, prefix=1)
    with pytest.raises(ProbeError, match="negative weights"):
        F.attention_distance(mixed, prefix=1, grid=(2, 2))
    even = F.attention_distance(torch.full((2, 3, 5, 5), 0.2), prefix=1, grid=(2, 2))
    assert torch.allclose(F.attention_distance(sunk, prefix=1, grid=(2, 2)), even)


def test_a_row_in_half_precision_is_a_distribution():
    A = torch.softmax(torch.randn(1, 2, 300, 300) * 4, -1)
    for kind in (torch.bfloat16, torch.float16):
        assert torch.allclose(F.attention_entropy(A.to(kind)), F.attention_entropy(A), atol=0.05)


def test_cait_has_no_entropy():
    module = timm.create_model("cait_xxs24_224", depth=2, img_size=32, num_classes=0).eval()
    with pytest.raises(ProbeError, match="negative weights.*Leave this measure out"):
        wp.probe(wp.wrap(module), torch.randn(2, 3, 32, 32), "attention_entropy", progress=False)
