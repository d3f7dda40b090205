"""What attention adds to other samples: their mean, what of it is shared, and samples left out."""

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_crate
from whitebox_probe.probing.means import mean_updates, with_means

EPS = 0.5
CHANGES = ["attention_rate_change_mean", "attention_rate_change_shared"]
COSINES = ["descent_cosine", "descent_cosine_mean", "descent_cosine_shared"]
IMAGES = torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(3)).double()


def rate(X, U):
    n, p = X.shape[0], U.shape[-1]
    V = X[None] @ U
    return np.linalg.slogdet(np.eye(p) + p / (n * EPS**2) * V.swapaxes(1, 2) @ V)[1].sum() / 2


@pytest.fixture(scope="module")
def model():
    return wp.wrap(small_crate().double(), name="a model")


@pytest.fixture(scope="module")
def measured(model):
    known = with_means(model, mean_updates(model, IMAGES, limit=None, fast=False))
    names = [*CHANGES, *COSINES]
    result = wp.probe(known, IMAGES, names, eps=EPS, fast=False, progress=False)
    with wp.record(model, ["z_in", "attn_out"]) as rec, torch.no_grad():
        model.module(IMAGES)
    return result, rec


@pytest.mark.parametrize("layer", [1, 3])
def test_the_rate_by_the_means_of_other_samples(model, measured, layer):
    result, rec = measured
    U, norm = model.subspaces(layer).detach().numpy(), model.layer(layer).norm.forward
    Z, D = rec["z_in", layer], rec["attn_out", layer]
    for i in range(len(Z)):
        others = torch.cat([D[:i], D[i + 1 :]]).mean(dim=0)
        shared = D[i].mean(dim=0) + others - others.mean(dim=0)
        with torch.no_grad():
            start = rate(norm(Z[i]).numpy(), U)
            want = [rate(norm(Z[i] + step).numpy(), U) - start for step in (others, shared)]
        got = [result.values(name)[i, layer - 1] for name in CHANGES]
        np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-9)


def test_the_cosines_parts_are_linear_in_the_update(model, measured):
    """Of -grad by automatic differentiation of the rate itself."""
    result, rec = measured
    Z, D = rec["z_in", 2].clone().requires_grad_(), rec["attn_out", 2]
    U, norm = model.subspaces(2).detach(), model.layer(2).norm.forward
    V = norm(Z)[:, None] @ U
    eye = torch.eye(U.shape[-1], dtype=Z.dtype)
    inner = eye + U.shape[-1] / (Z.shape[1] * EPS**2) * V.mT @ V
    R = torch.linalg.cholesky(inner).diagonal(dim1=-2, dim2=-1).log().sum()
    down = -torch.autograd.grad(R, Z)[0]
    for i in range(len(Z)):
        others = torch.cat([D[:i], D[i + 1 :]]).mean(dim=0)
        parts = D[i], others, D[i].mean(dim=0) + others - others.mean(dim=0)
        norms = down[i].norm() * D[i].norm()
        want = [float((part * down[i]).sum() / norms) for part in parts]
        got = [result.values(name)[i, 1] for name in COSINES]
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-9)


def test_what_adds_one_vector_a_sample_and_one_a_place_is_shared_wholly():
    random = torch.Generator().manual_seed(0)
    shift, place = (torch.randn(*s, generator=random).double() for s in ((4, 1, 6), (1, 7, 6)))
    D = shift + place
    others = torch.stack([torch.cat([D[:i], D[i + 1 :]]).mean(dim=0) for i in range(4)])
    torch.testing.assert_close(wp.metrics.functional.shared_update(D, others), D)


def test_a_sample_that_is_not_finite_does_not_enter(model):
    def spoil(module, inputs, output):
        output[1] = torch.nan
        return output

    with wp.record(model, ["attn_out"]) as rec, torch.no_grad():
        model.module(IMAGES)
    D = rec["attn_out", 2]
    attention = model.module.transformer.layers[1][0].fn
    handle = attention.register_forward_hook(spoil)
    try:
        means = mean_updates(model, IMAGES, limit=None, fast=False)
    finally:
        handle.remove()
    assert means.samples[2].tolist() == [[n, 1] for n in (0, 2, 3, 4)]
    torch.testing.assert_close(means.of[2], D[[0, 2, 3, 4]].mean(dim=0))
