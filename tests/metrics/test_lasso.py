"""The LASSO of the proximal steps: objectives by hand, optima known and found by another tool."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso

import whitebox_probe as wp
from whitebox_probe.metrics import functional as F
from whitebox_probe.metrics.lasso import TOLERANCE, squared_norm
from whitebox_probe.models.registry import build

G = torch.Generator().manual_seed(3)
Y = torch.randn(2, 7, 6, dtype=torch.float64, generator=G)


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=G)


def test_the_objective_by_columns_and_one_proximal_step_lowers_it():
    D, A, lam = drawn(6, 6), drawn(2, 7, 6), 0.3
    want = [lasso(A[b], Y[b], D, lam) for b in range(2)]
    np.testing.assert_allclose(F.lasso_objective(A, Y, D, lam=lam).numpy(), want)
    eta, start = 1 / squared_norm(D), Y.relu()
    moved = torch.relu(start - eta * (start @ D.mT - Y) @ D - eta * lam)
    assert (F.lasso_objective(moved, Y, D, lam=lam) < F.lasso_objective(start, Y, D, lam=lam)).all()


def test_the_optimum_of_the_identity_and_of_a_rotation_is_known():
    lam = 0.3
    A, gap = F.lasso_optimum(Y, torch.eye(6, dtype=torch.float64), lam=lam, tolerance=1e-8)
    torch.testing.assert_close(A, torch.relu(Y - lam), atol=1e-6, rtol=0)
    assert (gap < 1e-6).all()
    Q = torch.linalg.qr(drawn(6, 6)).Q
    A, _ = F.lasso_optimum(Y, Q, lam=lam, tolerance=1e-8)
    torch.testing.assert_close(A, torch.relu(Y @ Q - lam), atol=1e-6, rtol=0)
    assert (F.lasso_kkt(A, Y, Q, lam=lam) < 1e-6).all()
    assert F.lasso_kkt(0 * A, Y, Q, lam=lam).numpy() == pytest.approx(1)


@pytest.mark.parametrize("atoms", [6, 20])
def test_the_optimum_is_scikit_learns(atoms):
    D, lam = drawn(6, atoms), 0.4
    A, gap = F.lasso_optimum(Y, D, lam=lam, tolerance=1e-7, steps=20_000)
    got = F.lasso_objective(A, Y, D, lam=lam).numpy()
    for b in range(2):
        codes = []
        for token in Y[b].numpy():
            # scikit-learn divides the squares by their number.
            model = Lasso(lam / 6, positive=True, fit_intercept=False, tol=1e-10, max_iter=100_000)
            codes.append(model.fit(D.numpy(), token).coef_)
        want = lasso(np.array(codes), Y[b], D, lam)
        assert got[b] == pytest.approx(want, rel=1e-6)
        assert got[b] - want <= gap[b] + 1e-9
    assert (A >= 0).all()


def test_the_gap_bounds_what_is_left_at_any_step():
    D, lam = drawn(6, 20), 0.4
    best, _ = F.lasso_optimum(Y, D, lam=lam, tolerance=1e-9, steps=50_000)
    least = F.lasso_objective(best, Y, D, lam=lam)
    for steps in (1, 5, 20, 100):
        A, gap = F.lasso_optimum(Y, D, lam=lam, tolerance=0.0, steps=steps)
        left = F.lasso_objective(A, Y, D, lam=lam) - least
        assert (left <= gap + 1e-9).all()


def test_an_optimum_and_a_bare_relu_close_all_and_nothing_of_the_gap(tmp_path):
    Z, lam = drawn(5, 9, 6), 0.2
    Q = torch.linalg.qr(drawn(6, 6)).Q

    def measured(step, D):
        model = wp.wrap(
            Net(step), sites=SITES, dim=6, operators={"D": lambda *_: D, "lam": lam, "eta": 0.5}
        )
        names = ["lasso_gap_closed", "lasso_change", "lasso_kkt", "lasso_step", "lasso_vs_zero"]
        names += ["lasso_reconstruction", "dictionary_coherence", "dictionary_condition"]
        result = wp.probe(model, Z, names, progress=False)
        return {name: result.values(name)[:, 0] for name in names}

    whole = measured(lambda X: torch.relu(X @ Q - lam), Q)
    np.testing.assert_allclose(whole["lasso_gap_closed"], 1, atol=TOLERANCE)
    np.testing.assert_allclose(whole["lasso_kkt"], 0, atol=1e-6)
    np.testing.assert_allclose(whole["lasso_step"], 0.5)
    np.testing.assert_allclose(whole["dictionary_coherence"], 0, atol=1e-6)
    np.testing.assert_allclose(whole["dictionary_condition"], 1)
    bare = measured(torch.relu, Q)
    np.testing.assert_allclose(bare["lasso_gap_closed"], 0, atol=1e-9)
    np.testing.assert_allclose(bare["lasso_change"], 0, atol=1e-12)
    step = measured(lambda X: torch.relu(X.relu() - 0.5 * (X.relu() @ Q.mT - X) @ Q - 0.1), Q)
    assert (step["lasso_gap_closed"] > 0.1).all()
    assert (step["lasso_gap_closed"] < 1).all()
    A = torch.relu(Z.relu() - 0.5 * (Z.relu() @ Q.mT - Z) @ Q - 0.1)
    for i in range(5):
        after, zero = lasso(A[i], Z[i], Q, lam), 0.5 * float(Z[i].square().sum())
        assert step["lasso_vs_zero"][i] == pytest.approx(after / zero)
        left = float((Z[i] - A[i] @ Q.mT).square().sum())
        assert step["lasso_reconstruction"][i] == pytest.approx(left / (2 * zero))
    # A step beyond the limit overshoots.
    eye = torch.eye(6, dtype=torch.float64)
    long = measured(lambda X: torch.relu(X.relu() - 3 * (X.relu() - X) - 3 * lam), eye)
    assert (long["lasso_gap_closed"] < 0).all()


def test_the_shipped_crates_step_descends_from_a_feasible_start_and_ends_above_no_code_at_all():
    names = ["lasso_change", "lasso_vs_zero", "lasso_step"]
    for model, change, over in (
        ("crate-tiny-fmnist", -0.176, 1.31),
        ("crate-tiny-fmnist-init", -0.32, 1.75),
    ):
        result = wp.probe(wp.load(model), "fashion-mnist", names, limit=40, progress=False)
        assert result.values("lasso_change").mean() == pytest.approx(change, abs=0.01)
        assert (result.values("lasso_change") < 0).all()
        assert result.values("lasso_vs_zero").mean() == pytest.approx(over, abs=0.03)
        assert result.values("lasso_step").max() < 2


SITES = {"mlp_in": "layers.{layer}.norm:output", "z_out": "layers.{layer}:output"}


class Step(torch.nn.Module):
    def __init__(self, step):
        super().__init__()
        self.norm, self.step = torch.nn.Identity(), step
        self.none = torch.nn.Parameter(torch.zeros(1))

    def forward(self, Z):
        return self.step(self.norm(Z))


class Net(torch.nn.Module):
    def __init__(self, step):
        super().__init__()
        self.layers = torch.nn.ModuleList([Step(step)])

    def forward(self, Z):
        return self.layers[0](Z)


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
    result = wp.probe(model, inputs, ["lasso_change"], progress=False)
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
            got = result.values("lasso_change")[i, layer - 1]
            assert got == pytest.approx(want, rel=1e-5)
            assert got < 0
    sites = {"lasso_change": "z_out"}
    with pytest.raises(wp.ProbeError, match="need .d, h. = .8, 8..*at its own site, 'code'"):
        wp.probe(model, inputs, ["lasso_change"], sites=sites, progress=False)


def crate_mae(**changes):
    torch.manual_seed(0)
    arch = {"image_size": 12, "patch_size": 4, "dim": 16, "depth": 2, "decoder_depth": 3}
    arch |= {"heads": 2, "dim_head": 8, "lam": 0.5}
    return wp.wrap(build("crate_mae", arch | changes, source="a test"), name="mae")


def test_a_measure_that_some_layers_lack_is_taken_of_the_others(tmp_path):
    mae, images = crate_mae(), torch.randn(6, 3, 12, 12)
    names = ["l0", "lasso_change", "rank_me"]
    result = wp.probe(mae, images, names, batch_size=4, progress=False)
    curve = result.curve("lasso_change")
    assert curve["layer"].tolist() == [1, 2]
    assert result.curve("l0")["layer"].tolist() == result.curve("rank_me")["layer"].tolist()
    assert len(result.curve("l0")) == 5
    with wp.record(mae, ["mlp_in", "z_out"]) as rec, torch.no_grad():
        mae.module(images)
    for layer in (1, 2):
        D = mae.module.blocks[layer - 1].layers[0][1].fn.weight.detach()
        at = [rec[site, layer][4] for site in ("mlp_in", "z_out")]
        before, after = (lasso(A, at[0], D, 0.5) for A in (at[0].relu(), at[1]))
        got = result.values("lasso_change")[4, layer - 1]
        assert got == pytest.approx((after - before) / before, rel=1e-5)
    again = wp.Result.load(result.save(tmp_path))
    assert again.samples.equals(result.samples)
    assert len(result.samples.columns) == 5 + 2


def test_two_models_are_compared_only_where_both_have_a_measure(crate):
    images = torch.randn(6, 3, 12, 12)
    names = ["l0", "lasso_change"]
    deep = crate_mae(depth=4, decoder_depth=2)
    results = [wp.probe(m, images, names, progress=False) for m in (crate, deep)]
    found = wp.compare(results).differences
    steps = found[found["metric"] == "lasso_change"]
    assert steps["relative_depth"].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert found[found["metric"] == "l0"]["layer"].tolist() == [1, 2, 3]
    values = results[1].values("lasso_change")[:, [1, 3]]
    want = (values - results[0].values("lasso_change")[:, :2]).mean(axis=0)
    np.testing.assert_allclose(steps["difference"], want)


def test_a_vit_has_no_ista_step(vit):
    with pytest.raises(wp.ProbeError, match="not a proximal one"):
        wp.probe(vit, torch.randn(2, 3, 12, 12), ["lasso_change"], progress=False)
