"""Signal-to-noise of each head's own tokens: planted clusters, and NumPy's projectors."""

import math

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from whitebox_probe.metrics import functional as F

K, P, D, N = 4, 8, 32, 40
G = torch.Generator().manual_seed(0)


def planted(noise):
    """Tokens in turn on K orthogonal subspaces, noise in the others; U, and each one's head."""
    Q = torch.linalg.qr(torch.randn(D, D, dtype=torch.float64, generator=G)).Q
    U = Q.reshape(D, K, P).transpose(0, 1).contiguous()
    own = torch.arange(N) % K
    signal = torch.einsum("np,ndp->nd", drawn(N, P), U[own])
    other = drawn(N, D)
    other = other - torch.einsum("ndp,nep,ne->nd", U[own], U[own], other)
    return signal + noise * other, U, own


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=G)


def by_hand(Z, U, own):
    """SNR of one sample's clusters in NumPy; NaN for a head without tokens."""
    found = []
    for k in range(len(U)):
        Q = np.linalg.qr(U[k].numpy())[0]
        mine = Z[own == k].numpy()
        inside = mine @ Q @ Q.T
        with np.errstate(invalid="ignore"):
            found.append(np.linalg.norm(inside) / np.linalg.norm(mine - inside))
    return found


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.3])
def test_of_planted_clusters_it_is_the_ratio_that_was_planted(noise):
    Z, U, own = planted(noise)
    assert torch.equal(F.token_clusters(Z[None], U)[0], own)
    got = F.token_snr(Z[None], U)[0]
    np.testing.assert_allclose(got, by_hand(Z, U, own), rtol=1e-9)
    # p directions of signal against d - p of noise, whatever the number of heads
    assert got.mean().item() == pytest.approx(math.sqrt(P / (D - P)) / noise, rel=0.15)
    assert F.token_snr_entropy(Z[None], U).item() == pytest.approx(math.log(K))


def test_without_noise_it_is_what_rounding_allows():
    Z, U, _ = planted(0.0)
    assert F.token_snr(Z[None], U).min() > 1e6
    assert F.token_snr(Z[None].float(), U.float()).min() > 1e5


def test_tokens_go_where_most_of_their_energy_is():
    Z, U = drawn(2, 30, 6), drawn(3, 6, 2)
    own = F.token_clusters(Z, U)
    Q = np.linalg.qr(U.numpy())[0]
    energy = np.linalg.norm(np.einsum("bnd,kdp->kbnp", Z.numpy(), Q), axis=-1)
    np.testing.assert_array_equal(own, energy.argmax(axis=0))
    for b in range(2):
        np.testing.assert_allclose(F.token_snr(Z, U)[b], by_hand(Z[b], U, own[b]), rtol=1e-9)
        share = np.bincount(own[b], minlength=3) / 30
        want = -(share * np.log(share)).sum()
        assert F.token_snr_entropy(Z, U)[b].item() == pytest.approx(want)


def test_a_head_without_tokens_is_nan_and_does_not_count_in_the_mean():
    Z, U, own = planted(0.1)
    Z = Z[own != 2]
    got = F.token_snr(Z[None], U)[0]
    assert got.isnan().tolist() == [False, False, True, False]
    metric = wp.metrics.TokenSNR()
    metric.update(Z[None], U)
    assert metric.compute().item() == pytest.approx(got[[0, 1, 3]].mean().item())
    assert F.token_snr_entropy(Z[None], U).item() == pytest.approx(math.log(3))
    zeros = torch.cat([Z, torch.zeros_like(Z)])[None]  # zero tokens belong to nobody
    torch.testing.assert_close(F.token_snr(zeros, U)[0], got, equal_nan=True)
    assert (F.token_clusters(zeros, U)[0, len(Z) :] == -1).all()
    assert F.token_snr_entropy(zeros, U).item() == pytest.approx(math.log(3))


def test_samples_of_zeros_have_no_ratio_no_shares_and_no_growth():
    Z, U, _ = planted(0.1)
    both = torch.stack([Z, 0 * Z])
    for measure, function in (("TokenSNR", F.token_snr), ("TokenSNREntropy", F.token_snr_entropy)):
        metric = getattr(wp.metrics, measure)()
        metric.update(both, U)
        assert metric.samples().isnan().tolist() == [False, True]
        assert function(0 * Z[None], U).isnan().all()
    metric = wp.metrics.TokenSNRGrowth()
    # Zeros after and zeros before have no growth; -1 would be that of a signal that is lost.
    metric.update(torch.stack([Z, 0 * Z, Z]), U, z_in=torch.stack([Z, Z, 0 * Z]))
    assert metric.samples().isnan().tolist() == [False, True, True]
    assert F.token_snr_growth(Z[None], 0 * Z[None], U).isnan().all()
    outside = torch.zeros_like(U)
    outside[0] = U[0]
    gone = Z - Z @ U[0] @ U[0].mT
    assert F.token_snr_growth(Z[None], gone[None], outside)[0, 0].item() == pytest.approx(-1)


def test_what_is_not_finite_after_is_no_sample_that_lacks_a_value():
    Z, U, _ = planted(0.1)
    metric = wp.metrics.TokenSNRGrowth()
    with pytest.raises(wp.ProbeError, match="not finite for 1 of 1 samples"):
        metric.update(torch.nan * Z[None], U, z_in=0 * Z[None])
    with pytest.raises(wp.ProbeError, match="not finite for 1 of 1 samples"):
        metric.update(0 * Z[None], U, z_in=torch.nan * Z[None])


def test_growth_is_that_of_the_signal_whatever_the_noise():
    Z, U, own = planted(0.2)
    inside = torch.einsum("ndp,nep,ne->nd", U[own], U[own], Z)
    grown = F.token_snr_growth(Z[None], (Z + 0.3 * inside)[None], U)
    torch.testing.assert_close(grown, torch.full((1, K), 0.3, dtype=torch.float64))
    torch.testing.assert_close(F.token_snr_growth(Z[None], 7 * Z[None], U), 0 * grown)
    # The clusters are those before, although every token is nearest to another head after.
    swapped = Z @ (U.roll(1, 0) @ U.mT).sum(dim=0).mT
    growth = F.token_snr_growth(Z[None], swapped[None], U)[0]
    assert (growth < -0.9).all()
    want = np.array(by_hand(swapped, U, own)) / by_hand(Z, U, own) - 1
    np.testing.assert_allclose(growth, want, rtol=1e-9)


def test_tokens_that_are_not_finite_are_told():
    Z = drawn(2, 5, 6)
    Z[1, 0, 0] = torch.inf
    for function in (F.token_snr, F.token_snr_entropy, F.token_clusters):
        with pytest.raises(wp.ProbeError, match="sample 1"):
            function(Z, drawn(3, 6, 2))


def test_of_a_model_they_are_taken_of_the_normed_stream(crate):
    names = ["token_snr", "token_snr_entropy", "token_snr_growth"]
    images = torch.randn(4, 3, 12, 12, generator=G)
    result = wp.probe(crate, images, names, progress=False)
    half = wp.probe(crate, images, names, sites=dict.fromkeys(names, "z_half"), progress=False)
    sites = ["z_in", "z_half", "z_out"]
    with wp.record(crate, sites) as rec, torch.no_grad():
        crate.module(images)
    for layer in (1, 2, 3):
        B, norm = crate.subspaces(layer).double(), crate.layer(layer).norm
        with torch.no_grad():
            at = {site: norm(rec[site, layer]).double() for site in sites}
        for found, site in ((result, "z_out"), (half, "z_half")):
            want = {
                "token_snr": F.token_snr(at[site], B).nanmean(dim=1),
                "token_snr_entropy": F.token_snr_entropy(at[site], B),
                "token_snr_growth": F.token_snr_growth(at["z_in"], at[site], B).nanmean(dim=1),
            }
            for name, values in want.items():
                got = found.values(name)[:, layer - 1]
                np.testing.assert_allclose(got, values, rtol=1e-4, atol=1e-5, err_msg=name)
