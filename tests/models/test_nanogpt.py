"""nanoGPT's GPT-2: its files, and every site against transformers' GPT-2 of the same weights."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import whitebox_probe as wp
from whitebox_probe._core.errors import ArchitectureError, CheckpointError, ProbeError
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


class LayerNorm(nn.Module):
    """With the structure of nanoGPT's own code, as all that follows here."""

    def __init__(self, ndim, bias):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(ndim))
        self.bias = nn.Parameter(torch.zeros(ndim)) if bias else None

    def forward(self, x):
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.attn_dropout, self.resid_dropout = nn.Dropout(0.1), nn.Dropout(0.1)
        self.n_head, self.n_embd, self.flash = config.n_head, config.n_embd, config.flash
        self.power = -0.5
        mask = torch.ones(config.block_size, config.block_size).tril()
        self.register_buffer("bias", mask.view(1, 1, config.block_size, config.block_size))

    def forward(self, x):
        q, k, v = self.c_attn(x).split(self.n_embd, dim=2)
        q, k, v = (y.unflatten(2, (self.n_head, -1)).transpose(1, 2) for y in (q, k, v))
        if self.flash:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            att = q @ k.transpose(-2, -1) * k.shape[-1] ** self.power
            att = att.masked_fill(self.bias[..., : x.shape[1], : x.shape[1]] == 0, -torch.inf)
            y = self.attn_dropout(F.softmax(att, dim=-1)) @ v
        return self.resid_dropout(self.c_proj(y.transpose(1, 2).flatten(2)))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.gelu, self.dropout = nn.GELU(), nn.Dropout(0.1)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x):
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1, self.attn = LayerNorm(config.n_embd, config.bias), CausalSelfAttention(config)
        self.ln_2, self.mlp = LayerNorm(config.n_embd, config.bias), MLP(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        parts = {"wte": nn.Embedding(23, config.n_embd), "wpe": nn.Embedding(12, config.n_embd)}
        parts |= {"drop": nn.Dropout(0.1), "h": nn.ModuleList([Block(config) for _ in range(3)])}
        self.transformer = nn.ModuleDict(parts | {"ln_f": LayerNorm(config.n_embd, config.bias)})
        self.lm_head = nn.Linear(config.n_embd, 23, bias=False)
        self.transformer.wte.weight = self.lm_head.weight

    def forward(self, idx, targets=None):
        t = self.transformer
        x = t.drop(t.wte(idx) + t.wpe(torch.arange(idx.shape[1], device=idx.device)))
        for block in t.h:
            x = block(x)
        return self.lm_head(t.ln_f(x)[:, [-1], :]), None


def their_model(*, bias=True, flash=True):
    sizes = {"n_embd": 16, "n_head": 2, "block_size": 12, "bias": bias, "flash": flash}
    theirs = GPT(SimpleNamespace(**sizes))
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return theirs.double()


@pytest.mark.parametrize(("bias", "flash"), [(True, True), (False, False)])
def test_a_module_of_nanogpts_own_code_is_read_as_its_file(tmp_path, bias, flash):
    theirs = their_model(bias=bias, flash=flash)
    held = {"model": theirs.state_dict(), "model_args": {"n_head": 2, "bias": bias}}
    torch.save(held, tmp_path / "ckpt.pt")
    known = wp.load(tmp_path / "ckpt.pt", act="gelu")
    known.module.double()
    seen = wp.wrap(theirs)
    assert (seen.family.name, seen.dims, seen.sites) == ("nanogpt", known.dims, known.sites)
    assert theirs.training
    theirs.eval()
    with torch.inference_mode():
        with wp.record(seen, seen.sites) as got:
            one = theirs(IDS)[0]
        with wp.record(known, known.sites) as want:
            other = known.module(IDS)
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    for layer in (1, 2, 3):
        for site in seen.sites:
            torch.testing.assert_close(got[site, layer], want[site, layer], rtol=1e-12, atol=1e-12)
        for basis in ("qkv:q", "qkv:k", "qkv:v"):
            same = known.subspaces(layer, basis)
            assert torch.equal(seen.subspaces(layer, basis), same)
    a, b = (wp.probe(m, IDS, ["compression", "l0"], progress=False) for m in (seen, known))
    for metric in ("compression", "l0"):
        want_mean = b.curve(metric)["mean"].to_numpy()
        assert a.curve(metric)["mean"].to_numpy() == pytest.approx(want_mean, rel=1e-9)


@pytest.mark.parametrize("part", ["scale", "block", "norm"])
def test_blocks_that_compute_otherwise_are_refused(part):
    theirs = their_model()
    block = theirs.transformer.h[1]
    if part == "scale":
        block.attn.flash, block.attn.power = False, -1
    elif part == "block":
        block.forward = lambda x: x + block.mlp(block.ln_2(block.attn(block.ln_1(x))))
    else:
        block.ln_1 = nn.Identity()
        block.forward = lambda x: Block.forward(block, 2 * x)
    with pytest.raises(ProbeError, match="layer 2 of GPT"):
        wp.wrap(theirs)


@pytest.mark.parametrize("name", ["n_layer", "n_embd", "n_head", "act"])
def test_a_number_that_python_does_not_print_is_told(name, tmp_path):
    named = {"n_head": 2, name: 10**5000}
    held = {"model": network().float().state_dict(), "model_args": named}
    torch.save(held, tmp_path / "ckpt.pt")
    act = {} if name == "act" else {"act": "gelu"}
    with pytest.raises(CheckpointError, match="a number of 16610 bits"):
        wp.load(tmp_path / "ckpt.pt", **act)
    named = {"n_head": 2, "act": "gelu", "seed": 2**128}  # as of numpy's SeedSequence
    torch.save({"model": held["model"], "model_args": named}, tmp_path / "ckpt.pt")
    assert wp.load(tmp_path / "ckpt.pt").dims.heads == 2
    torch.save({"model": held["model"]}, tmp_path / "ckpt.pt")
    with pytest.raises(CheckpointError, match="cannot have a number of 16610 bits heads"):
        wp.load(tmp_path / "ckpt.pt", heads=10**5000, act="gelu")


@pytest.mark.parametrize("told", [{"n_layer": 4}, {"n_embd": 32}, {"bias": False}])
def test_a_file_that_is_not_what_its_arguments_say_is_refused(told, tmp_path):
    """A state dict that lost its last layer is a whole one of a network with fewer."""
    names = {"n_layer": 3, "n_head": 2, "n_embd": 16, "block_size": 12, "bias": True}
    held = network(bias=True).float().state_dict()
    for each in ({}, told):
        torch.save({"model": held, "model_args": names | each}, tmp_path / "ckpt.pt")
        if not each:
            assert wp.load(tmp_path / "ckpt.pt", act="gelu").dims.layers == 3
            continue
        with pytest.raises(CheckpointError, match="is not what is written of it"):
            wp.load(tmp_path / "ckpt.pt", act="gelu")
