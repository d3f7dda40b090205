"""Measures of all samples together: against whole-array references, in any batching and order."""

import math

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

import whitebox_probe as wp
from whitebox_probe._core.errors import ShapeError
from whitebox_probe.metrics import functional as F
from whitebox_probe.metrics import token_coherence
from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.metrics.measure import DatasetMeasure

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


def test_neural_collapse_of_a_simplex_and_of_a_model(crate):
    C, d = 4, 6
    simplex = torch.eye(C, d, dtype=torch.float64) - 1 / C
    simplex[:, C:] = 0
    labels = torch.arange(C).repeat(5)
    collapsed = F.neural_collapse(simplex[labels], labels)
    assert all(abs(v) < 1e-9 for v in collapsed.values())
    X = features(crate, 3).mean(1).numpy()
    means = np.stack([X[LABELS.numpy() == c].mean(0) for c in range(4)])
    spread = X - means[LABELS.numpy()]
    within = spread.T @ spread / len(X)
    centred = means - means.mean(0)
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
