"""The change of R^c over the attention step: its parts, and a null that hands updates around."""

import numpy as np
import pytest
import torch
from torch import nn

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe.metrics import functional as F

G = torch.Generator().manual_seed(3)
EPS = 0.5
PARTS = [f"attention_rate_change_{part}" for part in ("common", "radial", "tangential")]
ALL = ["attention_rate_change", "attention_rate_change_no_skip", *PARTS]
ALL += ["attention_rate_change_shuffled"]
SITES = ["z_in", "attn_in", "attn_out", "z_half"]


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


BASIS = torch.linalg.qr(drawn(6, 6, seed=5)).Q.unflatten(1, (2, 3)).transpose(0, 1).contiguous()
Z, D = drawn(2, 7, 6, seed=1), drawn(2, 7, 6, seed=2)


def rate(Z, U, eps=EPS):
    """R^c of one sample by NumPy's determinant: (n, d), (K, d, p) -> a number."""
    Z, U = np.asarray(Z), np.asarray(U)
    n, p = len(Z), U.shape[2]
    grams = [(Z @ U_k).T @ (Z @ U_k) for U_k in U]
    return sum(0.5 * np.linalg.slogdet(np.eye(p) + p / (n * eps**2) * gram)[1] for gram in grams)


def test_the_parts_of_an_update_by_a_loop_over_tokens():
    common, radial, tangential = F.split_update(Z, D)
    torch.testing.assert_close(common + radial + tangential, D)
    for b in range(2):
        mean = D[b].mean(dim=0)
        for i in range(7):
            z = Z[b, i]
            torch.testing.assert_close(common[b, i], mean)
            rest = D[b, i] - mean
            torch.testing.assert_close(radial[b, i], (rest @ z) / (z @ z) * z)
            assert abs(float(tangential[b, i] @ z)) < 1e-12
    none = F.split_update(torch.zeros_like(Z), D)
    assert none[1].abs().max() == 0  # a zero token has no direction
    with pytest.raises(wp.ProbeError, match="update has shape"):
        F.split_update(Z, D[:, :3])


def test_a_shuffled_update_is_the_same_for_a_sample_wherever_it_comes():
    ids = torch.tensor([4, 9])
    moved = F.shuffled_update(D, ids)
    torch.testing.assert_close(F.shuffled_update(D.flip(0), ids.flip(0)).flip(0), moved)
    torch.testing.assert_close(F.shuffled_update(D[1:], ids[1:]), moved[1:])
    assert not torch.equal(moved, D)
    torch.testing.assert_close(F.shuffled_update(D), F.shuffled_update(D, torch.tensor([0, 1])))
    for b in range(2):
        assert {tuple(row) for row in moved[b].tolist()} == {tuple(row) for row in D[b].tolist()}


@pytest.mark.parametrize("make", [small_crate, small_vit])
@pytest.mark.parametrize("prenorm", [True, False])
@pytest.mark.parametrize("class_token", [True, False])
def test_of_a_model_each_part_is_what_it_says(make, prenorm, class_token):
    model = wp.wrap(make().double(), name="a model")
    images = torch.randn(5, 3, 12, 12, generator=G).double()
    options = {"prenorm": prenorm, "class_token": class_token, "fast": False, "progress": False}
    result = wp.probe(model, images, ALL, eps=EPS, **options)
    small = wp.probe(model, images, ALL, eps=[EPS, 0.05], batch_size=2, **options)
    with wp.record(model, SITES) as rec, torch.no_grad():
        model.module(images)
    for layer in (1, 2, 3):
        U = model.subspaces(layer).detach()
        norm = model.layer(layer).norm.forward if prenorm else lambda z: z
        first = 0 if class_token else 1
        at = {site: rec[site, layer][:, first:] for site in SITES}
        common, radial, _ = F.split_update(at["z_in"], at["attn_out"])
        moved = F.shuffled_update(at["attn_out"])
        with torch.no_grad():
            places = {
                "in": norm(at["z_in"]),
                "half": norm(at["z_half"]),
                "alone": norm(at["attn_out"]),
                "common": norm(at["z_in"] + common),
                "radial": norm(at["z_in"] + common + radial),
                "whole": norm(at["z_in"] + at["attn_out"]),
                "shuffled": norm(at["z_in"] + moved),
            }
        R = {name: np.array([rate(one, U) for one in at]) for name, at in places.items()}
        want = {
            "attention_rate_change": R["half"] - R["in"],
            "attention_rate_change_no_skip": R["alone"] - R["in"],
            "attention_rate_change_common": R["common"] - R["in"],
            "attention_rate_change_radial": R["radial"] - R["common"],
            "attention_rate_change_tangential": R["whole"] - R["radial"],
            "attention_rate_change_shuffled": R["shuffled"] - R["in"],
        }
        for name, values in want.items():
            got = result.values(name)[:, layer - 1]
            np.testing.assert_allclose(got, values, rtol=1e-8, atol=1e-9, err_msg=name)
            again = small.values(name, eps=EPS)[:, layer - 1]
            np.testing.assert_allclose(again, values, rtol=1e-7, atol=1e-9, err_msg=name)
        total = sum(result.values(name)[:, layer - 1] for name in PARTS)
        whole = result.values("attention_rate_change")[:, layer - 1]
        np.testing.assert_allclose(total, whole, atol=1e-9)


class Attend(nn.Module):
    def __init__(self, update):
        super().__init__()
        self.update = update

    def forward(self, X):
        return self.update(X)


class Block(nn.Module):
    def __init__(self, update):
        super().__init__()
        self.norm, self.attn = nn.LayerNorm(6, dtype=torch.float64), Attend(update)

    def forward(self, Z):
        return Z + self.attn(self.norm(Z))


def of_update(update):
    """Measures of a layer that adds a given update to the tokens, which it takes as inputs."""
    network = nn.Sequential(Block(update))
    sites = {"z_in": "{layer}:input", "attn_in": "{layer}.attn:input"}
    sites |= {"attn_out": "{layer}.attn:output", "z_half": "{layer}:output"}
    model = wp.wrap(
        network, sites=sites, heads=2, dim_head=3, dim=6, prenorm="{layer}.norm",
        subspaces=lambda module, layer: BASIS,
    )  # fmt: skip
    names = [*ALL, "descent_cosine"]
    tokens = drawn(4, 9, 6, seed=6)
    result = wp.probe(model, list(tokens), names, eps=EPS, batch_size=3, progress=False)
    return {name: result.values(name)[:, 0] for name in names}


def test_one_vector_for_all_tokens_is_a_common_shift_and_nothing_else():
    vector = 3 * drawn(6, seed=7)
    found = of_update(lambda X: vector.expand_as(X).clone())
    assert (found["attention_rate_change"] < -1).all()  # the norm makes the tokens more alike
    change = found["attention_rate_change"]
    np.testing.assert_allclose(found["attention_rate_change_common"], change, atol=1e-9)
    np.testing.assert_allclose(found["attention_rate_change_shuffled"], change, atol=1e-9)
    for part in ("radial", "tangential"):
        assert np.abs(found[f"attention_rate_change_{part}"]).max() < 1e-9


def test_an_update_of_each_token_by_itself_is_told_from_the_same_update_of_others():
    # Each token loses what it has in a subspace: handed to another token, that lowers nothing.
    V = BASIS[0] @ BASIS[0].T

    def update(X):
        away = -(X @ V)
        return away - away.mean(dim=1, keepdim=True)

    found = of_update(update)
    change, moved = found["attention_rate_change"], found["attention_rate_change_shuffled"]
    assert (change < moved - 0.4).all()
    assert np.abs(found["attention_rate_change_common"]).max() < 1e-9


def test_no_update_changes_nothing():
    found = of_update(torch.zeros_like)
    for name in (*PARTS, "attention_rate_change", "attention_rate_change_shuffled"):
        assert np.abs(found[name]).max() < 1e-12
    assert (found["descent_cosine"] == 0).all()


def test_tokens_that_a_mask_leaves_out_have_no_part():
    model = wp.wrap(small_vit().double(), name="vit")
    images = torch.randn(3, 3, 12, 12, generator=G).double()
    masks = torch.ones(3, 10, dtype=torch.bool)
    masks[1, 4:8] = masks[2, :2] = False
    data = list(zip(images, masks, strict=True))
    result = wp.probe(model, data, ALL, eps=EPS, fast=False, progress=False)
    with wp.record(model, SITES) as rec, torch.no_grad():
        model.module(images)
    for i in range(3):
        Z, D = (rec[site, 2][i, masks[i]][None].detach() for site in ("z_in", "attn_out"))
        norm, U = model.layer(2).norm.forward, model.subspaces(2).detach()
        common, _, _ = F.split_update(Z, D)
        moved = F.shuffled_update(D, torch.tensor([i]))
        with torch.no_grad():
            start = rate(norm(Z)[0], U)
            want = [rate(norm(Z + step)[0], U) - start for step in (common, moved)]
        got = [result.values(f"attention_rate_change_{w}")[i, 1] for w in ("common", "shuffled")]
        np.testing.assert_allclose(got, want, rtol=1e-8)


def test_a_metric_takes_its_order_from_the_numbers_of_the_samples():
    U = drawn(2, 6, 3, seed=8)
    metric = wp.metrics.RateChangeShuffled(eps=EPS)
    ids = torch.tensor([3, 8])
    metric.update(Z, U, ids, attn_out=D)
    moved = F.shuffled_update(D, ids)
    want = [rate(Z[b] + moved[b], U) - rate(Z[b], U) for b in range(2)]
    np.testing.assert_allclose(metric.samples().numpy(), want)
