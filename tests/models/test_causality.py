"""Attention that looks ahead or does not: what a configuration says is tried."""

import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_vit
from whitebox_probe._core.errors import SiteError

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


def test_an_encoder_that_is_stated_to_be_causal_is_refused():
    net = network("bert")
    for layer in net.encoder.layer:
        layer.attention.self.is_causal = True  # its masks still let everything through
        layer.attention.self.forward = ahead(layer.attention.self)
    with pytest.raises(SiteError, match="layer 1 .* attention looks ahead"):
        wp.wrap(net)


def ahead(attention):
    """An attention whose every output holds the mean of all tokens."""
    own = attention.forward

    def forward(hidden_states, *args, **named):
        out = own(hidden_states, *args, **named)
        return (out[0] + hidden_states.mean(dim=1, keepdim=True), *out[1:])

    return forward


def test_a_decoder_that_is_not_stated_to_be_one_is_refused():
    net = network("llama")
    for layer in net.layers:
        layer.self_attn.is_causal = False
    net.config.is_decoder = False
    causal = torch.full((4, 4), float("-inf")).triu(1)[None, None]
    for layer in net.layers:
        own = layer.self_attn.forward
        layer.self_attn.forward = masked(own, causal)
    with pytest.raises(SiteError, match="does not look ahead"):
        wp.wrap(net)


def test_a_network_whose_attention_is_switched_off_tells_nothing():
    net = network("bert")
    for layer in net.encoder.layer:
        torch.nn.init.zeros_(layer.attention.output.dense.weight)
    assert wp.wrap(net).layers == 2


@pytest.mark.parametrize("scale", [None, 1e-6])
def test_vision_transformers_pass(scale):
    assert wp.wrap(small_vit(init_values=scale)).layers > 1


def masked(own, mask):
    return lambda *args, **named: own(*args, **named | {"attention_mask": mask})
