"""What `probe` can vary: bases, precision, tokens, nulls; and what becomes of bad features."""

import math

import numpy as np
import oracle
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import BasisError, DataError, NonFiniteError, ProbeError
from whitebox_probe.metrics import functional as F
from whitebox_probe.probing.bases import basis_of, k_subspaces

G = torch.Generator().manual_seed(2)
IMAGES = torch.randn(24, 3, 12, 12, generator=G)


def probe(model, data=IMAGES, metrics=None, **options):
    return wp.probe(model, data, metrics, progress=False, **options)


def sharpen(vit):
    """Untrained, its rows of attention hardly differ."""
    for block in vit.module.blocks:
        block.attn.qkv.weight.data *= 20


class TestBases:
    def test_qk_is_orthonormal_and_gives_the_scores_singular_vectors(self, vit):
        U = basis_of(vit, "qk")[2]
        Q, K = vit.subspaces(2, "qkv:q").double(), vit.subspaces(2, "qkv:k").double()
        for k in range(2):
            torch.testing.assert_close(U[k].T @ U[k], torch.eye(8, dtype=torch.float64))
            _, sigma, V = np.linalg.svd((Q[k] @ K[k].T).numpy())
            aligned = np.abs(V[:8] @ U[k].numpy())
            np.testing.assert_allclose(aligned, np.eye(8), atol=1e-6)
            assert sigma[8:].max() < 1e-6

    def test_its_span_is_the_keys_so_orthonormal_rates_agree(self, vit):
        one = probe(vit, metrics=["compression"], basis="qk")
        other = probe(vit, metrics=["compression"], basis="qkv:k", orthonormal=True)
        np.testing.assert_allclose(one.frame["mean"], other.frame["mean"], rtol=1e-5)
        assert other.run["basis"] == "qkv:k+qr"

    def test_random_bases_are_orthonormal_and_seeded(self, crate):
        first, again = basis_of(crate, "random", seed=1), basis_of(crate, "random", seed=1)
        other = basis_of(crate, "random", seed=2)
        U = first[1]
        torch.testing.assert_close(U.mT @ U, torch.eye(6, dtype=torch.float64).expand(2, -1, -1))
        assert torch.equal(first[3], again[3])
        assert not torch.equal(first[3], other[3])

    def test_pca_is_fitted_to_samples_that_are_not_measured(self, vit):
        limit, seen = 10, []
        vit.module.register_forward_pre_hook(lambda m, args: seen.append(args[0].clone()))
        result = probe(vit, metrics=["compression"], basis="pca", limit=limit, batch_size=50)
        fitted, measured = seen
        assert (len(fitted), len(measured)) == (14, 10)
        together = torch.cat([fitted, measured]).flatten(1)
        assert len(together.unique(dim=0)) == 24
        with wp.record(vit, "attn_in") as rec, torch.no_grad():
            vit.module(fitted)
        X = rec["attn_in", 1].flatten(0, 1).double().numpy()
        _, vectors = np.linalg.eigh(X.T @ X)
        U = torch.from_numpy(vectors[:, ::-1].copy()).unflatten(1, (2, 8)).transpose(0, 1)
        with wp.record(vit, "z_half") as rec, torch.no_grad():
            vit.module(measured)
            half = vit.module.blocks[0].norm1.forward(rec["z_half", 1])
        want = F.compression(half, U, eps=0.1).mean().item()
        assert result.curve("compression")["mean"][0] == pytest.approx(want, rel=1e-4)

    def test_pca_without_samples_left_says_so(self, vit):
        with pytest.raises(DataError, match="no sample of tensor .* is left"):
            probe(vit, metrics=["compression"], basis="pca")
        assert probe(vit, metrics=["compression"], basis="pca", fit_data=IMAGES + 1).run["basis"]

    def test_clusters_find_the_subspaces_that_points_lie_in(self):
        Q = torch.linalg.qr(torch.randn(8, 8, generator=G, dtype=torch.float64)).Q
        true = [Q[:, :2], Q[:, 2:4], Q[:, 4:6]]
        X = torch.cat([torch.randn(80, 2, generator=G, dtype=torch.float64) @ B.T for B in true])
        X = X + 1e-3 * torch.randn(X.shape, generator=G, dtype=torch.float64)
        found = k_subspaces(X, 3, 2, seed=0, restarts=8)
        for B in true:
            shares = (found.mT @ B).square().sum(dim=(1, 2)) / 2
            assert shares.max() > 0.999
        with pytest.raises(BasisError, match="fewer tokens"):
            k_subspaces(X[:5], 3, 2)

    def test_directions_that_points_do_not_span_are_zero(self):
        B = torch.linalg.qr(torch.randn(8, 3, generator=G)).Q
        X = torch.randn(60, 3, generator=G) @ B.T
        for U in k_subspaces(X, 1, 5), k_subspaces(X.double(), 1, 5, share=1e-6):
            assert (U.norm(dim=1) == 0).sum() == 2
            torch.testing.assert_close(U[0] @ U[0].T, (B @ B.T).double(), atol=1e-5, rtol=0)

    @pytest.mark.parametrize("basis", ["pca", "pca:clusters"])
    def test_tokens_of_low_rank_give_the_same_in_batches_of_any_size(self, basis):
        model = wp.load("crate-tiny-fmnist")
        data = torch.randn(6, 1, 28, 28, generator=G)
        fit = torch.randn(4, 1, 28, 28, generator=G)
        shared = {"convention": "official", "basis": basis, "fit_data": fit}
        found = [
            probe(model, data, ["compression", "rate_reduction"], batch_size=size, **shared)
            for size in (1, 4, 6)
        ]
        for other in found[1:]:
            np.testing.assert_allclose(other.samples, found[0].samples, rtol=1e-6, atol=1e-5)

    def test_clusters_run_on_a_model(self, vit):
        result = probe(vit, metrics=["compression"], basis="pca:clusters", limit=10)
        assert result.run["basis"] == "pca:clusters"

    @pytest.mark.parametrize(("name", "basis"), [("vit", "native"), ("crate", "qk")])
    def test_a_basis_that_a_family_lacks_is_an_error(self, name, basis, request):
        with pytest.raises(BasisError, match=f"basis '{basis}' is not in"):
            probe(request.getfixturevalue(name), basis=basis)

    def test_official_values_in_a_basis_of_no_projection_use_the_normed_input(self, crate):
        result = probe(crate, metrics=["compression"], convention="official", basis="random")
        with wp.record(crate, "attn_in") as rec, torch.no_grad():
            crate.module(IMAGES)
        U = basis_of(crate, "random", seed=0)[2].numpy()
        X = rec["attn_in", 2].double().numpy()
        want = [oracle.official_compression([x @ U[0], x @ U[1]]) for x in X]
        got = result.values("compression")[:, 1]
        np.testing.assert_allclose(got, want, rtol=1e-5)


class TestPrecision:
    def test_a_sweep_equals_single_runs(self, crate):
        grid = (0.01, 0.1, 1.0, 10.0)
        for convention in ("paper", "official"):
            swept = probe(crate, eps=grid, convention=convention)
            for eps in grid:
                single = probe(crate, eps=eps, convention=convention)
                # A difference is as exact as its parts, whose rounding in float32 is 1e-7 of them.
                parts = single.values("coding_rate").max() + single.values("compression").max()
                for metric, rtol, atol in (
                    ("coding_rate", 5e-6, 1e-6),
                    ("compression", 5e-6, 1e-6),
                    ("rate_reduction", 0.0, 4e-7 * parts),
                ):
                    np.testing.assert_allclose(
                        swept.values(metric, eps=eps),
                        single.values(metric),
                        rtol=rtol,
                        atol=atol,
                    )
            assert swept.run["eps"] == list(grid)

    def test_the_spectrum_is_taken_once(self, crate, monkeypatch):
        calls = []
        whole = torch.linalg.eigvalsh
        monkeypatch.setattr(torch.linalg, "eigvalsh", lambda A: calls.append(1) or whole(A))
        probe(
            crate, metrics=["coding_rate"], eps=(0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4), batch_size=24
        )
        assert len(calls) == crate.layers

    def test_wrong_precisions_are_refused(self, crate):
        for eps in ((0.1, 0.1), (0.1, -1.0), ()):
            with pytest.raises(ProbeError, match="eps is"):
                probe(crate, eps=eps)

    @pytest.mark.parametrize("name", ["crate", "vit"])
    def test_bfloat16_forwards_stay_within_two_percent(self, name, request):
        model = request.getfixturevalue(name)
        rates = ["coding_rate", "compression", "hoyer", "thresholded"]
        exact, rough = probe(model, metrics=rates), probe(model, metrics=rates, dtype="bfloat16")
        np.testing.assert_allclose(rough.frame["mean"], exact.frame["mean"], rtol=2e-2)


class TestTokens:
    def test_the_class_token_can_be_left_out(self, crate):
        result = probe(crate, class_token=False, prenorm=False, metrics=["coding_rate", "l0"])
        with wp.record(crate, "z_out") as rec, torch.no_grad():
            crate.module(IMAGES)
        patches = rec["z_out", 3][:, 1:]
        want = F.coding_rate(patches, eps=0.1).numpy()
        np.testing.assert_allclose(result.values("coding_rate")[:, 2], want, rtol=1e-6)
        assert result.run["tokens"] == 9
        official = probe(crate, class_token=False, convention="official")
        assert official.run["bounds"]["compression"][0] > 0

    def test_masked_tokens_are_never_part_of_a_measure(self, crate):
        masks = torch.rand(24, 10, generator=G) < 0.7
        masks[:, 0] = True
        masks[3] = True

        class Masked(Dataset):
            def __len__(self):
                return 24

            def __getitem__(self, i):
                return IMAGES[i], masks[i]

        result = probe(crate, Masked(), prenorm=False, batch_size=7)
        with wp.record(crate, ["z_out", "z_half"]) as rec, torch.no_grad():
            crate.module(IMAGES)
        for i in range(24):
            out = rec["z_out", 2][i][masks[i]][None]
            half = rec["z_half", 2][i][masks[i]][None]
            U = crate.subspaces(2)
            want = {
                "coding_rate@z_out:2": F.coding_rate(out, eps=0.1),
                "compression@z_half:2": F.compression(half, U, eps=0.1),
                "l0@z_out:2": F.l0(out),
                "hoyer@z_out:2": F.hoyer(out),
            }
            for key, value in want.items():
                assert result.samples.loc[i, key] == pytest.approx(value.item(), rel=1e-5)

    def test_attention_is_of_the_rows_that_are_measured(self, vit):
        sharpen(vit)
        masks = torch.rand(24, 10, generator=torch.Generator().manual_seed(6)) < 0.6
        masks[:, 3], masks[5] = True, True
        names = ["attention_entropy", "attention_distance", "attention_class_share"]
        data = list(zip(IMAGES, masks, strict=True))
        results = [probe(vit, data, names, batch_size=size) for size in (7, 24)]
        with wp.record(vit, "attn_weights") as rec, torch.no_grad():
            vit.module(IMAGES)
        place = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0))
        for i, mask in enumerate(masks):
            A = rec["attn_weights", 2][i].double()  # (K, n, n)
            patches = A[:, 1:, 1:][:, mask[1:]]
            apart = torch.cdist(place, place)[mask[1:]].double()
            far = (patches * apart).sum(-1) / patches.sum(-1)
            want = [
                -torch.xlogy(A, A).sum(-1)[:, mask].mean(),
                far.mean(),
                A[:, 1:, 0][:, mask[1:]].mean(),
            ]
            for name, value in zip(names, want, strict=True):
                for result in results:
                    assert result.values(name)[i, 1] == pytest.approx(value.item(), rel=1e-5), name

    def test_without_the_class_token_its_row_of_attention_is_left_out(self, vit):
        sharpen(vit)
        result = probe(vit, metrics=["attention_entropy"], class_token=False)
        with wp.record(vit, "attn_weights") as rec, torch.no_grad():
            vit.module(IMAGES)
        A = rec["attn_weights", 2].double()
        want = -torch.xlogy(A, A).sum(-1)[..., 1:].mean(dim=(1, 2))
        np.testing.assert_allclose(result.values("attention_entropy")[:, 1], want, rtol=1e-5)

    def test_attention_of_a_sample_whose_patches_are_all_masked(self, vit):
        mask = torch.zeros(10, dtype=torch.bool)
        mask[0] = True
        data = [(image, mask) for image in IMAGES[:2]]
        assert len(probe(vit, data, ["attention_entropy"]).samples) == 2
        with pytest.raises(ProbeError, match="no row of attention .* is measured"):
            probe(vit, data, ["attention_distance"])

    @pytest.mark.parametrize("class_token", [True, False])
    def test_a_sample_with_every_token_masked_is_named(self, crate, class_token):
        masks = torch.ones(24, 10, dtype=torch.bool)
        masks[17, int(not class_token) :] = False
        data = list(zip(IMAGES, masks, strict=True))
        with pytest.raises(DataError, match=r"^sample 17 has no token .* Remove that sample"):
            probe(crate, data, ["l0"], batch_size=5, class_token=class_token)

    def test_a_mask_of_another_number_of_tokens_is_refused(self, crate):
        data = [(image, torch.ones(9, dtype=torch.bool)) for image in IMAGES]
        data[3] = (IMAGES[3], torch.arange(9) < 8)
        with pytest.raises(DataError, match="masks are of 9 tokens.*layers have 10"):
            probe(crate, data, ["l0"])

    def test_a_metric_at_several_sites_has_a_row_each(self, vit):
        sites = {"hoyer": ["z_out", "mlp_hidden"]}
        result = probe(vit, metrics=["hoyer"], sites=sites)
        assert set(result.frame["site"]) == {"z_out", "mlp_hidden"}
        with wp.record(vit, "mlp_hidden") as rec, torch.no_grad():
            vit.module(IMAGES)
        want = F.hoyer(rec["mlp_hidden", 1]).numpy()
        np.testing.assert_allclose(result.values("hoyer", "mlp_hidden")[:, 0], want, rtol=1e-5)

    def test_attention_measures_come_from_the_maps(self, vit):
        result = probe(vit, metrics=["attention_entropy"])
        with wp.record(vit, "attn_weights") as rec, torch.no_grad():
            vit.module(IMAGES)
        heads = F.attention_entropy(rec["attn_weights", 2])
        np.testing.assert_allclose(
            result.values("attention_entropy")[:, 1], heads.mean(1), rtol=1e-5
        )
        np.testing.assert_allclose(
            result.matrices["attention_entropy"][1], heads.mean(0), rtol=1e-5
        )


class TestNulls:
    @pytest.mark.parametrize("kind", ["gaussian", "shuffled", "random_subspaces"])
    def test_a_null_does_not_depend_on_batches_or_order(self, kind, crate):
        whole = probe(crate, null=kind, batch_size=24)
        parts = probe(crate, null=kind, batch_size=5)
        np.testing.assert_allclose(parts.samples, whole.samples, rtol=1e-5, atol=1e-8)
        assert whole.run["null"] == kind

    def test_gaussian_tokens_have_the_models_norms_and_no_structure(self, crate):
        names = ["token_norm", "effective_rank", "l0"]
        null, model = probe(crate, metrics=names, null="gaussian"), probe(crate, metrics=names)
        np.testing.assert_allclose(null.values("token_norm"), model.values("token_norm"), rtol=1e-5)
        ranks = [r.curve("effective_rank")["mean"] for r in (null, model)]
        assert (ranks[0] > ranks[1]).all()
        assert (null.values("l0") == 1).all()

    def test_shuffled_tokens_keep_each_features_values(self, crate):
        names = ["l0", "excess_kurtosis"]
        null, model = probe(crate, metrics=names, null="shuffled"), probe(crate, metrics=names)
        np.testing.assert_allclose(null.samples, model.samples, rtol=1e-5, atol=1e-9)

    def test_random_weights_need_an_entry(self, crate):
        with pytest.raises(ProbeError, match="random weights of crate"):
            wp.nulls(crate, IMAGES, kinds=["random_weights"], progress=False)
        with pytest.raises(ProbeError, match="unknown null"):
            wp.nulls(crate, IMAGES, kinds=["gausian"], progress=False)

    def test_nulls_are_drawn_under_their_curve(self, crate):
        result = probe(crate)
        nulls = wp.nulls(crate, IMAGES, kinds=["gaussian", "random_subspaces"], progress=False)
        figure = wp.plots.compression(result, nulls=nulls)
        labels = [text.get_text() for text in figure.legends[0].get_texts()]
        assert {"null: gaussian", "null: random subspaces"} <= set(labels)
        lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
        gaussian = nulls["gaussian"].curve("compression")["mean"]
        np.testing.assert_allclose(lines["null: gaussian"], gaussian)
        share = wp.plots.compression(result, nulls=nulls, normalise="null_share")
        drawn = next(x for x in share.axes[0].lines if x.get_label() == "crate").get_ydata()
        want = result.curve("compression")["mean"] / gaussian
        np.testing.assert_allclose(drawn, want)
        with pytest.raises(wp.ProbeError, match="belongs to none"):
            wp.plots.compression(probe(crate, name="other"), nulls=nulls)


def test_samples_that_are_not_finite_are_counted_and_left_out(crate):
    norm = crate.module.transformer.layers[1][0].norm
    marked = IMAGES[:, 0, 0, 0].topk(2).indices.sort().values.tolist()

    def poison(module, args, out):
        out = out.clone()
        now = poison.images[poison.at : poison.at + len(out)]
        poison.at += len(out)
        out[[i for i, n in enumerate(now) if n in marked]] = math.inf
        return out

    def run(**options):
        poison.images, poison.at = list(range(24)), 0
        return probe(crate, batch_size=5, **options)

    handle = norm.register_forward_hook(poison)
    with pytest.raises(NonFiniteError, match=f"2 of 24 samples.*layer 2, sample {marked[0]}"):
        run()
    result = run(nonfinite="drop")
    handle.remove()
    clean = probe(crate, batch_size=5)
    assert result.run["nonfinite"]["count"] == 2
    assert [place["sample"] for place in result.run["nonfinite"]["first"]] == marked
    assert ":2" in result.run["nonfinite"]["first"][0]["where"]
    assert len(result.samples) == 22
    left = clean.samples.drop(marked)
    np.testing.assert_allclose(result.samples, left, rtol=1e-6)
    np.testing.assert_allclose(
        result.curve("l0")["mean"], left[[f"l0@z_out:{n}" for n in (1, 2, 3)]].mean()
    )


def test_models_of_different_depth_and_size_are_compared_at_relative_depth():
    models = [small_crate(depth=2), small_vit(depth=4)]
    results = [probe(wp.wrap(m, name=n)) for m, n in zip(models, "ab", strict=True)]
    comparison = wp.compare(results)
    rows = comparison.differences.query("metric == 'coding_rate'")
    assert rows["relative_depth"].tolist() == [0.5, 1.0]
    assert set(rows["form"]) == {"per_token"}
    deep = results[1].values("coding_rate")[:, [1, 3]] / 10
    want = (deep - results[0].values("coding_rate") / 10).mean(axis=0)
    np.testing.assert_allclose(rows["difference"], want)


def test_results_that_mean_different_things_are_not_compared(crate, vit):
    with pytest.raises(wp.ProbeError, match="differ in prenorm"):
        wp.compare([probe(crate), probe(vit, prenorm=False)])
    with pytest.raises(wp.ProbeError, match="differ in orthonormal"):
        wp.compare([probe(crate), probe(vit, orthonormal=True)])


def test_labels_come_from_pairs_and_from_subfolders(crate, tmp_path):
    from PIL import Image

    from whitebox_probe.data import open_data

    for i, name in enumerate(["cat", "cat", "dog"]):
        (tmp_path / name).mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / name / f"{i}.png")
    source = open_data(tmp_path, transform=lambda image: torch.zeros(3, 4, 4))
    assert next(source.batches(3, 0)).labels.tolist() == [0, 0, 1]
    pairs = TensorDataset(IMAGES, torch.arange(24) % 3)
    assert open_data(pairs).labelled
    assert not open_data(TensorDataset(IMAGES, torch.rand(24))).labelled
    assert not open_data(IMAGES).labelled


def test_a_measure_object_has_settings_of_its_own(crate):
    measure = wp.metrics.Compression(eps=0.3)
    found = probe(crate, metrics=[wp.Request(metric=measure)])
    assert set(found.frame["eps"]) == {0.3}
    with pytest.raises(ProbeError, match="names eps: a metric object has its own"):
        probe(crate, metrics=[wp.Request(metric=measure, eps=0.5)])


def test_positions_are_drawn_for_official_rows_alone(crate):
    found = probe(crate, metrics=["compression"], convention=["paper", "official"])
    official = found.select(convention="official")
    assert wp.plots.compression(official, normalise="position").axes[0].lines
    with pytest.raises(ProbeError):
        wp.plots.compression(found.select(convention="paper"), normalise="position")


def test_a_null_is_drawn_with_the_settings_of_the_curve(crate):
    measured = {"metrics": ["compression"], "eps": [0.1, 0.5], "progress": False}
    mine = wp.probe(crate, IMAGES, **measured).select(eps=0.5)
    nulls = wp.nulls(crate, IMAGES, kinds=("gaussian",), **measured)
    figure = wp.plots.compression(mine, nulls=nulls, normalise="null_share")
    of = nulls["gaussian"].select(eps=0.5).frame["mean"].to_numpy()
    want = mine.frame["mean"].to_numpy() / of
    np.testing.assert_allclose(figure.axes[0].lines[-1].get_ydata(), want)


def test_none_is_a_word_for_no_null(crate):
    found = probe(crate, metrics=["l0"], null=["none", "gaussian"])
    assert set(found.frame["null"]) == {"", "gaussian"}
    with pytest.raises(wp.ProbeError, match=r"null is .*: each value is measured once\. Name each"):
        probe(crate, metrics=["l0"], null=["none", None])
    with pytest.raises(wp.ProbeError, match=r"convention is .*: each value is measured once\."):
        probe(crate, metrics=["l0"], convention=["paper", "paper"])
    with pytest.raises(wp.ProbeError, match="six digits tell two apart"):
        probe(crate, metrics=["l0"], eps=[0.1, 0.1])
