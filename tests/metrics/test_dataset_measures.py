"""Measures of all samples together: against whole-array references, in any batching and order."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import whitebox_probe as wp
from whitebox_probe._core.errors import ShapeError
from whitebox_probe.data._left_out import LeftOutWarning
from whitebox_probe.metrics import functional as F
from whitebox_probe.metrics import token_coherence
from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.metrics.dead import DeadFeatures
from whitebox_probe.metrics.measure import DatasetMeasure
from whitebox_probe.metrics.similarity import Moments, cka_of, procrustes_of, subspace_overlap_of
from whitebox_probe.metrics.sums import Sums

G = torch.Generator().manual_seed(0)
IMAGES = torch.randn(40, 3, 12, 12, generator=G)
LABELS = torch.arange(40) % 4
KINDS = [m for m in catalogue().values() if issubclass(m, DatasetMeasure)]


def probed(model, names, order=None, **options):
    order = torch.arange(40) if order is None else order
    data = TensorDataset(IMAGES[order], LABELS[order])
    return wp.probe(model, data, names, progress=False, **options)


def value(result, row, layer):
    return result.curve(row)["mean"].iloc[layer - 1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda m: m.name)
def test_batches_and_order_do_not_show(kind, crate):
    results = [
        probed(crate, [kind.name], batch_size=40),
        probed(crate, [kind.name], batch_size=7),
        probed(crate, [kind.name], torch.randperm(40, generator=G), batch_size=1),
    ]
    # A sample of 2,000 points goes by number; here all are kept.
    for result in results[1:]:
        np.testing.assert_allclose(result.frame["mean"], results[0].frame["mean"], rtol=1e-5)
    assert set(results[0].frame["metric"]) == set(kind.rows)
    assert (results[0].frame["count"] == 40).all()
    assert results[0].frame["ci_low"].isna().all()


def features(model, layer, site="z_out"):
    with wp.record(model, site) as rec, torch.no_grad():
        model.module(IMAGES)
    return rec[site, layer].double()


def numpy_rate(X, scale):
    return 0.5 * np.linalg.slogdet(np.eye(X.shape[1]) + scale * X.T @ X)[1]


def test_class_rates_are_those_of_the_definition(crate):
    result = probed(crate, ["class_rate"], eps=0.5)
    X = features(crate, 2).mean(1).numpy()
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    N, d = X.shape
    whole = numpy_rate(X, d / (N * 0.25))
    within = 0.0
    for c in range(4):
        mine = X[LABELS.numpy() == c]
        within += len(mine) / N * numpy_rate(mine, d / (len(mine) * 0.25))
    assert value(result, "class_rate_whole", 2) == pytest.approx(whole, rel=1e-6)
    assert value(result, "class_rate_within", 2) == pytest.approx(within, rel=1e-6)
    assert value(result, "class_rate_reduction", 2) == pytest.approx(whole - within, rel=1e-5)
    got = F.class_rates(torch.from_numpy(X), LABELS, eps=0.5)
    assert [float(v) for v in got] == pytest.approx([whole, within], rel=1e-9)


def test_pooled_rates_are_of_all_tokens_as_one(crate):
    result = probed(crate, ["pooled_rate"], eps=0.5, prenorm=False)
    Z = features(crate, 3).flatten(0, 1).numpy()
    n, d = Z.shape
    U = crate.subspaces(3).double().numpy()
    parts = sum(numpy_rate(Z @ U[k], U.shape[2] / (n * 0.25)) for k in range(len(U)))
    whole = numpy_rate(Z, d / (n * 0.25))
    assert value(result, "pooled_coding_rate", 3) == pytest.approx(whole, rel=1e-6)
    assert value(result, "pooled_compression", 3) == pytest.approx(parts, rel=1e-5)


def test_dead_features_are_columns_never_used(crate):
    Z = features(crate, 1).flatten(0, 1)
    result = probed(crate, ["dead_features"])
    dead = float((Z == 0).all(0).double().mean())
    assert value(result, "dead_features", 1) == dead
    rms = Z.square().mean(1, keepdim=True).sqrt()
    quiet = float((Z.abs() <= 0.1 * rms).all(0).double().mean())
    assert value(result, "quiet_features", 1) == quiet


@pytest.mark.parametrize("scale", [1.0, 1e20, 1e-30])
def test_quiet_features_do_not_depend_on_the_tokens_scale(scale):
    Z = torch.ones(2, 5, 4) * scale
    Z[..., 0] *= 0.01
    measure, sums = DeadFeatures(), Sums()
    measure.add(sums, SimpleNamespace(at=lambda site: Z), "z_out", None)
    assert measure.numbers(sums) == {"dead_features": 0.0, "quiet_features": 0.25}


def test_neural_collapse_of_a_simplex_and_of_a_model(crate):
    C, d = 4, 6
    simplex = torch.eye(C, d, dtype=torch.float64) - 1 / C
    simplex[:, C:] = 0
    labels = torch.arange(C).repeat(5)
    own = torch.Generator().manual_seed(1)
    noise = 1e-6 * torch.randn(C * 5, d, dtype=torch.float64, generator=own)
    collapsed = F.neural_collapse(simplex[labels] + noise, labels)
    assert all(abs(v) < 1e-5 for v in collapsed.values())
    X = features(crate, 3).mean(1).numpy()
    means = np.stack([X[LABELS.numpy() == c].mean(0) for c in range(4)])
    spread = X - means[LABELS.numpy()]
    within = spread.T @ spread / len(X)
    centred = means - X.mean(0)
    nc1 = np.trace(within @ np.linalg.pinv(centred.T @ centred / 4, rcond=1e-10)) / 4
    assert value(probed(crate, ["neural_collapse"]), "nc1", 3) == pytest.approx(nc1, rel=1e-4)
    with pytest.raises(ShapeError, match="1 class"):
        F.neural_collapse(torch.randn(5, 3), torch.zeros(5, dtype=torch.long))


def test_rank_me_from_streams_is_that_of_the_array(crate):
    want = F.rank_me(features(crate, 2).mean(1)).item()
    assert value(probed(crate, ["rank_me"]), "rank_me", 2) == pytest.approx(want, rel=1e-4)


def test_intrinsic_dimension_of_a_flat_sheet():
    points = torch.randn(600, 3, generator=G) @ torch.randn(3, 20, generator=G)
    twice = torch.cat([points, points[:100]])
    once, doubled = F.intrinsic_dimension(points), F.intrinsic_dimension(twice)
    assert once == doubled  # points that are there twice count once
    assert once["dimension_twonn"] == pytest.approx(3, abs=0.4)
    assert once["dimension_mle"] == pytest.approx(3, abs=0.4)
    with pytest.raises(ShapeError, match="different points"):
        F.intrinsic_dimension(torch.ones(50, 3))


def test_overlap_of_known_subspaces():
    eye = torch.eye(6, dtype=torch.float64)
    moments = torch.stack([eye[:2].T @ eye[:2], eye[2:4].T @ eye[2:4], eye[1:3].T @ eye[1:3]])
    bases = token_coherence.leading_subspaces(moments)
    assert [b.shape[1] for b in bases] == [2, 2, 2]
    assert token_coherence.mean_overlap(bases) == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert math.isnan(token_coherence.mean_overlap(bases[:1]))


def test_a_class_measure_without_labels_is_refused(crate):
    with pytest.raises(wp.ProbeError, match="has no labels"):
        wp.probe(crate, IMAGES, ["class_rate"], progress=False)


class TestSimilarity:
    X = torch.randn(50, 6, generator=G, dtype=torch.float64)
    Y = torch.randn(50, 4, generator=G, dtype=torch.float64) + 0.5 * X[:, :4]

    @staticmethod
    def hsic(K, L):
        """Song et al.'s unbiased estimate, from whole kernels without their diagonals."""
        n = len(K)
        K, L = K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
        one = np.ones(n)
        middle = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
        return (np.trace(K @ L) + middle - 2 / (n - 2) * one @ K @ L @ one) / (n * (n - 3))

    def test_cka_is_that_of_whole_kernels(self):
        X, Y = self.X.numpy(), self.Y.numpy()
        K, L = X @ X.T, Y @ Y.T
        want = self.hsic(K, L) / math.sqrt(self.hsic(K, K) * self.hsic(L, L))
        assert F.cka(self.X, self.Y).item() == pytest.approx(want, rel=1e-9)
        Q = torch.linalg.qr(torch.randn(6, 6, generator=G, dtype=torch.float64)).Q
        assert F.cka(self.X, 3 * self.X @ Q + 2).item() == pytest.approx(1, rel=1e-9)

    def test_unrelated_features_may_be_negative_and_are_not_clamped(self):
        values = [
            F.cka(
                torch.randn(12, 5, generator=G, dtype=torch.float64),
                torch.randn(12, 5, generator=G, dtype=torch.float64),
            ).item()
            for _ in range(40)
        ]
        assert min(values) < 0
        assert abs(np.mean(values)) < 0.15

    def test_procrustes_and_overlap(self):
        X, Y = (A.numpy() - A.numpy().mean(0) for A in (self.X, self.Y))
        A, B = X / np.linalg.norm(X), Y / np.linalg.norm(Y)
        want = 2 - 2 * np.linalg.svd(A.T @ B, compute_uv=False).sum()
        assert F.procrustes_distance(self.X, self.Y).item() == pytest.approx(want, rel=1e-9)
        left = np.linalg.svd(X, full_matrices=False)[0][:, :3]
        right = np.linalg.svd(Y, full_matrices=False)[0][:, :3]
        want = np.linalg.norm(left.T @ right) ** 2 / 3
        assert F.sample_overlap(self.X, self.Y, rank=3).item() == pytest.approx(want, rel=1e-8)

    def test_of_models_it_is_that_of_their_features(self, crate, vit, tmp_path):
        found = wp.similarity(crate, vit, IMAGES, batch_size=7, progress=False)
        want = F.cka(features(crate, 2).mean(1), features(vit, 3).mean(1)).item()
        assert found.cka[1, 2] == pytest.approx(want, rel=1e-4)
        own = wp.similarity(crate, crate, IMAGES, batch_size=16, progress=False)
        np.testing.assert_allclose(np.diag(own.cka), 1, rtol=1e-9)
        np.testing.assert_allclose(own.cka, own.cka.T)
        assert (found.save(tmp_path) / "similarity.csv").exists()
        figure = wp.plots.similarity(found)
        assert figure.axes[0].images[0].get_array()[1, 2] == pytest.approx(found.cka[1, 2])

    @pytest.mark.parametrize("count", [4, 8, 11, 20, 29])
    def test_noise_of_few_samples_has_no_overlap(self, count):
        X, Y = torch.randn(2, count, 64, generator=G)
        found = F.sample_overlap(X, Y)
        assert math.isnan(found)
        assert math.isnan(F.sample_overlap(X, X))
        assert F.sample_overlap(X, Y, rank=1) < 0.9

    @pytest.mark.parametrize("count", [30, 100, 400])
    def test_noise_of_more_samples_overlaps_by_chance(self, count):
        X, Y = torch.randn(2, count, 64, generator=G)
        assert F.sample_overlap(X, Y).item() == pytest.approx(10 / (count - 1), rel=0.4)

    def test_features_of_few_directions_need_fewer_samples(self):
        X = torch.randn(8, 2, generator=G)
        assert F.sample_overlap(X, X) == pytest.approx(1)

    @pytest.mark.parametrize(("count", "want"), [(40, 0.31), (400, 1.33), (2000, 1.7)])
    def test_the_distance_of_noise_is_that_of_the_docstring(self, count, want):
        X, Y = torch.randn(2, count, 64, generator=G)
        assert F.procrustes_distance(X, Y).item() == pytest.approx(want, rel=0.1)

    def test_a_comparison_of_few_samples_warns(self, crate, vit):
        with pytest.warns(UserWarning, match=r"overlap of 10 .* are 12, .*Use 30 samples"):
            found = wp.similarity(crate, vit, IMAGES[:12], progress=False)
        assert np.isnan(found.overlap).all()
        assert np.isfinite([found.cka, found.procrustes]).all()
        found = wp.similarity(crate, vit, IMAGES[:12], rank=4, progress=False)
        assert np.isfinite(found.overlap).all()


CLASSES = ("neural_collapse", "class_rate", "class_coherence")
COMPARED = {"neural_collapse": 3, "class_rate": 2, "class_coherence": 3}  # rows within classes


class TestDegenerate:
    """What would score best for want of data is no number, and the table says why."""

    @pytest.mark.parametrize("name", CLASSES)
    @pytest.mark.parametrize(
        ("labels", "why"),
        [
            (torch.arange(40), "40 of 40 classes have one sample"),
            (torch.tensor([0, 1, 2] + [3] * 37), "3 of 4 classes have one sample"),
            (torch.zeros(40, dtype=torch.long), "there is one class"),
        ],
    )
    def test_classes_that_cannot_be_compared(self, name, labels, why, crate):
        data = TensorDataset(IMAGES, labels)
        frame = wp.probe(crate, data, [name, "l0"], progress=False).frame
        rows = frame[frame["mean"].isna()]
        assert rows["metric"].nunique() == COMPARED[name]
        assert rows["note"].str.contains(why).all()
        assert frame[frame["mean"].notna()]["note"].str.contains("none").sum() == 0

    @pytest.mark.parametrize("name", CLASSES)
    @pytest.mark.parametrize("batch_size", [1, 7, 40])
    @pytest.mark.parametrize("per_class", [[10, 10, 10, 10], [1, 1, 1, 1], [10, 10, 1, 10]])
    def test_classes_of_one_sample_that_is_there_again(self, name, batch_size, per_class, crate):
        """A class of one image ten times has no more spread than one of a single image."""
        chosen = [c + 4 * (i % per_class[c]) for i in range(10) for c in range(4)]
        data = TensorDataset(IMAGES[chosen], LABELS)
        options = {"progress": False, "batch_size": batch_size}
        frame = wp.probe(crate, data, [name, "l0"], **options).frame
        rows, same = frame[frame["mean"].isna()], per_class.count(1)
        if not same:
            assert rows.empty
            return
        assert rows["metric"].nunique() == COMPARED[name]
        assert rows["note"].str.contains(f"in {same} of 4 classes samples differ by no more").all()

    def test_features_that_are_the_same_sample_again_have_no_collapse(self):
        X = IMAGES[:4, 0, 0, :6][LABELS]
        for scale in (1e-20, 1.0, 1e20):
            assert all(math.isnan(v) for v in F.neural_collapse(scale * X, LABELS).values())
        assert math.isnan(F.class_rates(X, LABELS, eps=0.5)[1])
        assert not math.isnan(F.class_rates(X, LABELS, eps=0.5)[0])
        metric = wp.metrics.NeuralCollapse()
        for part in (slice(0, 20), slice(20, 40)):
            metric.update(X[part, None], labels=LABELS[part])
        assert all(math.isnan(v) for v in metric.compute().values())

    def test_a_class_whose_samples_are_the_same_in_each_process_alone_is_spread(self):
        X = IMAGES[:4, 0, 0, :6].repeat_interleave(5, 0)
        labels = torch.arange(20) // 5 % 2
        parts = [Sums(), Sums()]
        measure = catalogue()["neural_collapse"]()
        for sums, mine in zip(parts, (slice(0, 10), slice(10, 20)), strict=True):
            layer = SimpleNamespace(
                at=lambda site, mine=mine: X[mine, None],
                pooled=lambda site, how, mine=mine: X[mine].double(),
                norms=lambda site, mine=mine: X[mine, None].norm(dim=-1),
            )
            measure.add(sums, layer, "z_out", labels[mine])
            assert math.isnan(measure.numbers(sums)["nc1"])
        parts[0].merge(parts[1])
        want = F.neural_collapse(X, labels)["nc1"]
        assert measure.numbers(parts[0])["nc1"] == pytest.approx(want, rel=1e-6)

    @pytest.mark.parametrize("name", CLASSES)
    @pytest.mark.parametrize("none", [-100, -1])
    @pytest.mark.parametrize("batch_size", [1, 7])
    def test_labels_below_zero_are_no_class(self, name, none, batch_size, crate):
        labels = LABELS.where(torch.arange(40) % 9 > 1, none)
        kept = labels >= 0
        options = {"progress": False, "batch_size": batch_size}
        with pytest.warns(LeftOutWarning, match="of 40 samples of TensorDataset have no class"):
            got = wp.probe(crate, TensorDataset(IMAGES, labels), [name], **options)
        want = wp.probe(crate, TensorDataset(IMAGES[kept], labels[kept]), [name], **options)
        np.testing.assert_allclose(got.frame["mean"], want.frame["mean"], rtol=1e-9)
        left_out = int((~kept).sum())
        told = f"{left_out} samples of no class \\(labels below 0\\) left out"
        assert got.frame["note"].str.contains(told).all()
        assert got.frame["count"].eq(int(kept.sum())).all()
        assert not want.frame["note"].str.contains("left out").any()
        assert got.run.labels == want.run.labels | {"left_out": left_out}
        nobody = TensorDataset(IMAGES, labels.fill_(none))
        with pytest.warns(LeftOutWarning, match="40 of 40 samples"):
            bare = wp.probe(crate, nobody, [name], **options).frame
        assert bare["mean"].isna().all()
        assert bare["note"].str.contains("none, as no sample has a class").all()

    def test_features_of_no_class_are_left_out(self):
        X, labels = IMAGES[:, 0, 0, :6], LABELS.where(torch.arange(40) > 8, -100)
        kept = labels >= 0
        assert F.neural_collapse(X, labels) == F.neural_collapse(X[kept], labels[kept])
        got, want = F.class_rates(X, labels, eps=0.5), F.class_rates(X[kept], labels[kept], eps=0.5)
        assert torch.equal(torch.stack(got), torch.stack(want))
        for f in (F.neural_collapse, lambda *given: F.class_rates(*given, eps=0.5)):
            with pytest.raises(ShapeError):
                f(X, torch.full((40,), -100))

    def test_a_limit_below_the_classes_counts_them(self, crate):
        data = TensorDataset(IMAGES, torch.arange(40) // 4)
        frame = wp.probe(crate, data, ["neural_collapse"], limit=6, progress=False).frame
        assert frame["mean"].isna().all()
        assert frame["note"].str.match(r"\d classes of 1 to? ?\d? ?samples; none, as").all()

    def test_numbers_have_the_classes_beside_them(self, crate):
        frame = probed(crate, ["neural_collapse", "class_rate"]).frame
        assert frame["mean"].notna().all()
        assert frame["note"].eq("4 classes of 10 samples").all()

    @pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
    def test_an_offset_changes_no_collapse(self, offset):
        X = torch.randn(60, 5, generator=G, dtype=torch.float64)
        X = X + 0.5 * torch.eye(5, dtype=torch.float64)[torch.arange(60) % 5]
        want, got = (F.neural_collapse(x, torch.arange(60) % 5) for x in (X, X + offset))
        assert got == pytest.approx(want, rel=1e-6)

    def test_features_that_do_not_vary_have_no_collapse(self):
        X = torch.full((40, 6), 1e3) * (1 + 1e-7 * torch.randn(40, 6, generator=G))
        assert all(math.isnan(v) for v in F.neural_collapse(X, torch.arange(40) % 4).values())

    @pytest.mark.parametrize("sizes", [(20, 20), (35, 5)])
    def test_two_classes_have_no_geometry(self, sizes, crate):
        labels = torch.arange(2).repeat_interleave(torch.tensor(sizes))
        X = torch.randn(40, 6, generator=G)
        found = F.neural_collapse(X, labels)
        assert found["nc1"] > 0
        assert math.isnan(found["nc2_norms"])
        assert math.isnan(found["nc2_angles"])
        data = TensorDataset(IMAGES, labels)
        frame = wp.probe(crate, data, ["neural_collapse"], progress=False).frame
        nc1, nc2 = (frame[(frame["metric"] == "nc1") == one] for one in (True, False))
        assert nc1["mean"].notna().all()
        assert not nc1["note"].str.contains("none").any()
        assert nc2["mean"].isna().all()
        assert nc2["note"].str.contains("none, as the means of two classes are opposite").all()

    def test_few_points_have_no_dimension_and_say_so(self, crate):
        frame = wp.probe(crate, IMAGES[:6], ["intrinsic_dimension"], progress=False).frame
        assert frame["mean"].isna().all()
        assert frame["note"].eq("6 different points; none, as 20 are needed").all()


def test_unbalanced_classes_are_seen_from_the_mean_of_all_samples():
    X = torch.randn(60, 7, generator=G, dtype=torch.float64)
    labels = torch.tensor([0] * 40 + [1] * 15 + [2] * 5)
    X = X + 2 * torch.eye(3, 7, dtype=torch.float64)[labels]
    means = torch.stack([X[labels == c].mean(0) for c in range(3)])
    within = (X - means[labels]).T @ (X - means[labels]) / 60
    centred = means - X.mean(0)
    want = torch.trace(within @ torch.linalg.pinv(centred.T @ centred / 3, rtol=1e-10)) / 3
    found = F.neural_collapse(X, labels)
    assert found["nc1"] == pytest.approx(want.item())
    norms = centred.norm(dim=1)
    assert found["nc2_norms"] == pytest.approx((norms.std(correction=0) / norms.mean()).item())


def test_scatters_join_in_any_order():
    X = 1e5 + torch.randn(50, 4, generator=G, dtype=torch.float64)
    parts = [Sums(), Sums()]
    for i, piece in enumerate(X.split([1, 9, 17, 23])):
        parts[i % 2].scatter("all", piece)
    parts[0].merge(parts[1])
    scatter, mean, count = parts[0].scattered("all")
    torch.testing.assert_close(scatter / 49, X.T.cov(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mean, X.mean(0))
    assert count == 50


@pytest.mark.parametrize("offset", [0.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("pieces", [1, 7, 60])
def test_similarities_do_not_see_an_offset(offset, pieces):
    X = torch.randn(60, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    Y = X @ torch.ones(5, 4, dtype=torch.float64).tril() + X[:, :4].flip(0)

    def taken(x, y):
        m = Moments()
        for a, b in zip(x.split(pieces), y.split(pieces), strict=True):
            m.add(a, b)
        return cka_of(m), procrustes_of(m), subspace_overlap_of(m, rank=2)

    assert taken(X + offset, Y - 3 * offset) == pytest.approx(taken(X, Y), rel=1e-6)


def test_similarities_of_what_does_not_vary_are_no_number():
    noise = 1e3 * (1 + 1e-8 * torch.randn(20, 3, generator=G))
    X = torch.randn(20, 4, generator=G)
    for a, b in ((noise, X), (X, noise), (torch.ones(20, 2), X)):
        for f in (F.cka, F.procrustes_distance, F.sample_overlap):
            assert math.isnan(f(a, b))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_kurtosis_of_rounding_is_none(dtype):
    eps = torch.finfo(dtype).eps
    Z = (5 * (1 + 0.3 * eps * torch.randn(2, 6, 8, generator=G, dtype=torch.float64))).to(dtype)
    assert F.excess_kurtosis(Z).isnan().all()


def test_every_row_has_its_own_unit(crate):
    data = TensorDataset(IMAGES, LABELS)
    names = ["coherence", "token_coherence", "class_coherence"]
    measures = wp.probe(crate, data, names, progress=False).run["measures"]
    assert measures["chordal_mean"]["unit"] == "0 to sqrt(p)"
    assert measures["coherence_mean"]["unit"] == "0 to 1"
    angles = {row for row, told in measures.items() if told["unit"] == "radians"}
    assert angles == {"principal_angle_min", "principal_angle_mean"}
    counted = {row for row, told in measures.items() if told["unit"] == "directions"}
    assert counted == {"token_dimension", "class_dimension"}


@pytest.mark.parametrize("kind", catalogue().values(), ids=lambda m: m.name)
def test_units_are_of_rows_that_exist(kind):
    assert set(getattr(kind, "units", {})) <= set(getattr(kind, "rows", ()))
    assert not set("();") & set(kind.unit)
