"""Reference networks: that the truth of each holds, by formulas written anew in NumPy."""

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import whitebox_probe as wp
from whitebox_probe.auditing.claim import claims
from whitebox_probe.auditing.verdicts import CONTRADICTED, NOT_SUPPORTED, SUPPORTED

NETWORKS = wp.reference.networks()
SEEDS = range(3)
LAYERS = range(1, 11)
A = 8 / (32 * 0.1**2)  # p / (n eps^2)
ATTENTION = ("compresses", "attention_aligned", "attention_descends")


def having(claim, *verdicts):
    return [n for n, each in NETWORKS.items() if each.expected.get(claim) in verdicts]


@cache
def recorded(name, seed):
    """Site and layer -> tokens in float64; U, LayerNorm or nothing, the module."""
    known = NETWORKS[name]
    model = known.build(seed)
    with wp.record(model, model.sites) as recording, torch.inference_mode():
        model.module(known.data(seed, 24))
    sites = {key: recording[key].double().numpy() for key in recording.keys()}  # noqa: SIM118
    U = {layer: model.subspaces(layer).double().numpy() for layer in LAYERS}
    normed = model.layer(1).norm is not None
    return sites, U, layer_norm if normed else (lambda Z: Z), model.module


def layer_norm(Z):
    centred = Z - Z.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)


def rate(V):
    eye = np.eye(V.shape[-1])
    return np.linalg.slogdet(eye + A * V.swapaxes(-1, -2) @ V)[1].sum(axis=-1) / 2


def compression(Z, U):
    return rate(Z[:, None] @ U)


def official(Z, U):
    V = Z[:, None] @ U
    return rate(V / np.linalg.norm(V, axis=-1, keepdims=True))


def gradient(X, U):
    """Of `compression`: a sum_k X U_k (I + a V_k^T V_k)^-1 U_k^T."""
    V = X[:, None] @ U
    inner = np.linalg.inv(np.eye(V.shape[-1]) + A * V.swapaxes(-1, -2) @ V)
    return A * (V @ inner @ U.swapaxes(-1, -2)).sum(axis=1)


def through_norm(gradient, Z):
    """The Jacobian of `layer_norm`, token by token, as a matrix."""
    d = Z.shape[-1]
    centre = np.eye(d) - 1 / d
    x = layer_norm(Z)
    size = np.sqrt(((Z @ centre) ** 2).mean(axis=-1) + 1e-5)
    J = (centre - x[..., :, None] * x[..., None, :] / d) / size[..., None, None]
    return (J.swapaxes(-1, -2) @ gradient[..., None])[..., 0]


def cosine(a, b):
    sizes = np.sqrt((a**2).sum(axis=(1, 2)) * (b**2).sum(axis=(1, 2)))
    return (a * b).sum(axis=(1, 2)) / np.where(sizes > 0, sizes, 1)


def what_attention_does(name, seed):
    """Layers by samples: cosine with -grad f, change of f, change in the official convention; f."""
    sites, bases, norm, _ = recorded(name, seed)
    cosines, changes, officials, before = [], [], [], []
    for layer in LAYERS:
        Z, D, U = sites["z_in", layer], sites["attn_out", layer], bases[layer]
        down = -gradient(norm(Z), U)
        cosines.append(cosine(D, through_norm(down, Z) if norm is layer_norm else down))
        before.append(compression(norm(Z), U))
        changes.append(compression(norm(Z + D), U) - before[-1])
        officials.append(official(norm(Z + D), U) - official(norm(Z), U))
    return map(np.array, (cosines, changes, officials, before))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", having("attention_descends", SUPPORTED))
def test_descent_lowers_the_compression_in_every_layer(name, seed):
    cosines, changes, officials, before = what_attention_does(name, seed)
    assert cosines.min() > 0.1
    assert cosines.mean() > 0.3
    assert changes.mean(axis=1).max() < -0.4
    assert np.mean(changes < 0) > 0.99  # of single samples too
    assert officials.mean(axis=1).max() < -0.25
    assert changes.sum(axis=0).mean() < -0.1 * before[0].mean()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", having("attention_descends", CONTRADICTED))
def test_ascent_raises_it(name, seed):
    cosines, changes, officials, before = what_attention_does(name, seed)
    assert cosines.max() < -0.8
    assert changes.min() > 0.4
    assert officials.mean(axis=1).min() > 0.25
    assert changes.sum(axis=0).mean() > 0.15 * before[0].mean()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("at", ["", "-layernorm", "-residual"])
def test_the_update_is_the_gradient_times_a_constant(at, seed):
    for name, sign in (("descent", -1), ("ascent", 1)):
        sites, bases, norm, _ = recorded(name + at, seed)
        for layer in LAYERS:
            Z = sites["z_in", layer]
            want = gradient(norm(Z), bases[layer])
            if at == "-residual":
                want = through_norm(want, Z)
            kappa = {"": 0.03, "-layernorm": 0.05, "-residual": 0.02}[at]
            got = sites["attn_out", layer]
            np.testing.assert_allclose(got, sign * kappa * want, atol=3e-5 * np.abs(got).max())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["other-image", "random-updates", "rotated"])
def test_an_update_that_is_not_the_samples_own_does_nothing_of_the_first_order(name, seed):
    cosines, changes, officials, before = what_attention_does(name, seed)
    true = {"rotated": "descent"}.get(name, "descent-layernorm")
    assert np.abs(cosines.mean()) < 0.01
    assert np.abs(cosines.mean(axis=1)).max() < 0.03
    lowered = -np.array(list(what_attention_does(true, seed))[1]).mean()
    assert np.abs(changes.mean()) < 0.03 * lowered
    assert np.abs(officials.mean(axis=1)).max() < 0.05
    assert np.abs(changes.sum(axis=0).mean()) < 0.003 * before[0].mean()


@pytest.mark.parametrize("seed", SEEDS)
def test_random_and_rotated_updates_have_the_norms_of_true_ones(seed):
    for name, kappa in (("random-updates", 0.05), ("rotated", 0.03)):
        sites, bases, norm, _ = recorded(name, seed)
        for layer in LAYERS:
            true = kappa * gradient(norm(sites["z_in", layer]), bases[layer])
            got = sites["attn_out", layer]
            sizes = np.linalg.norm(true, axis=-1)
            np.testing.assert_allclose(np.linalg.norm(got, axis=-1), sizes, rtol=1e-3)
            if name == "rotated":  # a quarter turn: orthogonal at every token
                assert np.abs((got * true).sum(axis=-1)).max() < 1e-5 * sizes.max() ** 2


@pytest.mark.parametrize("seed", SEEDS)
def test_an_update_of_another_image_is_the_true_one_of_the_bank(seed):
    sites, _, _, module = recorded("other-image", seed)
    update = sites["attn_out", 1]
    bank = module.layers[0].attention.bank.double().numpy()
    assert all(min(np.abs(bank - each).max(axis=(1, 2))) == 0 for each in update)
    assert len({each.tobytes() for each in update}) > 5
    apart = [abs(cosine(a[None], b[None])[0]) for a, b in pairwise(bank)]
    assert max(apart) < 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bias_lowers_the_compression_most_of_all_and_looks_at_no_token(seed):
    sites, _, _, _ = recorded("bias", seed)
    for layer in LAYERS:
        update = sites["attn_out", layer]
        assert (update == sites["attn_out", 1][0, 0]).all()
    cosines, changes, _, before = what_attention_does("bias", seed)
    assert np.abs(cosines.mean()) < 0.03
    assert changes.max() < 0
    assert changes.sum(axis=0).mean() < -0.7 * before[0].mean()


@pytest.mark.parametrize("seed", SEEDS)
def test_frozen_tokens_are_compressed_by_the_subspaces_alone(seed):
    sites, bases, _, _ = recorded("frozen", seed)
    for layer in LAYERS:
        assert (sites["attn_out", layer] == 0).all()
        assert (sites["z_out", layer] == sites["z_in", 1]).all()
    for rule in (compression, official):
        curve = np.array([rule(sites["z_in", layer], bases[layer]) for layer in LAYERS])
        assert (np.diff(curve, axis=0) < 0).all()
        assert curve[-1].mean() < 0.8 * curve[0].mean()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("name", ["equation-12", "released"])
def test_the_step_as_derived_descends(name, causal, seed):
    name += "-causal" * causal
    assert NETWORKS[name].signs == {"descent_cosine_u": 1}
    sites, bases, norm, _ = recorded(name, seed)
    own = []
    for layer in LAYERS:
        Z, U = sites["z_in", layer], bases[layer]
        X = norm(Z)
        made = subspace_attention(X, U, causal=causal)
        assert cosine(made - X, -gradient(X, U)).mean() > 0.15
        update = sites["attn_out", layer]
        if name.startswith("equation"):
            np.testing.assert_allclose(update, 0.3 * (made - X), atol=1e-5)
        else:
            # The output map is a rotation: the norm of each token is that of MSSA.
            sizes = np.linalg.norm(made, axis=-1)
            np.testing.assert_allclose(np.linalg.norm(update, axis=-1), sizes, rtol=1e-4)
            own.append(cosine(update, through_norm(-gradient(X, U), Z)))
    assert not own or abs(np.mean(own)) < 0.03


def subspace_attention(X, U, *, causal):
    """Head by head, token by token."""
    n, p = X.shape[1], U.shape[-1]
    out = np.zeros_like(X)
    for Uk in U:
        V = X @ Uk
        for i in range(n):
            seen = V[:, : i + 1] if causal else V
            scores = (seen @ V[:, i, :, None])[..., 0] / np.sqrt(p)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            out[:, i] += (weights[:, None] @ seen)[:, 0] @ Uk.T
    return out


def lasso(code, Y, D, lam):
    return ((Y - code @ D.T) ** 2).sum(axis=(1, 2)) / 2 + lam * np.abs(code).sum(axis=(1, 2))


def change_of_the_lasso(name, seed):
    """Relative, layers by samples; and eta |D|^2 of each layer."""
    sites, _, _, module = recorded(name, seed)
    changes, lengths = [], []
    for layer in LAYERS:
        second = module.layers[layer - 1].second
        D, Y = second.dictionary.double().numpy(), sites["mlp_in", layer]
        code = sites["code" if ("code", layer) in sites else "z_out", layer]
        assert (code >= 0).all()
        complete = D.shape[0] == D.shape[1]
        start = np.maximum(Y, 0) if complete else np.zeros_like(code)
        for _ in range(0 if name == "bare-relu" else 1 if complete else 2):
            step = start - second.eta * ((start @ D.T - Y) @ D + second.lam)
            start = np.maximum(step, 0)
        np.testing.assert_allclose(code, start, atol=1e-4 * max(1, start.max()))
        before = lasso(np.maximum(Y, 0) if complete else 0 * code, Y, D, second.lam)
        changes.append(lasso(code, Y, D, second.lam) / before - 1)
        lengths.append(second.eta * np.linalg.norm(D, 2) ** 2)
    return np.array(changes), np.array(lengths)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", having("ista_descends", SUPPORTED))
def test_a_short_ista_step_lowers_its_objective(name, seed):
    changes, lengths = change_of_the_lasso(name, seed)
    length = 2.2 if "long" in name else 0.1 if "short" in name else 0.5
    np.testing.assert_allclose(lengths, length, rtol=1e-5)
    assert changes.max() < -0.04


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", having("ista_descends", CONTRADICTED))
def test_a_long_ista_step_raises_it(name, seed):
    changes, lengths = change_of_the_lasso(name, seed)
    np.testing.assert_allclose(lengths, 3.0, rtol=1e-5)
    assert changes.min() > 0.02
    assert changes.mean(axis=1).min() > 0.035


@pytest.mark.parametrize("seed", SEEDS)
def test_a_relu_alone_leaves_it(seed):
    changes, _ = change_of_the_lasso("bare-relu", seed)
    assert (changes == 0).all()
    sites = recorded("bare-relu", seed)[0]
    assert all((sites["mlp_in", layer] < 0).mean() > 0.2 for layer in LAYERS)


def overlap(U):
    """Mean over pairs of |Q_i^T Q_j|_F^2 / p."""
    Q = [np.linalg.qr(Uk)[0] for Uk in U]
    pairs = [Q[i].T @ Q[j] for i in range(len(Q)) for j in range(i)]
    return np.mean([(c**2).sum() / c.shape[0] for c in pairs])


@pytest.mark.parametrize("seed", SEEDS)
def test_the_overlap_of_the_bases_is_as_told(seed):
    chance = 8 / 32

    def overlaps(name):
        return np.array([overlap(U) for U in recorded(name, seed)[1].values()])

    for name in having("incoherent_subspaces", SUPPORTED):
        assert overlaps(name).max() < 1e-10, name
    np.testing.assert_allclose(overlaps("bases-identical"), 1, rtol=1e-5)
    np.testing.assert_allclose(overlaps("bases-above-chance"), 1.01 * chance, rtol=1e-4)
    random = overlaps("bases-random")
    assert abs(random.mean() / chance - 1) < 0.08  # four deviations of a mean over ten layers
    assert random.std() > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_the_number_of_entries_falls_rises_or_has_no_trend(seed):
    curves = {}
    for name in ("sparser", "denser", "no-trend"):
        counts = [(recorded(name, seed)[0]["z_out", layer] != 0).sum(axis=-1) for layer in LAYERS]
        assert all(each.min() == each.max() for each in counts)
        curves[name] = [each.min() for each in counts]
    assert curves["sparser"] == curves["denser"][::-1] == list(range(29, 1, -3))
    assert sorted(curves["no-trend"]) == curves["denser"]
    for part in (curves["no-trend"], curves["no-trend"][1:]):
        assert abs(spearmanr(part, range(len(part)))[0]) <= 0.1


def test_no_order_without_a_trend_is_that_of_another_seed():
    made = [
        tuple(layer.second.entries for layer in recorded("no-trend", s)[3].layers) for s in SEEDS
    ]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_the_same_for_the_same_seed_and_leave_the_callers_numbers_alone(name):
    known = NETWORKS[name]
    assert known.name == name
    before = torch.get_rng_state()
    data, model, again = known.data(1, 4), known.build(1), known.build(1)
    assert torch.equal(torch.get_rng_state(), before)
    assert data.shape == (4, 32, 32)
    assert torch.equal(model.module(data), again.module(data))
    assert not torch.equal(known.data(2, 4), data)
    # A sample's tokens do not depend on the batch that it is in.
    torch.testing.assert_close(model.module(data[2:3]), model.module(data)[2:3])
    assert model.layers == 10
    assert torch.isfinite(model.module(data)).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_steps_are_added_where_the_sites_say(name):
    sites, bases, norm, _ = recorded(name, 0)
    for layer in LAYERS:
        Z = sites["z_in", layer]
        np.testing.assert_allclose(sites["attn_in", layer], norm(Z), atol=1e-5)
        half = Z + sites["attn_out", layer]
        np.testing.assert_allclose(sites["z_half", layer], half, atol=1e-4)
        V = sites["attn_in", layer][:, None] @ bases[layer]
        np.testing.assert_allclose(sites["heads", layer], V, atol=1e-4)


def test_expectations_are_of_claims_and_every_claim_of_a_step_has_each_verdict():
    for each in NETWORKS.values():
        assert set(each.expected) <= set(claims())
        assert each.expected
    for claim in (*ATTENTION, "ista_descends", "sparsifies", "incoherent_subspaces"):
        for verdict in (SUPPORTED, NOT_SUPPORTED, CONTRADICTED):
            assert having(claim, verdict), (claim, verdict)


def test_what_the_steps_are_made_of_is_declared():
    model = NETWORKS["ista-overcomplete"].build(0)
    operators = model.layer(3).operators
    assert torch.equal(operators["D"], model.module.layers[2].second.dictionary)
    assert {"lam", "eta"} < set(operators)
    assert NETWORKS["released-causal"].build(0).layer(1).causal
    assert not NETWORKS["released"].build(0).layer(1).causal


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bias_by_place_is_the_same_for_every_sample_and_of_mean_zero(seed):
    sites, U, norm, _ = recorded("bias-by-place", seed)
    for layer in LAYERS:
        D = sites["attn_out", layer]
        assert np.abs(D - D[:1]).max() == 0
        assert np.abs(D.mean(axis=1)).max() < 1e-6
    fall = [compression(norm(sites["z_in", n]), U[n]).mean() for n in (1, 10)]
    assert fall[1] < 0.9 * fall[0]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_trace_of_the_gradient_lowers_the_compression_surely_and_by_nothing(seed):
    sites, U, norm, _ = recorded("bias-and-a-trace", seed)
    whole, trace = 0.0, 0.0
    for layer in LAYERS:
        Z, D = sites["z_in", layer], sites["attn_out", layer]
        bias = D.mean(axis=(0, 1))
        own = compression(norm(Z + D), U[layer]) - compression(norm(Z + bias), U[layer])
        assert (own < 0).all()
        trace += own.mean()
        whole += (compression(norm(Z + D), U[layer]) - compression(norm(Z), U[layer])).mean()
    assert abs(trace) < 0.02 * abs(whole)


@pytest.mark.parametrize("seed", SEEDS)
def test_halved_codes_lower_the_objective_of_any_dictionary(seed):
    sites, _, _, module = recorded("halved", seed)
    D = module.layers[0].second.dictionary.double().numpy()
    Y, A = sites["mlp_in", 1], sites["z_out", 1]
    assert np.abs(A - np.maximum(Y, 0) / 2).max() < 1e-6
    random = np.random.default_rng(seed)
    for other in (D, D[:, random.permutation(32)], np.linalg.qr(random.normal(size=(32, 32)))[0]):
        assert (lasso(A, Y, other, 0.1) < lasso(2 * A, Y, other, 0.1)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_too_long_for_one_atom_alone_lowers_its_objective(seed):
    sites, _, _, module = recorded("ista-one-long-atom", seed)
    second = module.layers[0].second
    D = second.dictionary.double().numpy()
    assert second.eta * np.linalg.norm(D, 2) ** 2 == pytest.approx(2.2)
    for layer in LAYERS:
        Y, A = sites["mlp_in", layer], sites["z_out", layer]
        assert (lasso(A, Y, D, 0.3) < lasso(np.maximum(Y, 0), Y, D, 0.3)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_one_direction_is_one_whatever_the_vectors_are(seed):
    for U in recorded("bases-one-direction", seed)[1].values():
        assert np.linalg.matrix_rank(np.concatenate(list(U), axis=1), tol=1e-5) == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "sign"), [("sorting", 1), ("mixing", -1)])
def test_the_objective_goes_one_way_in_every_layer(name, sign, seed):
    sites, U, _, _ = recorded(name, seed)
    eye, found = np.eye(32), []
    for layer in LAYERS:
        Z = sites["z_out", layer]
        whole = np.linalg.slogdet(eye + Z.swapaxes(-1, -2) @ Z * (32 / (32 * 0.1**2)))[1] / 2
        delta = whole - compression(Z, U[layer])
        found.append((delta - 0.1 * (np.abs(Z) > 0).sum(axis=(1, 2))).mean())
    assert (sign * np.diff(found) > 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_collapse_comes_back(seed):
    def whole(name, layer):
        Z = recorded(name, seed)[0]["z_in", layer]
        Z = Z / np.linalg.norm(Z, axis=-1, keepdims=True)
        return np.linalg.slogdet(np.eye(32) + Z.swapaxes(-1, -2) @ Z / 0.32)[1].mean() / 2

    assert whole("collapse", 10) < 0.5 * whole("collapse", 2)
    assert whole("collapse-at-the-end", 10) == pytest.approx(whole("keeps", 10), rel=1e-3)
    Z = recorded("collapse-at-the-end", seed)[0]["z_out", 10]
    Z = Z / np.linalg.norm(Z, axis=-1, keepdims=True)
    left = np.linalg.slogdet(np.eye(32) + Z.swapaxes(-1, -2) @ Z / 0.32)[1].mean() / 2
    assert left < 0.5 * whole("collapse-at-the-end", 10)
    assert whole("collapse-and-return", 6) < 0.5 * whole("collapse-and-return", 2)
    assert whole("collapse-and-return", 10) == pytest.approx(whole("keeps", 10), rel=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_averages_and_places_look_at_no_token_and_lower_the_compression(seed):
    sites, U, norm, _ = recorded("averages-and-places", seed)
    change = []
    for layer in LAYERS:
        Z, D = sites["z_in", layer], sites["attn_out", layer]
        shift = D.mean(axis=1, keepdims=True)
        place = (D - shift).mean(axis=0)
        assert np.abs(D - shift - place).max() < 1e-4 * np.abs(D).max()
        assert np.abs(shift - 0.7 * Z.mean(axis=1, keepdims=True)).max() < 1e-4 * np.abs(D).max()
        before, after = (compression(norm(at), U[layer]).mean() for at in (Z, Z + D))
        change.append(after / before - 1)
    assert np.mean(change) < -0.01


@pytest.mark.parametrize("seed", SEEDS)
def test_signs_by_chance_are_of_the_gradient_and_in_no_order(seed):
    sites, U, _, _ = recorded("signs-by-chance", seed)
    signs = []
    for layer in LAYERS:
        down, D = -gradient(sites["z_in", layer], U[layer]), sites["attn_out", layer]
        cosine = (down * D).sum() / np.linalg.norm(down) / np.linalg.norm(D)
        assert abs(cosine) == pytest.approx(1, abs=1e-4)
        signs.append(np.sign(cosine))
    assert sum(signs) == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_halving_closes_most_of_the_way_of_a_dictionary_that_is_mostly_its_axes(seed):
    sites, _, _, module = recorded("halved-diagonal", seed)
    D = module.layers[0].second.dictionary.double().numpy()
    assert (np.abs(np.diag(D)) > 0.8).all()
    for layer in LAYERS:
        Y, A = sites["mlp_in", layer], sites["z_out", layer]
        assert np.abs(A - np.maximum(Y, 0) / 2).max() < 1e-6
        assert (lasso(A, Y, D, 0.1) < 0.75 * lasso(2 * A, Y, D, 0.1)).all()
