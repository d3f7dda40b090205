"""What a pass does on an accelerator, as far as a machine without one can tell."""

import numpy as np
import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import NonFiniteError, ProbeError
from whitebox_probe.metrics._linalg import unguarded
from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import HEADS, LayerTokens
from whitebox_probe.models.registry import build
from whitebox_probe.probing import probe as engine

IMAGES = torch.randn(12, 3, 12, 12, generator=torch.Generator().manual_seed(2))
DEFAULT = [m for m in catalogue().values() if issubclass(m, SampleMeasure) and m.default]


@pytest.mark.parametrize(
    ("kind", "convention"),
    [(kind, convention) for kind in DEFAULT for convention in kind.site],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_default_measure_asks_the_device_for_no_value(kind, convention):
    # Tensors on the meta device have none: whatever the host wants to know of them is an error.
    site = kind.site[convention]
    metric = kind(convention=convention)
    tokens = {
        name: torch.empty((2, 3, 9, 4) if name == HEADS else (2, 9, 12), device="meta")
        for name in metric.inputs(site)
    }
    layer = LayerTokens(tokens, torch.empty(3, 12, 4, device="meta"))
    with unguarded():
        value = metric.measure(layer, site)
    assert (value.shape, value.dtype) == ((2,), torch.float64)


def probe(model, images, monkeypatch, *, hurried, **options):
    monkeypatch.setattr(engine, "_waits", lambda device: hurried)
    passes = []
    handle = model.module.register_forward_pre_hook(lambda *_: passes.append(1))
    try:
        result = wp.probe(model, images, batch_size=4, progress=False, **options)
    finally:
        handle.remove()
    return result, len(passes)


@pytest.mark.parametrize("eps", [0.1, (0.1, 1.0)])
def test_only_a_batch_that_a_guard_is_for_is_measured_again(crate, monkeypatch, eps):
    images = IMAGES.clone()
    options = {"eps": eps, "prenorm": False, "sites": {"coding_rate": "z_in"}}
    with torch.no_grad():  # tokens of huge norm and of rank one: I + scale G loses the identity
        crate.module.pos_embedding.zero_()
        crate.module.to_patch_embedding[2].weight.zero_()
        crate.module.to_patch_embedding[3].bias.copy_(torch.randn(16) * 1e7)
    want, passes = probe(crate, images, monkeypatch, hurried=False, **options)
    assert passes == 3
    got, passes = probe(crate, images, monkeypatch, hurried=True, **options)
    assert passes == 6
    np.testing.assert_allclose(got.samples, want.samples, rtol=1e-12)


def test_a_batch_without_such_tokens_is_measured_once_and_is_the_same(crate, monkeypatch):
    metrics = ["coding_rate", "compression", "l0", "pooled_rate", "attention_entropy"]
    want, _ = probe(crate, IMAGES, monkeypatch, hurried=False, metrics=metrics)
    got, passes = probe(crate, IMAGES, monkeypatch, hurried=True, metrics=metrics)
    assert passes == 3
    assert got.frame.equals(want.frame)


def test_a_measure_that_some_layers_lack_is_no_reason_to_measure_again(monkeypatch):
    sizes = {"image_size": 12, "patch_size": 4, "dim": 16, "depth": 2, "decoder_depth": 2}
    network = build("crate_mae", sizes | {"heads": 2, "dim_head": 8, "lam": 0.5}, source="a test")
    model = wp.wrap(network, name="mae")
    metrics = ["lasso_change", "l0"]
    got, passes = probe(model, IMAGES, monkeypatch, hurried=True, metrics=metrics)
    assert passes == 3
    want, _ = probe(model, IMAGES, monkeypatch, hurried=False, metrics=metrics)
    assert got.frame.equals(want.frame)


def test_sums_over_all_samples_hold_a_batch_once(crate, monkeypatch):
    metrics = ["coding_rate", "pooled_rate", "attention_entropy"]
    options = {"metrics": metrics, "nonfinite": "raise", "eps": 1e-9}
    want, _ = probe(crate, IMAGES, monkeypatch, hurried=False, **options)
    got, passes = probe(crate, IMAGES, monkeypatch, hurried=True, **options)
    assert passes == 6
    assert got.frame.equals(want.frame)
    assert np.array_equal(got.matrices["attention_entropy"], want.matrices["attention_entropy"])


def test_features_that_are_not_finite_are_still_refused(crate, monkeypatch):
    with torch.no_grad():
        crate.module.cls_token.fill_(torch.nan)
    with pytest.raises(NonFiniteError, match="weights that are not finite: .* 'cls_token'"):
        probe(crate, IMAGES, monkeypatch, hurried=True)


def test_a_device_without_double_precision_is_refused(crate):
    with pytest.raises(ProbeError, match="'mps' cannot be used: measures are taken in float64"):
        wp.probe(crate, IMAGES, device="mps", progress=False)
