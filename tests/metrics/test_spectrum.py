"""Measures of a sample's singular values against independent ones."""

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given

import whitebox_probe as wp
from tests.metrics.drawing import draw, sizes
from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.metrics import functional as F

NAMES = ["effective_rank", "stable_rank", "participation_ratio", "spectral_decay"]


@given(**sizes)
def test_they_equal_their_definitions(n, d, seed):
    Z = draw(n, d, seed=seed)
    for name in NAMES:
        for z, got in zip(Z, getattr(F, name)(Z), strict=True):
            want = getattr(oracle, name)(z)
            assert got == pytest.approx(want, rel=1e-8, abs=1e-8), name


@pytest.mark.parametrize("name", NAMES)
def test_rank_one_zero_and_huge_tokens_give_known_values(name):
    measure = getattr(F, name)
    zero = torch.zeros(1, 4, 6)
    one = torch.ones(1, 4, 1) @ torch.arange(1.0, 7.0)[None, None]
    for Z in (1e4 * draw(4, 6), draw(40, 6, dtype=torch.float32)):
        assert measure(Z).isfinite().all()
    if name != "spectral_decay":
        assert measure(one).item() == pytest.approx(1, rel=1e-6)
        assert measure(zero).item() == 0
        Q = torch.linalg.qr(draw(6, 6)).Q
        assert measure(Q[:1]).item() == pytest.approx(6, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_named_and_never_a_number(name):
    Z = draw(4, 6, batch=3)
    Z[1, 2, 3] = torch.nan
    with pytest.raises(NonFiniteError, match="sample 1"):
        getattr(F, name)(Z)


def test_one_direction_or_none_does_not_decay():
    """0 would be the decay of a flat spectrum, the opposite extreme."""
    Z = draw(4, 6, batch=4)
    whole = F.spectral_decay(Z)
    Z[1], Z[2] = 0, torch.ones(4, 1, dtype=Z.dtype) * Z[2, :1]
    found = F.spectral_decay(Z)
    assert found.isnan().tolist() == [False, True, True, False]
    assert found[[0, 3]].tolist() == whole[[0, 3]].tolist()
    assert F.spectral_decay(Z[:, :1]).isnan().all()
    flat = torch.linalg.qr(draw(6, 6)).Q[:1]
    assert F.spectral_decay(flat).item() == pytest.approx(0, abs=1e-12)


def test_features_of_zeros_have_no_rank_me():
    assert F.rank_me(torch.zeros(9, 5)).isnan()


def test_rank_me_uses_singular_values():
    X = draw(30, 7, seed=3, batch=1)[0]
    assert F.rank_me(X).item() == pytest.approx(oracle.rank_me(X), rel=1e-10)


def test_token_spectrum_is_that_of_numpy():
    Z = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = F.token_spectrum(Z).numpy()
    for sample, shares in zip(Z.numpy(), found, strict=True):
        power = np.linalg.svd(sample, compute_uv=False) ** 2
        np.testing.assert_allclose(shares[:5], power / power.sum(), rtol=1e-12)
        np.testing.assert_array_equal(shares[5:], 0)
    assert F.token_spectrum(torch.zeros(1, 2, 3)).isnan().all()


def test_the_spectrum_of_a_result_is_the_mean_over_samples(crate):
    images = torch.rand(6, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    result = wp.probe(crate, images, ["token_spectrum"], progress=False, batch_size=4)
    with wp.record(crate, ["z_out"]) as recording:
        crate.module(images)
    for layer in (1, 2, 3):
        want = F.token_spectrum(recording["z_out", layer]).mean(dim=0)
        found = result.matrix("token_spectrum")[layer - 1]
        np.testing.assert_allclose(found, want.numpy(), rtol=1e-5, atol=1e-9)
        assert result.curve("leading_share")["mean"][layer - 1] == pytest.approx(found[0])
