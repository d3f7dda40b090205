"""nanoGPT's GPT-2: its files, and every site against transformers' GPT-2 of the same weights."""

import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import ArchitectureError
from whitebox_probe.models.registry import build

ARCH = {"vocabulary": 23, "block_size": 12, "dim": 16, "depth": 3, "heads": 2}
IDS = torch.randint(0, 23, (2, 9), generator=torch.Generator().manual_seed(0))
TURNED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")


def network(**changes):
    torch.manual_seed(0)
    module = build("nanogpt", ARCH | changes, source="here").double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module


def recorded(module):
    model = wp.wrap(module, name="one")
    with torch.inference_mode(), wp.record(model, model.sites) as rec:
        out = module(IDS)
    return model, rec, out


@pytest.mark.parametrize("act", ["gelu", "relu"])
def test_it_computes_and_is_read_as_transformers_gpt2(act):
    transformers = pytest.importorskip("transformers")
    ours = network(act=act)
    config = transformers.GPT2Config(
        n_embd=16,
        n_layer=3,
        n_head=2,
        vocab_size=23,
        n_positions=12,
        activation_function=act,
        bos_token_id=0,
        eos_token_id=0,
    )
    theirs = transformers.GPT2LMHeadModel(config).double().eval()
    weights = {k: v.mT if k.endswith(TURNED) else v for k, v in ours.state_dict().items()}
    theirs.load_state_dict(weights)
    model, rec, out = recorded(ours)
    known = wp.wrap(theirs.transformer, name="two")
    with torch.inference_mode(), wp.record(known, known.sites) as other:
        hidden = theirs.transformer(IDS).last_hidden_state
        torch.testing.assert_close(out[:, 0], theirs.lm_head(hidden)[:, -1], rtol=1e-12, atol=1e-12)
    assert (model.dims, set(known.sites) <= set(model.sites)) == (known.dims, True)
    for layer in (1, 2, 3):
        for site in known.sites:
            torch.testing.assert_close(rec[site, layer], other[site, layer], rtol=1e-12, atol=1e-12)
        for basis in ("qkv:q", "qkv:k", "qkv:v"):
            assert torch.equal(model.subspaces(layer, basis), known.subspaces(layer, basis))


@pytest.mark.parametrize("bias", [True, False])
def test_nanogpts_own_file_is_recognised(tmp_path, bias):
    module = network(bias=bias).float()
    names = {"n_layer": 3, "n_head": 2, "n_embd": 16, "block_size": 12, "bias": bias}
    held = {f"_orig_mod.{key}": value for key, value in module.state_dict().items()}
    for number in range(3):  # the causal mask that older versions keep
        held[f"_orig_mod.transformer.h.{number}.attn.bias"] = torch.ones(1, 1, 12, 12).tril()
    torch.save(
        {"model": held, "model_args": names, "iter_num": 3, "config": {"bias": bias}},
        tmp_path / "ckpt.pt",
    )
    with pytest.raises(ArchitectureError, match="act=gelu or relu"):
        wp.load(tmp_path / "ckpt.pt")
    model = wp.load(tmp_path / "ckpt.pt", act="gelu")
    assert (model.family.name, model.dims.heads) == ("nanogpt", 2)
    with torch.inference_mode():
        assert torch.equal(model.module(IDS), module(IDS))


def test_weights_times_values_are_what_the_attention_makes():
    module = network(bias=False)
    model, rec, _ = recorded(module)
    for layer in (1, 2, 3):
        A, V = rec["attn_weights", layer], rec["heads_v", layer]
        with torch.inference_mode():
            made = (A @ V).transpose(1, 2).flatten(2)
            out = module.transformer.h[layer - 1].attn.c_proj(made)
        torch.testing.assert_close(out, rec["attn_out", layer], rtol=1e-12, atol=1e-12)
        assert not A.triu(1).any()
    assert (model.prefix_tokens, model.layer(1).causal) == (0, True)
