"""A module of no family, mapped by its paths: sites, subspaces, and what is refused at once."""

import pytest
import torch
from torch import nn

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import BasisError, DataError, ProbeError, ShapeError, SiteError

D, K, P, LAYERS = 16, 2, 6, 3


class Block(nn.Module):
    def __init__(self, fused=False):
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.project = nn.Linear(D, (3 if fused else 1) * K * P, bias=False)
        self.out = nn.Linear(K * P, D)
        self.mlp = nn.Sequential(nn.Linear(D, 20), nn.ReLU(), nn.Linear(20, D))
        self.unused = nn.Identity()

    def forward(self, x):
        q, k, v = [self.project(self.norm(x))] * 3
        if q.shape[-1] == 3 * K * P:
            q, k, v = q.chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (K, P)).transpose(1, 2) for t in (q, k, v))
        out = (q @ k.mT / P**0.5).softmax(-1) @ v
        x = x + self.out(out.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x)), {"aside": None}


class Network(nn.Module):
    def __init__(self, fused=False, layers=LAYERS):
        super().__init__()
        self.embed = nn.Linear(4, D)
        self.blocks = nn.ModuleList(Block(fused) for _ in range(layers))

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x, _ = block(x)
        return x


SITES = {
    "z_in": "blocks.{layer}:input",
    "attn_in": "blocks.{layer}.norm:output",
    "heads": "blocks.{layer}.project:output",
    "attn_out": "blocks.{layer}.out:output",
    "z_half": "blocks.{layer}.norm2:input",
    "mlp_hidden": "blocks.{layer}.mlp.1:output",
    "z_out": "blocks.{layer}:output",
}
MAPPING = {
    "heads": K,
    "subspaces": "blocks.{layer}.project.weight",
    "prenorm": "blocks.{layer}.norm",
}


@pytest.fixture
def network():
    return Network().eval()


def test_sites_are_what_the_modules_pass(network):
    x = torch.randn(2, 5, 4)
    model = wp.wrap(network, sites=SITES, example=x, name="mine", **MAPPING)
    assert (model.layers, model.dims.dim, model.dims.heads, model.dims.dim_head) == (3, D, K, P)
    assert (model.dims.tokens, model.name, model.bases) == (5, "mine", ("native",))
    assert set(model.sites) == set(SITES)
    before = network(x)
    with wp.record(model, model.sites) as rec:
        assert torch.equal(network(x), before)
    for layer in (1, 2, 3):
        torch.testing.assert_close(
            rec["z_half", layer], rec["z_in", layer] + rec["attn_out", layer]
        )
        U = model.subspaces(layer)
        V = torch.einsum("bnd,kdp->bknp", rec["attn_in", layer], U)
        torch.testing.assert_close(rec["heads", layer], V)
        assert rec["mlp_hidden", layer].shape == (2, 5, 20)
    assert torch.equal(rec["z_in", 2], rec["z_out", 1])
    assert torch.equal(rec["z_out", 3], before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


@pytest.mark.parametrize("convention", ["paper", "official"])
@pytest.mark.parametrize("built", ["crate", "vit"])
def test_a_mapping_measures_what_the_family_measures(built, convention):
    x = torch.randn(6, 3, 12, 12)
    if built == "crate":
        module = small_crate()
        at = "transformer.layers.{layer}"
        sites = {
            "z_in": f"{at}.0:input",
            "attn_in": f"{at}.0.norm:output",
            "heads": f"{at}.0.fn.qkv:output",
            "z_half": f"{at}.1:input",
            "z_out": f"{at}.1:output",
        }
        rest = {"subspaces": f"{at}.0.fn.qkv.weight", "prenorm": f"{at}.0.norm"}
    else:
        module = small_vit()
        at = "blocks.{layer}"
        sites = {
            "attn_in": f"{at}.norm1:output",
            "heads_k": f"{at}.attn.qkv:output:B n (3 K p)",
            "z_half": f"{at}.norm2:input",
            "z_out": f"{at}:output",
        }
        rest = {
            "subspaces": {"qkv:k": f"{at}.attn.qkv.weight:(3 K p) d"},
            "prenorm": f"{at}.norm1",
        }
    mapped = wp.wrap(module, sites=sites, heads=2, prefix_tokens=1, name="one", **rest)
    known = wp.wrap(module, name="one")
    options = {"convention": convention, "class_token": False, "progress": False}
    got, want = (wp.probe(m, x, **options).frame for m in (mapped, known))
    assert got.equals(want)


def test_every_layout_gives_the_same_heads_and_subspaces(network):
    x = torch.randn(2, 5, 4)

    class Turned(nn.Module):
        def __init__(self, turn):
            super().__init__()
            self.turn = turn

        def forward(self, x):
            return self.turn(x)

    def split(x):
        return x.unflatten(-1, (K, P))

    turns = {
        "B n (K p)": lambda x: x,
        "B n K p": split,
        "B K n p": lambda x: split(x).transpose(1, 2),
    }
    U = network.blocks[0].project.weight.unflatten(0, (K, P)).mT
    weights = {
        "(K p) d": U.mT.flatten(0, 1),
        "d (K p)": U.mT.flatten(0, 1).T,
        "K d p": U,
        "K p d": U.mT,
    }
    want = split(x @ torch.zeros(4, K * P) + 1.0 * torch.arange(K * P)).transpose(1, 2)
    for layout, turn in turns.items():
        module = nn.Sequential(nn.Linear(4, K * P), Turned(turn))
        module[0].weight.data.zero_()
        module[0].bias.data = 1.0 * torch.arange(K * P)
        for name, weight in weights.items():
            module[1].register_buffer("U", weight.detach(), persistent=False)
            model = wp.wrap(
                module,
                sites={"heads": f"{{layer}}:output:{layout}"},
                first_layer=1,
                heads=K,
                subspaces={"own": f"{{layer}}.U:{name}"},
                example=x,
            )
            with wp.record(model, ["heads"]) as rec:
                module(x)
            assert torch.equal(rec["heads", 1], want)
            assert torch.equal(model.subspaces(1, "own"), U)
            assert model.default_basis == "own"


def test_tokens_may_come_first():
    layer = nn.TransformerEncoderLayer(8, nhead=2, dropout=0.0)
    network = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False).eval()
    sites = {"z_out": "layers.{layer}:output:n B d"}
    x = torch.randn(5, 3, 8)
    model = wp.wrap(network, sites=sites, example=x)
    with wp.record(model, ["z_out"]) as rec:
        out = network(x)
    assert torch.equal(rec["z_out", 2], out.transpose(0, 1))
    assert model.dims.tokens == 5


def test_subspaces_may_be_a_function(network):
    def own(module, layer):
        return module.blocks[layer - 1].project.weight.unflatten(0, (K, P)).mT

    model = wp.wrap(network, sites=SITES, subspaces=own)
    assert (model.dims.heads, model.dims.dim_head) == (K, P)
    assert torch.equal(model.subspaces(2), own(network, 2))


def test_without_subspaces_only_bases_of_no_weights_are_left(network):
    model = wp.wrap(network, sites=SITES, heads=K, dim_head=P, dim=D)
    assert model.bases == ()
    x = torch.randn(12, 5, 4)
    with pytest.raises(BasisError, match="basis 'native'.*Use one of: pca, pca:clusters, random"):
        wp.probe(model, x, "compression", progress=False)
    assert len(wp.probe(model, x, ["l0", "coding_rate"], progress=False).frame) == 2 * LAYERS
    pca = wp.probe(model, x, "compression", basis="pca", limit=4, progress=False)
    assert (pca.curve("compression")["mean"] > 0).all()


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"sites": {}}, SiteError, "sites is empty"),
        ({"sites": {"z_oot": "a:input"}}, SiteError, "no site.*Did you mean 'z_out'"),
        ({"sites": {"z_out": "blocks.{layer}"}}, SiteError, "Write 'blocks.{layer}:input'"),
        ({"sites": {"z_out": "blocks.0:output"}}, SiteError, "no {layer}"),
        ({"sites": {"z_out": "block.{layer}:output"}}, SiteError, r"block\.0.*Near it: blocks"),
        ({"sites": {"z_out": "blocks.{layer}:output:n d"}}, SiteError, "n B d, B n d"),
        ({"sites": {"heads": "blocks.{layer}.project:output:B n (3 K p)"}}, SiteError, "layout"),
        ({"layers": 4}, SiteError, r"blocks\.3.*4 layers are asked for"),
        ({"prenorm": "blocks.{layer}.nrm"}, SiteError, r"prenorm names.*blocks\.0\.norm"),
        ({"subspaces": "blocks.{layer}.project.wait"}, SiteError, r"no such tensor.*weight"),
        ({"subspaces": "blocks.{layer}.project.weight:d K"}, BasisError, "layout 'd K'"),
        ({"subspaces": "blocks.{layer}.project.weight:(3 K p) d"}, BasisError, "thirds"),
        ({"subspaces": "blocks.{layer}.project.weight:d (K p)"}, SiteError, "has shape.*d = 12"),
        ({"subspaces": lambda m, _: m.embed.weight}, ShapeError, r"\(16, 4\).*\(K, d, p\)"),
        ({"heads": None}, ProbeError, "Pass heads="),
        ({"heads": 5}, ShapeError, r"\(12, 16\).*K = 5"),
        ({"dim_head": 4}, ShapeError, r"\(2, 16, 6\)"),
        ({"example": torch.randn(2, 5, 3)}, DataError, "does not run"),
        ({"sites": SITES | {"mlp_in": "blocks.{layer}.unused:input"}}, SiteError, "passed 0 times"),
        ({"sites": SITES | {"mlp_in": "blocks.{layer}.mlp.0:output"}}, SiteError, "d = 16"),
        ({"sites": {"z_out": "blocks.{layer}.norm:output"}, "family": "crate"}, ProbeError, "both"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_at_once(network, changes, error, told):
    options = {"sites": SITES, "example": torch.randn(2, 5, 4), **MAPPING} | changes
    with pytest.raises(error, match=told):
        wp.wrap(network, **options)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_what_is_no_tensor_is_named_when_it_passes(network):
    class Named(Network):
        def forward(self, x):
            return {"tokens": super().forward(x)}

    outer = nn.Sequential(Named(), nn.Identity())
    sites = {"z_out": "{layer}:output"}
    with pytest.raises(SiteError, match="the output of module '0' is no tensor: it is a dict"):
        wp.wrap(outer, sites=sites, layers=1, example=torch.randn(2, 5, 4))
    late = wp.wrap(outer, sites=sites, layers=1, dim=D)
    with pytest.raises(SiteError, match="it is a dict"):
        wp.probe(late, torch.randn(2, 5, 4), "l0", progress=False)


def test_paths_that_disagree_ask_for_the_number_of_layers():
    network = nn.Sequential(*Network().blocks, nn.LayerNorm(D))
    sites = {"z_out": "{layer}:output", "attn_in": "{layer}.norm:output"}
    with pytest.raises(SiteError, match=r"4 of site 'z_out', 3 of site 'attn_in'.*layers=3"):
        wp.wrap(network, sites=sites, dim=D)
    assert wp.wrap(network, sites=sites, dim=D, layers=3).layers == 3


def test_a_mapping_without_width_or_sites_is_refused(network):
    with pytest.raises(ShapeError, match="Pass dim="):
        wp.wrap(network, sites={"z_out": "blocks.{layer}:output"})
    with pytest.raises(ShapeError, match="dim_head"):
        wp.wrap(network, sites={"z_out": "blocks.{layer}:output"}, dim=D, heads=3)
    with pytest.raises(ProbeError, match="without sites"):
        wp.wrap(network, heads=2)
    with pytest.raises(ProbeError, match=r"no family known.*sites=\{'z_out'"):
        wp.wrap(network)


def test_a_mapped_module_has_an_anatomy_and_no_family(network):
    model = wp.wrap(network, sites=SITES, **MAPPING)
    assert model.family is None
    assert model.anatomy.name == "custom"


def test_the_training_mode_is_kept(network):
    network.train()
    wp.wrap(network, sites=SITES, example=torch.randn(2, 5, 4), **MAPPING)
    assert network.training
    assert network.blocks[0].training


def test_a_layer_may_be_a_part_of_a_name_as_in_torchvision():
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    module = VisionTransformer(32, 8, 3, 4, 32, 48, num_classes=5).double().eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    block = "encoder.layers.encoder_layer_{layer}"
    model = wp.wrap(
        module,
        sites={
            "z_in": f"{block}:input",
            "attn_in": f"{block}.ln_1:output",
            "attn_out": f"{block}.dropout:output",
            "z_half": f"{block}.ln_2:input",
            "mlp_in": f"{block}.mlp:input",
            "z_out": f"{block}:output",
        },
        heads=4,
        subspaces={
            f"qkv:{part}": f"{block}.self_attention.in_proj_weight:(3 K p) d" for part in "qkv"
        },
        prenorm=f"{block}.ln_1",
        prefix_tokens=1,
        example=images,
    )
    assert (model.layers, model.dims.dim, model.dims.heads) == (3, 32, 4)
    with wp.record(model, ["z_in", "attn_in", "attn_out", "z_half", "z_out"]) as recording:
        module(images)
    for n, inner in enumerate(module.encoder.layers, start=1):
        Z, half = recording["z_in", n], recording["z_half", n]
        q, k, v = (recording["attn_in", n][:, None] @ model.subspaces(n, f"qkv:{s}") for s in "qkv")
        biases = inner.self_attention.in_proj_bias.detach().reshape(3, 1, 4, 1, 8)
        q, k, v = q + biases[0], k + biases[1], v + biases[2]
        A = (q @ k.mT / 8**0.5).softmax(-1)
        update = inner.self_attention.out_proj((A @ v).transpose(1, 2).flatten(2)).detach()
        assert torch.allclose(recording["attn_out", n], update, rtol=0, atol=1e-12)
        assert torch.allclose(Z + update, half, rtol=0, atol=1e-12)
        assert torch.allclose(inner(Z).detach(), recording["z_out", n], rtol=0, atol=1e-12)


def test_steps_that_are_numbered_on_are_found_by_twice_the_layer():
    module = nn.Sequential(*(nn.Linear(8, 8) for _ in range(6)))
    sites = {"z_half": "{2*layer}:output", "z_out": "{2*layer+1}:output"}
    model = wp.wrap(module, sites=sites, example=torch.randn(2, 5, 8))
    assert model.layers == 3
    x = torch.randn(2, 5, 8)
    with wp.record(model, ["z_half", "z_out"]) as recording:
        module(x)
    assert torch.equal(recording["z_half", 2], module[:3](x))
    assert torch.equal(recording["z_out", 3], module(x))
