"""How exact a pass is: rates against float64, half-precision forwards, the faster products."""

import numpy as np
import oracle
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whitebox_probe as wp
from whitebox_probe._core import onednn
from whitebox_probe._core.errors import NonFiniteError
from whitebox_probe.data import open_data

MODELS = ("crate-tiny-fmnist", "crate-tiny-fmnist-init", "vit-tiny-fmnist", "vit-tiny-fmnist-init")


def pictures(model, count):
    from whitebox_probe.probing.collector import transform_of

    source = open_data("fashion-mnist", transform=transform_of(model.preprocess), limit=count)
    return next(iter(source.batches(count, 0))).inputs


def tokens_after_norm(model, images, site, layer, **autocast):
    with wp.record(model, site) as recording, torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(autocast)):
            model.module(images)
    norm = model.family.prenorm(model.module, layer)
    with torch.no_grad():
        return norm(recording[site, layer].float()).double().numpy()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("eps", [0.01, 0.1])
def test_rates_of_the_shipped_models_equal_float64_to_five_digits(name, eps):
    # Their tokens are nearly of low rank: float32 Gram matrices were off by up to 3e-4 here.
    model = wp.load(name)
    images = pictures(model, 8)
    options = {"eps": eps, "fast": False, "progress": False}
    result = wp.probe(model, images, ["coding_rate", "compression"], **options)
    for layer in (1, 5, 8):
        U = model.subspaces(layer).double().numpy()
        Z = tokens_after_norm(model, images, "z_out", layer)
        want = [oracle.coding_rate_by_singular_values(z, eps) for z in Z]
        np.testing.assert_allclose(result.values("coding_rate")[:, layer - 1], want, rtol=1e-5)
        Z = tokens_after_norm(model, images, "z_half", layer)
        want = [oracle.compression_by_singular_values(z, U, eps) for z in Z]
        np.testing.assert_allclose(result.values("compression")[:, layer - 1], want, rtol=1e-5)


@pytest.mark.parametrize("name", ["crate-tiny-fmnist", "vit-tiny-fmnist"])
def test_measures_of_a_half_precision_forward_are_taken_in_full_precision(name):
    model = wp.load(name)
    images = pictures(model, 8)
    result = wp.probe(model, images, ["coding_rate", "l0"], dtype="bfloat16", progress=False)
    for layer in (1, 8):
        Z = tokens_after_norm(model, images, "z_out", layer, half=True)
        want = [oracle.coding_rate_by_singular_values(z, 0.1) for z in Z]
        np.testing.assert_allclose(result.values("coding_rate")[:, layer - 1], want, rtol=1e-5)


def test_a_model_in_half_precision_is_measured(vit):
    vit.module.to(torch.bfloat16)
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    result = wp.probe(vit, images.to(torch.bfloat16), progress=False)
    assert np.isfinite(result.frame["mean"].dropna()).all()


@pytest.mark.parametrize("amplitude", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("eps", [0.01, 0.1])
def test_rates_in_subspaces_of_long_tokens_of_low_rank_are_right(vit, amplitude, eps):
    # A float32 projection has noise in every direction, which the guard of the factor cannot see.
    with torch.no_grad():
        vit.module.pos_embed += amplitude * torch.randn(16, generator=torch.Generator())
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    options = {"prenorm": False, "fast": False, "progress": False}
    one = wp.probe(vit, images, ["compression"], eps=eps, **options).values("compression")
    both = wp.probe(vit, images, ["compression"], eps=(eps, 1.0), **options)
    with wp.record(vit, "z_half") as recording, torch.no_grad():
        vit.module(images)
    for layer in range(1, vit.layers + 1):
        U, Z = vit.subspaces(layer).double().numpy(), recording["z_half", layer].double().numpy()
        want = [oracle.compression_by_singular_values(z, U, eps) for z in Z]
        np.testing.assert_allclose(one[:, layer - 1], want, rtol=1e-5)
        swept = both.values("compression", eps=eps)[:, layer - 1]
        np.testing.assert_allclose(swept, want, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-25, 1e-22, 1.0, 1e20])
def test_scale_free_measures_do_not_leave_the_range_of_float32(scale):
    Z = torch.randn(1, 20, 96, generator=torch.Generator().manual_seed(0))
    f = wp.metrics.functional
    for measure in (f.hoyer, f.thresholded, f.l0):
        want = measure(Z.double())
        torch.testing.assert_close(measure(Z * scale), want, rtol=1e-5, atol=1e-5)
    V = Z.unflatten(-1, (4, 24)).transpose(1, 2) * scale
    metric = wp.metrics.Compression(convention="official")
    metric.update(V)
    torch.testing.assert_close(metric.compute(), f.official_compression(V)[0], rtol=1e-5, atol=0)


def test_a_half_precision_model_is_measured_after_a_norm_in_full_precision(vit):
    images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    images = images.to(torch.bfloat16)
    vit.module.to(torch.bfloat16)
    result = wp.probe(vit, images, ["coding_rate"], progress=False)
    with wp.record(vit, "z_out") as recording, torch.no_grad():
        vit.module(images)
    norm = vit.family.prenorm(vit.module, 2)
    Z = recording["z_out", 2].double()
    weight, bias = norm.weight.double(), norm.bias.double()
    Z = F.layer_norm(Z, (16,), weight, bias, norm.eps).detach().numpy()
    want = [oracle.coding_rate(z, 0.1) for z in Z]
    np.testing.assert_allclose(result.values("coding_rate")[:, 1], want, rtol=1e-5)


def test_a_measure_of_each_head_is_not_averaged_over_dropped_samples(vit):
    images = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    images[2] = 3e38
    with pytest.raises(NonFiniteError, match="of all samples together, or of each head"):
        wp.probe(vit, images, ["attention_entropy"], nonfinite="drop", progress=False)


class TestOneDNN:
    @pytest.mark.parametrize(
        ("weight", "bias"),
        [
            (torch.randn(7), None),
            (torch.randn(0, 7), None),
            (torch.randn(5, 7), torch.zeros(1)),
            (torch.randn(5, 7), torch.zeros(())),
        ],
        ids=["one output", "no output", "short bias", "scalar bias"],
    )
    def test_maps_that_a_convolution_cannot_do_are_left_to_torch(self, weight, bias):
        x = torch.randn(2, 3, 7)
        assert torch.equal(onednn.linear(x, weight, bias), F.linear(x, weight, bias))

    @pytest.mark.parametrize("how", ["module", "function"])
    def test_what_is_compiled_whole_runs_as_it_is(self, how, vit):
        for block in vit.module.blocks:
            if how == "module":
                block.mlp.compile(fullgraph=True, backend="eager")
            else:
                block.mlp.forward = torch.compile(
                    block.mlp.forward, fullgraph=True, backend="eager"
                )
        images = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(1))
        slow = wp.probe(vit, images, ["hoyer"], fast=False, progress=False)
        fast = wp.probe(vit, images, ["hoyer"], progress=False)
        np.testing.assert_allclose(fast.values("hoyer"), slow.values("hoyer"), rtol=1e-5)

    @pytest.mark.parametrize("shape", [(1, 1, 7), (1, 9, 7), (3, 1, 7), (4, 9, 7)])
    @pytest.mark.parametrize("bias", [True, False])
    def test_it_gives_the_linear_map(self, shape, bias):
        map_ = nn.Linear(7, 5, bias=bias)
        x = torch.randn(shape)
        got = onednn.linear(x, map_.weight, map_.bias)
        assert got.shape == (*shape[:2], 5)
        assert got.is_contiguous()
        want = F.linear(x.double(), map_.weight.double(), map_.bias.double() if bias else None)
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)

    def test_strided_inputs_are_the_same(self):
        x, weight = torch.randn(4, 7, 9).mT, torch.randn(7, 5).mT
        torch.testing.assert_close(onednn.linear(x, weight), F.linear(x, weight))

    @pytest.mark.parametrize("x", [torch.randn(6, 7), torch.randn(2, 3, 7).double()])
    def test_what_it_is_not_for_is_left_to_torch(self, x):
        weight = torch.randn(5, 7, dtype=x.dtype)
        assert torch.equal(onednn.linear(x, weight), F.linear(x, weight))

    def test_a_routed_module_runs_its_maps_through_it(self, monkeypatch):
        calls = []
        inner = onednn.linear
        monkeypatch.setattr(onednn, "linear", lambda *a, **k: calls.append(1) or inner(*a, **k))
        module, x = nn.Linear(7, 5), torch.randn(2, 3, 7)
        with onednn.routed(module):
            module(x)
            F.linear(input=x, weight=module.weight)
        module(x)
        assert len(calls) == 2

    def test_a_compiled_module_and_autocast_are_left_alone(self):
        module = nn.Sequential(nn.Linear(7, 5))
        module[0]._orig_mod = None  # as torch.compile marks what it wraps
        with onednn.routed(module) as mode:
            assert mode is None
        with torch.autocast("cpu", dtype=torch.bfloat16), onednn.routed(nn.Linear(7, 5)) as mode:
            assert mode is None

    @pytest.mark.parametrize("kind", ["crate", "vit"])
    def test_a_probe_without_it_measures_the_very_tokens_of_a_recording(self, kind, request):
        model = request.getfixturevalue(kind)
        images = torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(1))
        slow = wp.probe(model, images, ["l1_l2"], fast=False, progress=False)
        fast = wp.probe(model, images, ["l1_l2"], progress=False)
        with wp.record(model, "z_out") as recording, torch.inference_mode():
            model.module(images)
        for layer in range(1, model.layers + 1):
            want = wp.metrics.functional.l1_l2(recording["z_out", layer])
            assert torch.equal(torch.as_tensor(slow.values("l1_l2")[:, layer - 1].copy()), want)
        np.testing.assert_allclose(fast.values("l1_l2"), slow.values("l1_l2"), rtol=1e-5)
        assert (fast.run["arguments"]["fast"], slow.run["arguments"]["fast"]) == (True, False)
