"""Attention that looks ahead or does not: what a configuration says is tried."""

from dataclasses import replace

import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_vit
from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.causality import expect_causality

transformers = pytest.importorskip("transformers")
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 48, "vocab_size": 60}


def network(name, **options):
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING[name](**SIZES, **options)
    return transformers.AutoModel.from_config(config).eval()


@pytest.mark.parametrize(
    ("name", "options", "causal"),
    [
        ("bert", {}, False),
        ("bert", {"is_decoder": True}, True),
        ("llama", {}, True),
        ("electra", {}, False),
    ],
)
def test_what_is_stated_and_true_passes(name, options, causal):
    assert wp.wrap(network(name, **options)).layer(1).causal is causal


def tried(model, *, causal):
    """The trial of a model whose layers say of themselves what they are told to."""
    layers = {n: replace(model.layer(n), causal=causal) for n in range(1, model.layers + 1)}
    trial = model.anatomy.trial(model.module)
    with wp.record(model, "attn_out") as recording, torch.inference_mode():
        trial()
    before = {n: recording["attn_out", n] for n in layers}
    with torch.inference_mode():
        expect_causality(model, layers, trial, before)


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_what_is_stated_against_what_the_attention_does_is_refused(name):
    model = wp.wrap(network(name))
    causal = name == "llama"
    tried(model, causal=causal)
    told = "layer 1 .* does not look ahead" if causal else "layer 1 .* attention looks ahead"
    with pytest.raises(SiteError, match=told):
        tried(model, causal=not causal)


def test_a_network_whose_attention_is_switched_off_tells_nothing():
    net = network("bert")
    for layer in net.encoder.layer:
        torch.nn.init.zeros_(layer.attention.output.dense.weight)
    assert wp.wrap(net).layers == 2


@pytest.mark.parametrize("scale", [None, 1e-6])
def test_vision_transformers_pass(scale):
    assert wp.wrap(small_vit(init_values=scale)).layers > 1
