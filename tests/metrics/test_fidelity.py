"""Fidelity measures: the closed-form gradient against autograd, and steps that must succeed."""

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


def slow_compression(Z, U, eps):
    """R^c by an explicit determinant, differentiable, one head at a time."""
    n, p = Z.shape[1], U.shape[2]
    total = 0.0
    for k in range(len(U)):
        V = Z @ U[k]
        A = torch.eye(n, dtype=Z.dtype) + p / (n * eps**2) * V @ V.mT
        total = total + 0.5 * torch.linalg.eigvalsh(A).log().sum(-1)
    return total


@pytest.mark.parametrize("eps", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_the_gradient_is_autograds(eps, n):
    tokens = torch.randn(2, n, 6, dtype=torch.float64, generator=G).requires_grad_()
    slow_compression(tokens, U, eps).sum().backward()
    got = F.compression_gradient(tokens.detach(), U, eps=eps)
    torch.testing.assert_close(got, tokens.grad, rtol=1e-8, atol=1e-10)


def test_a_step_along_minus_the_gradient_has_cosine_one_and_achieves_it():
    down = -1e-6 * F.compression_gradient(Z, U, eps=EPS)
    assert F.descent_cosine(Z, down, U, eps=EPS).numpy() == pytest.approx(1.0)
    assert F.descent_achieved(Z, down, U, eps=EPS).numpy() == pytest.approx(1.0, rel=1e-3)
    assert F.descent_cosine(Z, -down, U, eps=EPS).numpy() == pytest.approx(-1.0)
    assert F.descent_achieved(Z, -down, U, eps=EPS).numpy() == pytest.approx(-1.0, rel=1e-3)
    assert F.descent_cosine(Z, torch.zeros_like(Z), U, eps=EPS).tolist() == [0.0, 0.0]


def test_achieved_is_the_actual_change_over_the_steepest_one():
    step = torch.randn(2, 7, 6, dtype=torch.float64, generator=G)
    gradient = F.compression_gradient(Z, U, eps=EPS)
    fall = slow_compression(Z, U, EPS) - slow_compression(Z + step, U, EPS)
    want = fall / (gradient.flatten(1).norm(dim=1) * step.flatten(1).norm(dim=1))
    torch.testing.assert_close(F.descent_achieved(Z, step, U, eps=EPS), want)


def test_mssa_with_u_by_a_loop():
    want = torch.zeros_like(Z)
    for b in range(2):
        for k in range(3):
            V = Z[b] @ U[k]
            A = np.exp((V @ V.T / np.sqrt(2)).numpy())
            A = torch.from_numpy(A / A.sum(1, keepdims=True))
            want[b] += A @ V @ U[k].T
    torch.testing.assert_close(F.mssa_with_u(Z, U), want)


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
    names = ["descent_cosine", "descent_achieved", "descent_cosine_u", "attention_rate_change"]
    names += ["attention_rate_change_no_skip", "ista_objective_change", "token_snr"]
    result = wp.probe(crate, images, names, eps=EPS, progress=False)
    sites = ["z_in", "attn_in", "attn_out", "z_half", "mlp_in", "z_out"]
    with wp.record(crate, sites) as rec, torch.no_grad():
        crate.module(images)
    for layer in (1, 2, 3):
        B = crate.subspaces(layer).double()
        at = {site: rec[site, layer].double() for site in sites}
        norm = crate.layer(layer).norm.double()
        ista = crate.module.transformer.layers[layer - 1][1].fn
        with torch.no_grad():
            ln = {site: norm(at[site]) for site in ("z_in", "z_half", "attn_out", "z_out")}
            before = F.ista_objective(at["mlp_in"], at["mlp_in"], ista.weight, lam=ista.lam)
            after = F.ista_objective(at["z_out"], at["mlp_in"], ista.weight, lam=ista.lam)
        norm.float()
        start = slow_compression(ln["z_in"], B, EPS)
        with_u = F.mssa_with_u(at["attn_in"], B)
        want = {
            "descent_cosine": F.descent_cosine(at["attn_in"], at["attn_out"], B, eps=EPS),
            "descent_achieved": F.descent_achieved(at["attn_in"], at["attn_out"], B, eps=EPS),
            "descent_cosine_u": F.descent_cosine(at["attn_in"], with_u, B, eps=EPS),
            "attention_rate_change": slow_compression(ln["z_half"], B, EPS) - start,
            "attention_rate_change_no_skip": slow_compression(ln["attn_out"], B, EPS) - start,
            "ista_objective_change": (after - before) / before,
            "token_snr": F.token_snr(ln["z_out"], B).mean(dim=1),
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


def test_tokens_that_are_not_finite_are_refused_by_the_function_and_dropped_by_the_probe(crate):
    step = torch.ones_like(Z)
    step[1, 0, 0] = torch.nan
    with pytest.raises(wp.ProbeError, match="sample 1"):
        F.descent_achieved(Z, step, U, eps=EPS)

    def poison(module, args, out):
        out = out.clone()
        out[2] = torch.nan
        return out

    handle = crate.module.transformer.layers[1][0].norm.register_forward_hook(poison)
    images = torch.randn(4, 3, 12, 12, generator=G)
    names = ["descent_achieved", "descent_cosine"]
    result = wp.probe(crate, images, names, nonfinite="drop", progress=False)
    handle.remove()
    assert [place["sample"] for place in result.run["nonfinite"]["first"]] == [2]
    assert len(result.samples) == 3
