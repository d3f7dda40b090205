"""The proximal steps and the signal-to-noise of a layer, by hand."""

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from whitebox_probe.metrics import functional as F
from whitebox_probe.models.registry import build

G = torch.Generator().manual_seed(3)
Z = torch.randn(2, 7, 6, dtype=torch.float64, generator=G)
U = torch.randn(3, 6, 2, dtype=torch.float64, generator=G)
EPS = 0.5


def test_the_ista_objective_by_columns_and_one_proximal_step_lowers_it():
    D = torch.randn(6, 6, dtype=torch.float64, generator=G)
    A = torch.randn(2, 7, 6, dtype=torch.float64, generator=G)
    lam = 0.3
    want = [
        0.5 * np.linalg.norm(Z[b].numpy().T - D.numpy() @ A[b].numpy().T) ** 2
        + lam * np.abs(A[b].numpy()).sum()
        for b in range(2)
    ]
    np.testing.assert_allclose(F.ista_objective(A, Z, D, lam=lam).numpy(), want)
    eta = 1 / torch.linalg.matrix_norm(D, 2) ** 2
    start = A.relu()
    moved = torch.relu(start - eta * (start @ D.mT - Z) @ D - eta * lam)
    assert (F.ista_objective(moved, Z, D, lam=lam) < F.ista_objective(start, Z, D, lam=lam)).all()


def test_token_snr_by_projectors():
    Q = torch.linalg.qr(U).Q
    got = F.token_snr(Z, U)
    for k in range(3):
        P = Q[k] @ Q[k].T
        signal, noise = (Z @ P).flatten(1).norm(dim=1), (Z - Z @ P).flatten(1).norm(dim=1)
        torch.testing.assert_close(got[:, k], signal / noise)
    inside = torch.randn(1, 5, 2, dtype=torch.float64, generator=G) @ U[0].T
    assert F.token_snr(inside, U)[0, 0] > 1e6


def test_of_a_model_each_measure_is_taken_where_it_says(crate):
    images = torch.randn(4, 3, 12, 12, generator=G)
    names = ["ista_objective_change", "token_snr"]
    result = wp.probe(crate, images, names, eps=EPS, progress=False)
    sites = ["mlp_in", "z_out"]
    with wp.record(crate, sites) as rec, torch.no_grad():
        crate.module(images)
    for layer in (1, 2, 3):
        B = crate.subspaces(layer).double()
        at = {site: rec[site, layer].double() for site in sites}
        norm = crate.layer(layer).norm.double()
        ista = crate.module.transformer.layers[layer - 1][1].fn
        with torch.no_grad():
            normed = norm(at["z_out"])
            before = F.ista_objective(at["mlp_in"], at["mlp_in"], ista.weight, lam=ista.lam)
            after = F.ista_objective(at["z_out"], at["mlp_in"], ista.weight, lam=ista.lam)
        norm.float()
        want = {
            "ista_objective_change": (after - before) / before,
            "token_snr": F.token_snr(normed, B).mean(dim=1),
        }
        for name, values in want.items():
            got = result.values(name)[:, layer - 1]
            np.testing.assert_allclose(got, values.numpy(), rtol=2e-4, atol=2e-5, err_msg=name)
    assert result.matrices["token_snr"].shape == (3, 2)
    assert result.matrices["token_snr"].mean(axis=1) == pytest.approx(
        result.curve("token_snr")["mean"].to_numpy()
    )


def lasso(A, Y, D, lam):
    """One sample in float64 NumPy, tokens as columns as the papers write them."""
    A, Y, D = (np.asarray(each, dtype=np.float64) for each in (A, Y, D))
    return 0.5 * np.linalg.norm(Y.T - D @ A.T) ** 2 + lam * np.abs(A).sum()


def crate_lm():
    """CRATE-LM, and the dictionary (d, h) of each layer."""
    arch = {"vocabulary": 23, "block_size": 8, "dim": 8, "depth": 2, "heads": 2, "atoms": 24}
    network = build("crate_gpt", arch | {"lam": 0.3, "eta": 0.05}, source="a test")
    blocks = network.transformer["h"]
    return network, torch.randint(23, (3, 8)), [b.ista.weight.detach().T for b in blocks]


def crate_alpha():
    arch = {"image_size": 8, "patch_size": 4, "classes": 2, "dim": 8, "depth": 2, "heads": 2}
    arch |= {"dim_head": 4, "lam": 0.3, "eta": 0.05}
    network = build("crate_alpha", arch, source="a test")
    dictionaries = [layer[1].fn.D.detach() for layer in network.transformer.layers]
    return network, torch.randn(3, 3, 8, 8), dictionaries


@pytest.mark.parametrize("make", [crate_lm, crate_alpha])
def test_an_overcomplete_code_is_judged_from_zero(make):
    network, inputs, dictionaries = make()
    model = wp.wrap(network)
    result = wp.probe(model, inputs, ["ista_objective_change"], progress=False)
    assert set(result.frame["site"]) == {"code"}
    with wp.record(model, ["mlp_in"]) as rec, torch.no_grad():
        network(inputs)
    for layer, D in enumerate(dictionaries, start=1):
        D = D.double().numpy()
        for i in range(3):
            Y = rec["mlp_in", layer][i].double().numpy()
            A = np.zeros((len(Y), D.shape[1]))
            for _ in range(2):  # the two proximal steps of the papers, written out
                A = np.maximum(A + 0.05 * (Y - A @ D.T) @ D - 0.05 * 0.3, 0)
            before = lasso(0 * A, Y, D, 0.3)
            assert before == pytest.approx(0.5 * (Y**2).sum())
            want = (lasso(A, Y, D, 0.3) - before) / before
            got = result.values("ista_objective_change")[i, layer - 1]
            assert got == pytest.approx(want, rel=1e-5)
            assert got < 0
    sites = {"ista_objective_change": "z_out"}
    with pytest.raises(wp.ProbeError, match="need .d, h. = .8, 8..*at its own site, 'code'"):
        wp.probe(model, inputs, ["ista_objective_change"], sites=sites, progress=False)


def crate_mae(**changes):
    torch.manual_seed(0)
    arch = {"image_size": 12, "patch_size": 4, "dim": 16, "depth": 2, "decoder_depth": 3}
    arch |= {"heads": 2, "dim_head": 8, "lam": 0.5}
    return wp.wrap(build("crate_mae", arch | changes, source="a test"), name="mae")


def test_a_measure_that_some_layers_lack_is_taken_of_the_others(tmp_path):
    mae, images = crate_mae(), torch.randn(6, 3, 12, 12)
    names = ["l0", "ista_objective_change", "rank_me"]
    result = wp.probe(mae, images, names, batch_size=4, progress=False)
    curve = result.curve("ista_objective_change")
    assert curve["layer"].tolist() == [1, 2]
    assert result.curve("l0")["layer"].tolist() == result.curve("rank_me")["layer"].tolist()
    assert len(result.curve("l0")) == 5
    with wp.record(mae, ["mlp_in", "z_out"]) as rec, torch.no_grad():
        mae.module(images)
    for layer in (1, 2):
        D = mae.module.blocks[layer - 1].layers[0][1].fn.weight.detach()
        at = [rec[site, layer][4] for site in ("mlp_in", "z_out")]
        before, after = (lasso(A, at[0], D, 0.5) for A in at)
        got = result.values("ista_objective_change")[4, layer - 1]
        assert got == pytest.approx((after - before) / before, rel=1e-5)
    again = wp.Result.load(result.save(tmp_path))
    assert again.samples.equals(result.samples)
    assert len(result.samples.columns) == 5 + 2


def test_two_models_are_compared_only_where_both_have_a_measure(crate):
    images = torch.randn(6, 3, 12, 12)
    names = ["l0", "ista_objective_change"]
    deep = crate_mae(depth=4, decoder_depth=2)
    results = [wp.probe(m, images, names, progress=False) for m in (crate, deep)]
    found = wp.compare(results).differences
    steps = found[found["metric"] == "ista_objective_change"]
    assert steps["relative_depth"].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert found[found["metric"] == "l0"]["layer"].tolist() == [1, 2, 3]
    values = results[1].values("ista_objective_change")[:, [1, 3]]
    want = (values - results[0].values("ista_objective_change")[:, :2]).mean(axis=0)
    np.testing.assert_allclose(steps["difference"], want)


def test_a_vit_has_no_ista_step(vit):
    with pytest.raises(wp.ProbeError, match="not a proximal one"):
        wp.probe(vit, torch.randn(2, 3, 12, 12), ["ista_objective_change"], progress=False)
