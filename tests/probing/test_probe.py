"""`probe` against brute force, and what its numbers must not depend on."""

from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import (
    DataError,
    InternalError,
    NonFiniteError,
    ProbeError,
    SiteError,
)
from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.results.table import COLUMNS

IMAGES = torch.randn(23, 3, 12, 12, generator=torch.Generator().manual_seed(8))


def probe(model, data=IMAGES, metrics=None, **options):
    return wp.probe(model, data, metrics, progress=False, **options)


def test_the_frame_has_the_columns_of_the_contract(crate):
    result = probe(crate)
    assert tuple(result.frame.columns) == COLUMNS
    assert set(result.frame["layer"]) == {1, 2, 3}
    sampled = result.frame[result.frame["site"] != "weights"]
    assert (sampled["count"] == 23).all()
    assert (sampled["ci_low"] <= sampled["mean"]).all()
    assert (sampled["mean"] <= sampled["ci_high"]).all()


@pytest.mark.parametrize("name", ["crate", "vit"])
@pytest.mark.parametrize("orthonormal", [False, True])
@pytest.mark.parametrize("prenorm", [False, True])
def test_paper_values_equal_a_loop_over_samples(name, orthonormal, prenorm, request):
    model = request.getfixturevalue(name)
    result = probe(model, orthonormal=orthonormal, prenorm=prenorm, eps=0.4, lam=0.2)
    with wp.record(model, ["z_half", "z_out"]) as rec, torch.no_grad():
        model.module(IMAGES)
    for layer in (1, 2, 3):
        U = model.subspaces(layer).double()
        if orthonormal:
            U = torch.linalg.qr(U).Q
        for i in range(23):
            half, out = rec["z_half", layer][i], rec["z_out", layer][i]
            norm = model.layer(layer).norm if prenorm else nn.Identity()
            with torch.no_grad():
                half_n, out_n = norm(half), norm(out)
            R = oracle.coding_rate(out_n, 0.4)
            compressed = oracle.compression(out_n, U, 0.4)
            want = {
                "coding_rate@z_out": R,
                "compression@z_half": oracle.compression(half_n, U, 0.4),
                "rate_reduction@z_out": R - compressed,
                "sparse_rate_reduction@z_out": R - compressed - 0.2 * np.count_nonzero(out),
                "l0@z_out": oracle.l0(out),
                "hoyer@z_out": oracle.hoyer(out),
                "thresholded@z_out": oracle.thresholded(out),
            }
            for key, value in want.items():
                # The projection is made in float32; the batch may round the forward differently.
                got = result.samples.loc[i, f"{key}:{layer}"]
                assert got == pytest.approx(value, rel=1e-5, abs=1e-4), (key, layer, i)


def test_official_values_equal_the_releases_script(crate):
    result = probe(crate, convention="official")
    kept = {}
    for i, layer in enumerate(crate.module.transformer.layers, start=1):
        layer[0].fn.qkv.register_forward_hook(lambda m, a, out, i=i: kept.update({("v", i): out}))
        layer[1].register_forward_hook(lambda m, a, out, i=i: kept.update({("z", i): out}))
    with torch.no_grad():
        crate.module(IMAGES)
    for layer in (1, 2, 3):
        V = kept["v", layer].unflatten(-1, (2, 6)).transpose(1, 2)
        rates = np.array([oracle.official_compression(v) for v in V])
        row = result.curve("compression").loc[layer - 1]
        assert row["mean"] == pytest.approx(rates.mean(), rel=1e-6)
        assert row["std"] == pytest.approx(rates.std(ddof=1), rel=1e-4)  # small beside the mean
        zeros = np.array([(z == 0).double().mean().item() for z in kept["z", layer]])
        row = result.curve("l0").loc[layer - 1]
        assert 1 - row["mean"] == pytest.approx(zeros.mean(), rel=1e-9)
        assert row["std"] == pytest.approx(zeros.std(ddof=0), rel=1e-9)
    low, high = result.run["bounds"]["compression"]
    assert low < result.curve("compression")["mean"].min()
    assert result.curve("compression")["mean"].max() < high


def test_a_vits_official_convention_measures_the_projections_own_output(vit):
    result = probe(vit, convention="official", basis="qkv:v")
    assert result.curve("compression")["site"].unique().tolist() == ["heads_v"]
    with wp.record(vit, ["heads_v"]) as rec, torch.no_grad():
        vit.module(IMAGES)
    want = np.mean([oracle.official_compression(v) for v in rec["heads_v", 2]])
    assert result.curve("compression").loc[1, "mean"] == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("name", ["crate", "vit"])
def test_no_number_depends_on_batch_size_order_or_threads(name, request):
    model = request.getfixturevalue(name)
    want = probe(model, batch_size=23)
    for size in (1, 7, 64):
        got = probe(model, batch_size=size)
        # float32 matrix products of other sizes round differently in the forward pass.
        np.testing.assert_allclose(got.samples, want.samples, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(got.frame["mean"], want.frame["mean"], rtol=1e-5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one = probe(model, batch_size=23)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(one.samples, want.samples, rtol=1e-5, atol=1e-5)
    order = torch.randperm(23)
    shuffled = probe(model, IMAGES[order])
    np.testing.assert_allclose(
        shuffled.samples.to_numpy(), want.samples.to_numpy()[order], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(shuffled.frame["mean"], want.frame["mean"], rtol=1e-5)


def test_tensors_datasets_and_loaders_give_the_same_numbers(crate):
    want = probe(crate).samples
    labels = torch.arange(23)
    dataset = TensorDataset(IMAGES, labels)
    for data in (dataset, DataLoader(dataset, batch_size=5)):
        np.testing.assert_allclose(probe(crate, data).samples, want, rtol=1e-5, atol=1e-5)
    dropped = probe(crate, DataLoader(dataset, batch_size=5), limit=8)
    assert dropped.samples.index.tolist() == list(range(8))


def test_limit_draws_by_the_seed_and_keeps_the_numbers_of_the_samples(crate):
    whole = probe(crate).samples
    a, b = probe(crate, limit=6, seed=1), probe(crate, limit=6, seed=1)
    c = probe(crate, limit=6, seed=2)
    assert a.samples.index.tolist() == b.samples.index.tolist() == sorted(a.samples.index)
    assert a.samples.index.tolist() != c.samples.index.tolist()
    np.testing.assert_allclose(a.samples, whole.loc[a.samples.index], rtol=1e-5, atol=1e-5)
    assert len(probe(crate, limit=99).samples) == 23


def test_the_module_is_as_it_was_even_after_an_error(crate):
    crate.module.train()
    before = crate.module(IMAGES[:2])
    probe(crate)
    assert crate.module.training
    with pytest.raises(DataError):
        probe(crate, torch.randn(2, 3, 5, 5))
    assert crate.module.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in crate.module.modules())
    assert torch.equal(crate.module(IMAGES[:2]), before)


def test_metrics_may_be_objects_with_their_own_arguments(crate):
    metrics = [wp.metrics.Thresholded(tau=0.5), wp.metrics.CodingRate(eps=1.0)]
    result = probe(crate, metrics=metrics)
    with wp.record(crate, ["z_out"]) as rec, torch.no_grad():
        crate.module(IMAGES)
    want = np.mean([oracle.thresholded(z, 0.5) for z in rec["z_out", 1]])
    assert result.curve("thresholded").loc[0, "mean"] == pytest.approx(want, rel=1e-6)
    assert set(result.frame["metric"]) == {"thresholded", "coding_rate"}


def test_a_metric_can_be_measured_at_another_site(vit):
    result = probe(vit, metrics=["l0", "hoyer"], sites={"hoyer": "mlp_hidden"})
    assert result.curve("hoyer")["site"].unique().tolist() == ["mlp_hidden"]
    assert result.curve("l0")["site"].unique().tolist() == ["z_out"]
    with pytest.raises(SiteError, match="'nowhere'"):
        probe(vit, metrics=["l0"], sites={"l0": "nowhere"})
    with pytest.raises(ProbeError, match="sites name hoyer.*not measured"):
        probe(vit, metrics=["l0"], sites={"hoyer": "z_out"})


def test_measures_see_tokens_that_later_layers_overwrite():
    class Doubled(nn.Module):
        def forward(self, x):
            return x.mul_(2)

    plain, changed = small_vit(), small_vit()
    changed.load_state_dict(plain.state_dict())
    changed.norm = Doubled()
    want = probe(wp.wrap(plain, name="v")).curve("coding_rate")["mean"]
    got = probe(wp.wrap(changed, name="v")).curve("coding_rate")["mean"]
    np.testing.assert_allclose(got, want)


class TestNonFinite:
    def test_nan_weights_are_named(self):
        model = small_crate()
        with torch.no_grad():
            model.transformer.layers[1][1].fn.weight[0, 0] = torch.nan
        with pytest.raises(
            NonFiniteError, match=r"the first is 'transformer\.layers\.1\.1\.fn\.weight'"
        ):
            probe(wp.wrap(model))

    def test_a_nan_image_is_named(self, crate):
        images = IMAGES.clone()
        images[4, 0, 0, 0] = torch.nan
        with pytest.raises(DataError, match="sample 4 of tensor .* NaN"):
            probe(crate, images)
        with pytest.raises(DataError, match="sample 4 of the loader"):
            probe(crate, DataLoader(TensorDataset(images), batch_size=3))

    def test_one_sample_that_overflows_is_counted_alone(self):
        model = small_crate()
        images = IMAGES.clone()
        images[5] = 3e38
        with pytest.raises((NonFiniteError, DataError), match="sample 5"):
            probe(wp.wrap(model), images)


class TestInputErrors:
    def test_a_shape_that_the_model_cannot_take(self, vit):
        with pytest.raises(DataError, match=r"vit cannot take an input of shape \(23, 3, 5, 5\)"):
            probe(vit, torch.randn(23, 3, 5, 5))

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"convention": "journal"}, "unknown convention 'journal'.*paper, official"),
            ({"basis": "native"}, "'native' is not in family"),
            ({"metrics": ["nothing"]}, "unknown metric 'nothing'"),
            ({"metrics": []}, "no metric is named"),
            ({"dtype": "float8"}, "unknown dtype"),
            ({"eps": 0.0}, "eps is 0.0"),
            ({"batch_size": 0}, "batch_size is 0"),
            ({"limit": 0}, "limit is 0"),
            ({"device": "nowhere"}, "device 'nowhere' cannot be used"),
            ({"data": "no-such-data"}, "neither a folder nor a known name"),
            ({"data": 7}, "data of type int"),
        ],
        ids=str,
    )
    def test_each_wrong_argument_is_told_in_one_line(self, vit, options, told):
        with pytest.raises(ProbeError, match=told) as caught:
            probe(vit, **({"data": IMAGES} | options))
        assert "\n" not in str(caught.value)


def test_provenance_is_whole(tmp_path):
    result = wp.probe(wp.load("crate-tiny-fmnist"), "fashion-mnist", limit=4, progress=False)
    run = result.run
    assert run["checkpoint"]["sha256"] == wp.load("crate-tiny-fmnist").entry.sha256
    assert run["data"]["name"] == "fashion-mnist"
    assert len(run["data"]["fingerprint"]) == 16
    assert (run["tokens"], run["dim"], run["heads"], run["dim_head"]) == (50, 96, 4, 24)
    assert {"torch", "timm", "numpy", "python", "whitebox-probe"} <= set(run["versions"])
    assert run["arguments"]["limit"] == 4
    assert run["device"] == "cpu"


def test_memory_does_not_grow_with_the_number_of_samples(crate):
    import tracemalloc

    def peak(count):
        tracemalloc.start()
        probe(crate, torch.utils.data.Subset(TensorDataset(IMAGES), [0] * count))
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(64)
    # One float64 a sample and measure grows; the bootstrap's weights have a fixed share of memory.
    columns = 3 * 7
    assert peak(2048) - peak(1024) < 1024 * 8 * columns * 6 + (16 << 20)


def test_a_measure_that_fails_is_no_fault_of_the_data(crate, monkeypatch):
    def fail(*args):
        raise ValueError("not of ours to expect")

    monkeypatch.setattr(catalogue()["l0"], "measure", fail)
    with pytest.raises(InternalError, match="'z_out' of layer 1 .* ValueError: not of ours"):
        probe(crate, metrics=["l0"])
    assert not any(part._forward_hooks for part in crate.module.modules())


def test_no_memory_for_a_batch_is_told_as_that(crate):
    def fail(module, args):
        raise torch.OutOfMemoryError("the device is full")

    crate.module.register_forward_pre_hook(fail)
    with pytest.raises(DataError, match="no memory for a batch .*smaller batch_size"):
        probe(crate, metrics=["l0"])


def test_the_networks_constants_are_told_apart_from_the_metrics_lambda(tmp_path, crate):
    runs = []
    for lam in (0.1, 1.0):
        model = wp.load("crate-tiny-fmnist", lam=lam)
        result = wp.probe(model, "fashion-mnist", ["l0"], limit=2, lam=0.3, progress=False)
        runs.append(wp.Result.load(result.save(tmp_path / str(lam))).run)
    assert [run["network"]["lam"] for run in runs] == [0.1, 1.0]
    assert [run["network"]["arch"]["lam"] for run in runs] == [0.1, 1.0]
    assert [run["lam"] for run in runs] == [0.3, 0.3]
    assert runs[0]["network"]["arch"]["heads"] == 4
    crate.module.transformer.layers[1][1].fn.step_size = 0.2
    run = wp.probe(crate, torch.randn(2, 3, 12, 12), ["l0"], progress=False).run
    assert run["network"] == {"arch": None, "eta": [0.1, 0.2, 0.1], "lam": 0.1}


def test_results_from_before_the_network_was_recorded_are_compared(tmp_path, crate, vit):
    found = []
    for model in (crate, vit):
        result = wp.probe(model, torch.ones(3, 3, 12, 12), ["l0"], progress=False)
        old = replace(result, run=replace(result.run, network={}))
        found.append(wp.Result.load(old.save(tmp_path / model.name)))
    assert len(wp.compare(found).differences) == 3
