"""Values that mutants of the measures showed untried: each against NumPy or a closed form."""

import math

import numpy as np
import oracle
import pytest
import scipy.stats
import torch
from sklearn.linear_model import Lasso

from tests.metrics.drawing import bases
from whitebox_probe._core.errors import ProbeError, ShapeError
from whitebox_probe._core.hashing import seed_of
from whitebox_probe.metrics import _linalg, _slope
from whitebox_probe.metrics import functional as F
from whitebox_probe.metrics._arguments import layer_of
from whitebox_probe.metrics._classes import counts_of, lacking
from whitebox_probe.metrics.catalogue import catalogue, measure_named
from whitebox_probe.metrics.measure import _lacking as without_value
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.token_coherence import (
    expected_overlap,
    leading_subspaces,
    mean_overlap,
)
from whitebox_probe.metrics.tokens import HEADS, LayerTokens


def drawn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class TestVariationalCompression:
    @pytest.mark.parametrize("eps", [0.1, 0.5, 3.0])
    def test_it_is_numpys_term_by_term(self, eps):
        W, Pi = drawn(2, 3, 5, 4), drawn(2, 3, 5, seed=1).softmax(dim=1)
        K, n, p = W.shape[1:]
        for sample, (w, pi) in enumerate(zip(W.numpy(), Pi.numpy(), strict=True)):
            want = 0.0
            for k in range(K):
                count = pi[k].sum()
                for i in range(p):
                    mean = sum(pi[k, j] * w[k, j, i] ** 2 for j in range(n)) / count
                    want += count / n * math.log(1 + K * p / eps**2 * mean) / 2
            assert F.variational_compression(W, Pi, eps=eps)[sample].item() == pytest.approx(want)
        kind = measure_named("variational_compression")(eps=eps)
        layer = LayerTokens({HEADS: W, "memberships": Pi}, None)
        found = kind.measure(layer, HEADS)
        np.testing.assert_allclose(found, F.variational_compression(W, Pi, eps=eps))

    def test_a_head_without_tokens_adds_nothing(self):
        W, Pi = drawn(1, 2, 5, 4), torch.ones(1, 2, 5)
        Pi[:, 1] = 0
        # The whole width stays that of both heads.
        energy = W[0, 0].square().mean(dim=0)
        want = (1 + 8 / 0.25 * energy).log().sum() / 2
        assert F.variational_compression(W, Pi, eps=0.5).item() == pytest.approx(want.item())
        with pytest.raises(ShapeError, match="memberships have shape"):
            F.variational_compression(W, Pi[:, :, :4], eps=0.5)


class TestSlope:
    """Z (I + scale Z^T Z)^-1, by singular values."""

    @pytest.mark.parametrize(("n", "d"), [(6, 4), (4, 6), (5, 5)])
    @pytest.mark.parametrize("sizes", [(2.0, 1.0, 0.5), (1e9, 1.0, 0.5), (1e10, 30.0, 1.0)])
    def test_it_is_that_of_the_singular_values_however_far_they_are_apart(self, n, d, sizes):
        left = np.linalg.qr(drawn(n, 3).numpy())[0]
        right = np.linalg.qr(drawn(d, 3, seed=1).numpy())[0]
        Z = torch.from_numpy((left * np.array(sizes)) @ right.T)[None]
        scale = 0.7
        rest = np.array([s / (1 + scale * s**2) for s in sizes])
        want = (left * rest) @ right.T
        found = _slope.slope(Z, _linalg.gram(Z), scale, torch.tensor([1e-9]))
        # Beside one that is 1e10 as large a direction is known to 2e-6 of itself.
        np.testing.assert_allclose(found[0], want, atol=1e-5 * abs(want).max())

    def test_directions_that_are_rounding_have_no_slope(self):
        left = np.linalg.qr(drawn(6, 3).numpy())[0]
        right = np.linalg.qr(drawn(4, 3, seed=1).numpy())[0]
        sizes = np.array([1e9, 1.0, 1e-3])
        Z = torch.from_numpy((left * sizes) @ right.T)[None]
        found = _slope.slope(Z, _linalg.gram(Z), 1.0, torch.tensor([1e-2]))[0].numpy()
        along = left.T @ found @ right
        np.testing.assert_allclose(np.diag(along), [1e-9, 0.5, 0.0], atol=1e-7)


class TestRounding:
    def test_of_a_product_it_is_eps_by_the_root_of_the_width(self):
        eps, half = torch.finfo(torch.float32).eps, torch.finfo(torch.float16).eps
        assert _linalg.rounding(torch.ones(2, 9)) == pytest.approx(3 * eps)
        assert _linalg.rounding(drawn(2, 9)) == pytest.approx(3 * torch.finfo(torch.float64).eps)
        assert _linalg.rounding(torch.ones(2, 9), width=16) == pytest.approx(4 * eps)
        assert _linalg.rounding(torch.ones(2, 9), within=4) == pytest.approx(3 * eps)
        small = torch.ones(2, 9, dtype=torch.float16)
        assert _linalg.rounding(small) == pytest.approx(3 * eps)
        assert _linalg.rounding(small, width=16, within=4) == pytest.approx(4 * eps + half / 2)

    def test_a_token_is_rounding_beside_the_largest_of_its_own_sample(self):
        Z = drawn(3, 4, 9)
        Z[0, 1] *= 1e6
        Z[1] *= 1e-6
        floor = _linalg.token_floor(Z)
        want = 3 * 2.0**-52 * np.linalg.norm(Z.numpy(), axis=-1).max(axis=1)
        assert floor.shape == (3, 1)
        np.testing.assert_allclose(floor[:, 0], want)
        heads = _linalg.token_floor(Z[:, None].repeat(1, 2, 1, 1))
        assert heads.shape == (3, 1, 1)
        Z[2, 0, 0] = torch.inf
        assert _linalg.token_floor(Z)[2].isnan().all()
        assert _linalg.token_floor(torch.zeros(2, 0, 9)).tolist() == [[0.0], [0.0]]

    @pytest.mark.parametrize("m", [5, 31, 32, 127, 128, 130])
    def test_a_gram_matrix_is_the_smaller_product_in_blocks_or_whole(self, m):
        for shape in ((2, m, 140), (2, 140, m)):
            Z = drawn(*shape)
            X = Z if shape[1] == m else Z.mT
            np.testing.assert_allclose(_linalg.gram(Z), X @ X.mT, atol=1e-11)


class TestAttentionMaps:
    def test_rows_that_are_left_out_have_no_entropy_and_do_not_count(self):
        A = drawn(2, 3, 5, 5).softmax(dim=-1)
        A[0, :, 1] = 0
        found = F.attention_entropy(A)
        for sample, rows in ((0, [0, 2, 3, 4]), (1, [0, 1, 2, 3, 4])):
            for head in range(3):
                want = oracle.attention_entropy(A[sample, head][rows])
                assert found[sample, head].item() == pytest.approx(want)
        A[0, 1] = 0
        with pytest.raises(ProbeError, match="no row of attention"):
            F.attention_entropy(A)

    def test_distances_are_of_patches_alone_and_rows_that_are_left_out_do_not_count(self):
        A = drawn(2, 1, 7, 7).softmax(dim=-1)
        A[0, 0, 3] = 0
        found = F.attention_distance(A, prefix=1, grid=(2, 3))
        places = [(row, column) for row in range(2) for column in range(3)]
        for sample in range(2):
            far = []
            for i in range(6):
                row = A[sample, 0, 1 + i, 1:].numpy()
                if row.sum():
                    away = [math.dist(places[i], other) for other in places]
                    far.append(row @ away / row.sum())
            assert found[sample, 0].item() == pytest.approx(np.mean(far))


def test_classes_of_no_sample_are_none():
    sums = Sums()
    assert counts_of(sums).tolist() == []
    assert lacking(sums) == "no sample has a class"
    sums.total("count_0", torch.tensor(3.0))
    assert lacking(sums) == "there is one class"


def test_rates_of_bases_of_one_head_are_the_rate_of_the_whole():
    Z, U = drawn(2, 6, 4), bases(1, 4, 4)
    Q = np.linalg.qr(U.numpy())[0]
    found = F.compression(Z, torch.from_numpy(Q), eps=0.3)
    want = [oracle.coding_rate(each, 0.3) for each in Z]
    assert found.tolist() == pytest.approx(want)


EPS, LAM, ETA = 0.3, 0.2, 0.05
Z = drawn(3, 6, 5)
Z[:, :2, 1:3] = 0.0
U = bases(2, 5, 2)
D = drawn(3, 6, 5, seed=4)
MEAN = drawn(6, 5, seed=5)
ATOMS = drawn(5, 5, seed=6)


def unit(tokens):
    return tokens / np.linalg.norm(tokens, axis=-1, keepdims=True)


def official(tokens):
    return oracle.official_compression([tokens @ Uk for Uk in U.numpy()], EPS**2)


def gradient(tokens):
    """Of R^c: scale V (I + scale V^T V)^-1 U^T, V = Z U_k, head by head."""
    n, p = len(tokens), U.shape[2]
    scale, total = p / (n * EPS**2), 0.0
    for Uk in U.numpy():
        V = tokens @ Uk
        total = total + scale * V @ np.linalg.inv(np.eye(p) + scale * V.T @ V) @ Uk.T
    return total


def along(part, tokens, whole):
    down = -gradient(tokens)
    return (part * down).sum() / np.linalg.norm(down) / np.linalg.norm(whole)


def shift(update):
    return np.broadcast_to(update.mean(axis=0), update.shape)


def radial(tokens, update):
    """Of what is left without the common shift, the part along each token."""
    rest = update - shift(update)
    return tokens * ((rest * tokens).sum(axis=1) / (tokens**2).sum(axis=1))[:, None]


def change(tokens, update):
    before, after = (oracle.compression(each, U, EPS) for each in (tokens, tokens + update))
    return after - before


def snr(tokens, clusters):
    ratios = []
    for k, Uk in enumerate(U.numpy()):
        mine, Q = tokens[clusters == k], np.linalg.qr(Uk)[0]
        if len(mine):
            inside = mine @ Q @ Q.T
            ratios.append(np.linalg.norm(inside) / np.linalg.norm(mine - inside))
    return np.array(ratios)


def nearest(tokens):
    held = [np.linalg.norm(tokens @ np.linalg.qr(Uk)[0], axis=1) for Uk in U.numpy()]
    return np.argmax(held, axis=0)


def entropy_of_clusters(tokens):
    share = np.bincount(nearest(tokens), minlength=len(U)) / len(tokens)
    return scipy.stats.entropy(share)


def growth(tokens, after):
    mine = nearest(tokens)
    return (snr(after, mine) / snr(tokens, mine) - 1).mean()


# Measure, changes of it, and its value of a sample's tokens Z and update D.
VALUES = [
    ("coding_rate", {"eps": EPS}, lambda z, d: oracle.coding_rate(z, EPS)),
    ("compression", {"eps": EPS}, lambda z, d: oracle.compression(z, U, EPS)),
    (
        "rate_reduction",
        {"eps": EPS},
        lambda z, d: oracle.coding_rate(z, EPS) - oracle.compression(z, U, EPS),
    ),
    (
        "sparse_rate_reduction",
        {"eps": EPS, "lam": LAM},
        lambda z, d: (
            oracle.coding_rate(z, EPS) - oracle.compression(z, U, EPS) - LAM * np.count_nonzero(z)
        ),
    ),
    (
        "coding_rate",
        {"eps": EPS, "convention": "official"},
        lambda z, d: oracle.coding_rate(unit(z), EPS),
    ),
    (
        "rate_reduction",
        {"eps": EPS, "convention": "official"},
        lambda z, d: oracle.coding_rate(unit(z), EPS) - official(z),
    ),
    ("l0", {}, lambda z, d: oracle.l0(z)),
    ("hoyer", {}, lambda z, d: oracle.hoyer(z)),
    ("thresholded", {"tau": 0.5}, lambda z, d: oracle.thresholded(z, 0.5)),
    ("thresholded", {}, lambda z, d: oracle.thresholded(z, 0.1)),
    ("l1_l2", {}, lambda z, d: oracle.l1_l2(z)),
    ("gini", {}, lambda z, d: oracle.gini(z)),
    ("excess_kurtosis", {}, lambda z, d: oracle.excess_kurtosis(z)),
    ("treves_rolls", {}, lambda z, d: oracle.treves_rolls(z)),
    ("effective_rank", {}, lambda z, d: oracle.effective_rank(z)),
    ("stable_rank", {}, lambda z, d: oracle.stable_rank(z)),
    ("participation_ratio", {}, lambda z, d: oracle.participation_ratio(z)),
    ("spectral_decay", {}, lambda z, d: oracle.spectral_decay(z)),
    ("mean_cosine", {}, lambda z, d: oracle.mean_cosine(z)),
    ("token_norm", {}, lambda z, d: oracle.token_norm(z)),
    ("token_snr", {}, lambda z, d: snr(z, nearest(z)).mean()),
    ("token_snr_entropy", {}, lambda z, d: entropy_of_clusters(z)),
    ("token_snr_growth", {}, lambda z, d: growth(z, z + d / 3)),
    ("descent_cosine", {"eps": EPS}, lambda z, d: along(d, z, d)),
    ("descent_cosine_common", {"eps": EPS}, lambda z, d: along(shift(d), z, d)),
    ("descent_cosine_mean", {"eps": EPS}, lambda z, d: along(MEAN.numpy(), z, d)),
    (
        "descent_cosine_shared",
        {"eps": EPS},
        lambda z, d: along(shift(d) + MEAN.numpy() - shift(MEAN.numpy()), z, d),
    ),
    (
        "descent_achieved",
        {"eps": EPS},
        lambda z, d: -change(z, d) / np.linalg.norm(gradient(z)) / np.linalg.norm(d),
    ),
    ("attention_rate_change", {"eps": EPS}, lambda z, d: change(z, d)),
    ("attention_rate_change_no_skip", {"eps": EPS}, lambda z, d: change(z, d - z)),
    ("attention_rate_change_common", {"eps": EPS}, lambda z, d: change(z, shift(d))),
    ("attention_rate_change_mean", {"eps": EPS}, lambda z, d: change(z, MEAN.numpy())),
    (
        "attention_rate_change_radial",
        {"eps": EPS},
        lambda z, d: change(z, shift(d) + radial(z, d)) - change(z, shift(d)),
    ),
    (
        "attention_rate_change_tangential",
        {"eps": EPS},
        lambda z, d: change(z, d) - change(z, shift(d) + radial(z, d)),
    ),
    (
        "attention_rate_change_shared",
        {"eps": EPS},
        lambda z, d: change(z, shift(d) + MEAN.numpy() - shift(MEAN.numpy())),
    ),
    (
        "dictionary_coherence",
        {},
        lambda z, d: np.abs(np.triu(unit(ATOMS.numpy().T) @ unit(ATOMS.numpy().T).T, 1)).max(),
    ),
    ("dictionary_condition", {}, lambda z, d: np.linalg.cond(ATOMS.numpy())),
    ("lasso_step", {}, lambda z, d: ETA * np.linalg.norm(ATOMS.numpy(), 2) ** 2),
]


@pytest.mark.parametrize(("name", "fields", "value"), VALUES)
def test_each_measure_as_it_is_taken_of_a_layer_is_numpys(name, fields, value):
    kind = measure_named(name)(**fields)
    site = kind.site[kind.convention]
    others = {"attn_out": D, "z_in": Z, "z_half": Z + D, "mlp_in": Z / 2}
    if name == "token_snr_growth":
        others |= {"z_in": Z}
    operators = {"D": ATOMS, "lam": LAM, "eta": ETA}
    operators |= {"mean_update": MEAN, "mean_update_of": torch.zeros(0)}
    others |= {each: operators[each] for each in kind.needs_operators}
    given = Z + D / 3 if name == "token_snr_growth" else Z
    needs = {each: others[each] for each in others if each != site}
    layer = layer_of(kind, site, given, U, None, 0, needs)
    found = kind.measure(layer, site)
    want = [value(z, d) for z, d in zip(Z.numpy(), D.numpy(), strict=True)]
    np.testing.assert_allclose(found, want, rtol=1e-8)


def test_the_mean_of_other_samples_leaves_a_samples_own_part_out():
    """Of three samples the mean of five, of which they are the first and the last."""
    others = {
        "attn_out": D,
        "mean_update": MEAN,
        "mean_update_of": torch.tensor([[n, 1] for n in (7, 1, 2, 3, 9)]),
    }
    kind = measure_named("attention_rate_change_mean")(eps=EPS)
    layer = layer_of(kind, "z_in", Z, U, torch.tensor([7, 8, 9]), 0, others)
    found = kind.measure(layer, "z_in")
    for sample, own in enumerate((True, False, True)):
        d = D[sample].numpy()
        mean = (5 * MEAN.numpy() - d) / 4 if own else MEAN.numpy()
        assert found[sample].item() == pytest.approx(change(Z[sample].numpy(), mean))


def test_a_token_of_zeros_makes_no_feature_loud():
    tokens = torch.tensor([[[4.0, 0.1, 0.0], [4.0, 0.5, 0.0], [0.0, 0.0, 0.0]]])
    kind = measure_named("dead_features")()
    layer, sums = layer_of(kind, "z_out", tokens, None, None, 0, {}), Sums()
    kind.add(sums, layer, "z_out", None)
    # Of three features one is never active, and of the others one passes a tenth of its token.
    assert kind.numbers(sums) == pytest.approx({"dead_features": 1 / 3, "quiet_features": 1 / 3})
    louder = measure_named("dead_features")(tau=0.5)
    sums = Sums()
    louder.add(sums, layer, "z_out", None)
    assert louder.numbers(sums)["quiet_features"] == pytest.approx(2 / 3)


def test_one_label_a_feature_is_asked_for():
    for shape, labels, wrong in (((4, 3), torch.arange(5), "labels"), ((2, 2, 3), [0, 1], "X")):
        with pytest.raises(ShapeError, match=f"{wrong} has shape"):
            F.class_rates(drawn(*shape), labels, eps=0.5)


def test_an_optimum_does_not_depend_on_the_other_samples_of_its_batch():
    """Some meet it soon, and others go on."""
    Y = torch.cat([drawn(3, 4, 5), 1e-3 * drawn(3, 4, 5, seed=1), 30 * drawn(2, 4, 5, seed=2)])
    atoms = ATOMS + 2 * drawn(5, 1, seed=3)
    codes, gap = F.lasso_optimum(Y, atoms, lam=0.1, tolerance=1e-6)
    for sample in range(len(Y)):
        alone, its = F.lasso_optimum(Y[sample : sample + 1], atoms, lam=0.1, tolerance=1e-6)
        np.testing.assert_array_equal(codes[sample], alone[0])
        assert gap[sample] == its[0]


def objective(codes, Y, atoms):
    return ((Y - codes @ atoms.T) ** 2).sum() / 2 + LAM * np.abs(codes).sum()


def least_objective(Y, atoms):
    """By scikit-learn, which divides squares by their number."""
    model = Lasso(LAM / len(atoms), positive=True, fit_intercept=False, tol=1e-12, max_iter=10**6)
    return objective(np.array([model.fit(atoms, token).coef_ for token in Y]), Y, atoms)


def lasso_values(A, Y, atoms):
    start = np.maximum(Y, 0)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed_of("order of atoms", 5)))
    after, before = objective(A, Y, atoms), objective(start, Y, atoms)
    least = least_objective(Y, atoms)  # that of the same atoms in any order
    way = before - least
    scaled = (A * start).sum() / (start**2).sum() * start
    others = atoms[:, order.numpy()]
    elsewhere = objective(start, Y, others)
    ascent = (A @ atoms.T - Y) @ atoms + LAM
    kkt = np.linalg.norm(A - np.maximum(A - ascent, 0))
    return {
        "lasso_change": after / before - 1,
        "lasso_vs_zero": after / ((Y**2).sum() / 2),
        "lasso_reconstruction": ((Y - A @ atoms.T) ** 2).sum() / (Y**2).sum(),
        "lasso_kkt": kkt / np.linalg.norm(np.maximum(Y @ atoms - LAM, 0)),
        "lasso_gap_closed": (before - after) / way,
        "lasso_gap_shrunk": (before - objective(scaled, Y, atoms)) / way,
        "lasso_gap_others": (elsewhere - objective(A, Y, others)) / (elsewhere - least),
    }


def test_of_many_tokens_the_share_of_the_gap_is_that_of_64_evenly_spread():
    Y, atoms = 2 * drawn(2, 101, 5, seed=9), ATOMS / 2
    A = (Y.clamp_min(0) - 0.1 * ((Y.clamp_min(0) @ atoms.mT - Y) @ atoms + LAM)).clamp_min(0)
    some = np.linspace(0, 100, 64).round().astype(int)
    for name in ("lasso_gap_closed", "lasso_gap_shrunk", "lasso_gap_others"):
        kind = measure_named(name)()
        layer = layer_of(kind, "z_out", A, None, None, 0, {"mlp_in": Y, "D": atoms, "lam": LAM})
        got = kind.measure(layer, "z_out").numpy()
        for sample in range(2):
            want = lasso_values(A[sample].numpy()[some], Y[sample].numpy()[some], atoms.numpy())
            every = lasso_values(A[sample].numpy(), Y[sample].numpy(), atoms.numpy())
            assert got[sample] == pytest.approx(want[name], rel=2e-3)
            assert got[sample] != pytest.approx(every[name], rel=2e-3)


def test_measures_of_the_lasso_are_numpys_and_scikit_learns():
    Y, atoms = 2 * drawn(2, 6, 5, seed=8), ATOMS / 2
    A = (Y.clamp_min(0) - 0.1 * ((Y.clamp_min(0) @ atoms.mT - Y) @ atoms + LAM)).clamp_min(0)
    want = [lasso_values(a, y, atoms.numpy()) for a, y in zip(A.numpy(), Y.numpy(), strict=True)]
    for name in want[0]:
        kind = measure_named(name)()
        others = {"mlp_in": Y, "D": atoms, "lam": LAM}
        layer = layer_of(kind, "z_out", A, None, None, 0, others)
        # The optimum is sought to a hundredth of the way.
        exact = 1e-3 if "gap" in name else 1e-9
        told = [each[name] for each in want]
        np.testing.assert_allclose(kind.measure(layer, "z_out"), told, rtol=exact, err_msg=name)


class TestTokenSNR:
    def test_short_tokens_are_tokens_as_well(self):
        np.testing.assert_allclose(F.token_snr(1e-3 * Z, U), F.token_snr(Z, U))
        assert F.token_clusters(1e-9 * Z, U).tolist() == F.token_clusters(Z, U).tolist()

    @pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
    def test_of_tokens_within_their_subspace_it_is_the_most_that_rounding_tells(self, size):
        e = torch.eye(4, dtype=torch.float64)
        apart = torch.stack([e[:, :2], e[:, 2:]])
        tokens = size * torch.stack([e[0] + e[1], e[1], e[3]])[None]
        assert F.token_snr(tokens, apart).tolist()[0] == pytest.approx([1e8, 1e8])
        assert F.token_clusters(tokens, apart).tolist() == [[0, 0, 1]]
        tokens[0, 2] = 0
        found = F.token_snr(tokens, apart)[0]
        assert found[0].item() == pytest.approx(1e8)
        assert found[1].isnan()
        assert F.token_clusters(tokens, apart).tolist() == [[0, 0, -1]]

    @pytest.mark.parametrize("name", ["token_snr", "token_snr_entropy", "token_snr_growth"])
    def test_a_sample_with_a_token_that_is_no_number_has_none(self, name):
        broken = Z.clone()
        broken[1, 2] = torch.nan
        kind = measure_named(name)()
        layer = layer_of(kind, "z_out", broken, U, None, 0, {"z_in": broken})
        found = kind.measure(layer, "z_out")
        assert found.isnan().tolist() == [False, True, False]


def test_subspaces_of_features_of_low_rank_are_compared_in_the_directions_that_they_have():
    X, Y = drawn(80, 2) @ drawn(2, 5, seed=1), drawn(80, 6, seed=2)
    Y[:, :2] += 2 * X[:, :2]
    found = F.sample_overlap(X, Y, rank=4).item()
    left, right = (
        np.linalg.svd((each - each.mean(0)).numpy(), full_matrices=False)[0] for each in (X, Y)
    )
    want = np.linalg.norm(left[:, :2].T @ right[:, :2]) ** 2 / 2
    assert found == pytest.approx(want, rel=1e-8)
    assert F.sample_overlap(Y, X, rank=4).item() == pytest.approx(want, rel=1e-8)


def test_leading_directions_hold_their_share_and_a_moment_of_nothing_has_none():
    turn = np.linalg.qr(drawn(3, 3).numpy())[0]
    moment = torch.from_numpy((turn * [1.0, 8.0, 2.0]) @ turn.T)
    small, nothing = 1e-4 * moment, 0 * moment
    found = leading_subspaces(torch.stack([moment, small, nothing]), energy=0.85)
    assert [each.shape for each in found] == [(3, 2), (3, 2), (3, 0)]
    for each in found[:2]:  # 10 of 11 in the last two
        projector = (each @ each.mT).numpy()
        np.testing.assert_allclose(projector, turn[:, 1:] @ turn[:, 1:].T, atol=1e-12)
    (one,) = leading_subspaces(moment[None], energy=0.7)
    assert abs(one[:, 0].numpy() @ turn[:, 1]) == pytest.approx(1)
    e = torch.eye(4, dtype=torch.float64)
    several = [e[:, :1], e[:, :2], e[:, 1:4], e[:, :0]]
    # Nested, apart, and one direction of two.
    assert mean_overlap(several) == pytest.approx((1 + 0 + 1 / 2) / 3)
    assert expected_overlap(several) == pytest.approx((2 / 4 + 3 / 4 + 3 / 4) / 3)
    assert math.isnan(mean_overlap(several[2:]))
    assert math.isnan(expected_overlap(several[2:]))


@pytest.mark.parametrize("setting", ["eps", "lam", "tau"])
def test_what_is_not_given_is_a_tenth(setting):
    told = {name: getattr(kind(), setting, 0.1) for name, kind in catalogue().items()}
    assert told == dict.fromkeys(told, 0.1)


def test_an_atom_of_zeros_is_like_no_other():
    atoms = ATOMS.clone()
    atoms[:, 2] = 0
    kind = measure_named("dictionary_coherence")()
    layer = layer_of(kind, "z_out", Z, None, None, 0, {"mlp_in": Z, "D": atoms, "lam": LAM})
    others = unit(np.delete(ATOMS.numpy(), 2, axis=1).T)
    want = np.abs(np.triu(others @ others.T, 1)).max()
    assert kind.measure(layer, "z_out").tolist() == pytest.approx([want] * 3)


@pytest.mark.parametrize(("left_out", "none"), [([5, 6, 0], 1), ([0, 1, 2], None)])
def test_a_sample_without_a_token_or_a_head_without_one_has_no_value(left_out, none):
    wanted = [n == none for n in range(3)]
    assert without_value(torch.tensor(left_out), Z).tolist() == wanted
    heads = torch.tensor([[n, 0] for n in left_out])
    assert without_value(heads, Z[:, None].repeat(1, 2, 1, 1)).tolist() == wanted
