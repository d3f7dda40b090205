"""The attention-only transformer against its formula."""

import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError, DataError, SiteError
from whitebox_probe.models.families.aot import AoT
from whitebox_probe.sites import SITES

SIZES = {"dim": 16, "depth": 3, "heads": 2, "dim_head": 6}
IMAGE = SIZES | {"image_size": 12, "patch_size": 4, "channels": 3, "classes": 5}
TEXT = SIZES | {"vocabulary": 23, "block_size": 12}
KINDS = {"image": IMAGE, "text": TEXT}


def inputs(kind, count=2):
    return torch.randn(count, 3, 12, 12) if kind == "image" else torch.randint(23, (count, 9))


def norm(x, state, key):
    mean = x.mean(-1, keepdim=True)
    scaled = (x - mean) / torch.sqrt(((x - mean) ** 2).mean(-1, keepdim=True) + 1e-5)
    return scaled * state[f"{key}.weight"] + state[f"{key}.bias"]


def naive(state, z, *, heads, causal):
    """Z + MSSA(LN Z), layer by layer, for one sample that is embedded already, in float64."""
    outs = []
    i = 0
    while (at := f"layers.{i}") and f"{at}.fn.qkv.weight" in state:
        y = norm(z, state, f"{at}.norm")
        parts = []
        for U_k in state[f"{at}.fn.qkv.weight"].T.chunk(heads, dim=1):
            V = y @ U_k
            weights = (V @ V.T / V.shape[1] ** 0.5).exp()
            weights = weights.tril() if causal else weights
            parts.append(weights / weights.sum(-1, keepdim=True) @ V)
        update = torch.cat(parts, dim=1) @ state[f"{at}.fn.to_out.0.weight"].T
        z = z + update + state[f"{at}.fn.to_out.0.bias"]
        outs.append(z)
        i += 1
    return outs


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_the_formula(kind):
    model = wp.wrap(AoT(**KINDS[kind]).eval())
    x = inputs(kind)
    before = model.module(x)
    with wp.record(model, model.sites) as rec:
        assert torch.equal(model.module(x), before)
    state = {key: tensor.double() for key, tensor in model.module.state_dict().items()}
    for b in range(2):
        z = rec["z_in", 1][b].double()
        if kind == "text":
            embedded = state["input.words.weight"][x[b]] + state["input.positions.weight"][:9]
            torch.testing.assert_close(z, embedded)
        for layer, want in enumerate(naive(state, z, heads=2, causal=kind == "text"), start=1):
            got = rec["z_out", layer][b].double()
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
        last = want[-1] if kind == "text" else want[0]
        logits = norm(last, state, "head.0") @ state["head.1.weight"].T
        logits = logits + state.get("head.1.bias", 0)
        torch.testing.assert_close(before[b].double(), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_site_has_its_stated_shape_and_meaning(kind):
    model = wp.wrap(AoT(**KINDS[kind]).eval())
    with wp.record(model, model.sites) as rec:
        model.module(inputs(kind))
    sizes = {"B": 2, "n": 10 if kind == "image" else 9, "d": 16, "K": 2, "p": 6}
    for layer in (1, 2, 3):
        for site in model.sites:
            grammar = SITES[site].shape.strip("()").split(", ")
            assert rec[site, layer].shape == tuple(sizes[s] for s in grammar), site
        torch.testing.assert_close(
            rec["z_in", layer] + rec["attn_out", layer], rec["z_half", layer]
        )
        assert torch.equal(rec["z_half", layer], rec["z_out", layer])
        projected = rec["attn_in", layer].unsqueeze(1) @ model.subspaces(layer)
        torch.testing.assert_close(rec["heads", layer], projected, rtol=1e-5, atol=1e-5)
        normed = model.layer(layer).norm(rec["z_in", layer])
        torch.testing.assert_close(normed, rec["attn_in", layer])
        out = (rec["attn_weights", layer] @ rec["heads", layer]).transpose(1, 2).flatten(2)
        to_out = model.module.layers[layer - 1].fn.to_out
        torch.testing.assert_close(to_out(out), rec["attn_out", layer])
    assert model.dims.tokens == (10 if kind == "image" else None)
    assert model.prefix_tokens == (1 if kind == "image" else 0)
    assert model.layer(1).operators == {}


@pytest.mark.parametrize("kind", KINDS)
def test_its_own_state_dict_loads_with_the_heads_named(tmp_path, kind):
    network = AoT(**KINDS[kind])
    torch.save({"model": network.state_dict()}, tmp_path / "x.pt")
    model = wp.load(tmp_path / "x.pt", heads=2)
    assert model.family.name == "aot"
    assert model.dims.dim_head == 6
    x = inputs(kind)
    assert torch.equal(model.module(x), network.eval()(x))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s, k: s.update({f"{k}s": s.pop(k)}), "1 missing: .*; 1 unexpected: "),
        (lambda s, k: s.pop(k), "1 missing: layers.1.norm.weight"),
        (lambda s, k: s.update({k: torch.zeros(3)}), r"wrongly shaped: layers.1.norm.weight"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_keys(tmp_path, change, told):
    state = AoT(**TEXT).state_dict()
    change(state, "layers.1.norm.weight")
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=told):
        wp.load(tmp_path / "x.pt", heads=2)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_probed(kind):
    model = wp.wrap(AoT(**KINDS[kind]))
    result = wp.probe(model, inputs(kind, 6), metrics=["compression", "l0"], progress=False)
    assert len(result.samples) == 6


def test_what_does_not_fit_is_refused():
    with pytest.raises(SiteError, match="no second step"):
        wp.wrap(AoT(**TEXT)).tap("mlp_in", 1)
    with pytest.raises(DataError, match="more than its 12 positions"):
        AoT(**TEXT)(torch.zeros(1, 13, dtype=torch.long))
    for arch in (SIZES, IMAGE | TEXT):
        with pytest.raises(ValueError, match="image_size for images, or vocabulary for text"):
            AoT(**arch)
