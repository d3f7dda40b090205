"""Written mappings: each that comes with the package, in float64, and a user's own."""

import pytest
import torch
import torchvision
import yaml
from torch import nn

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError, SiteError
from whitebox_probe.models import named

SIDE, PATCH = 16, 4
IMAGES = torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)
TOKENS = torch.randn(2, 5, 16, dtype=torch.float64)


def torchvision_vit():
    return torchvision.models.VisionTransformer(
        image_size=SIDE,
        patch_size=PATCH,
        num_layers=12,  # layers of two digits
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        num_classes=3,
    )


def encoder(**options):
    layer = nn.TransformerEncoderLayer(16, 2, 32, **options)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)


def lucidrains(network, **options):
    sizes = {"dim": 16, "depth": 3, "heads": 2, "dim_head": 6, "mlp_dim": 20, "num_classes": 3}
    module = pytest.importorskip(f"vit_pytorch.{'vit' if network == 'ViT' else 'simple_vit'}")
    return getattr(module, network)(image_size=SIDE, patch_size=PATCH, **sizes, **options)


def x_encoder(kind="Encoder", **options):
    library = pytest.importorskip("x_transformers")
    return getattr(library, kind)(dim=16, depth=3, heads=2, **({"attn_dim_head": 6} | options))


def x_images():
    library = pytest.importorskip("x_transformers")
    return library.ViTransformerWrapper(
        image_size=SIDE, patch_size=PATCH, num_classes=3, attn_layers=x_encoder()
    )


def x_text():
    library = pytest.importorskip("x_transformers")
    return library.TransformerWrapper(
        num_tokens=20, max_seq_len=16, attn_layers=x_encoder("Decoder")
    )


KINDS = {
    "torchvision": (torchvision_vit, IMAGES),
    "pre-norm": (lambda: encoder(norm_first=True, batch_first=True), TOKENS),
    "pre-norm, tokens first": (lambda: encoder(norm_first=True), TOKENS.transpose(0, 1)),
    "post-norm": (lambda: encoder(batch_first=True), TOKENS),
    "post-norm, tokens first": (encoder, TOKENS.transpose(0, 1)),
    "vit-pytorch": (lambda: lucidrains("ViT"), IMAGES),
    "vit-pytorch, mean": (lambda: lucidrains("ViT", pool="mean"), IMAGES),
    "simple": (lambda: lucidrains("SimpleViT"), IMAGES),
    "x encoder": (x_encoder, TOKENS),
    "x decoder": (lambda: x_encoder("Decoder"), TOKENS),
    "x flash": (lambda: x_encoder("Decoder", attn_flash=True), TOKENS),
    "x rotated": (lambda: x_encoder(attn_dim_head=32, rotary_pos_emb=True), TOKENS),
    "x alibi": (lambda: x_encoder("Decoder", alibi_pos_bias=True), TOKENS),
    "x glu": (lambda: x_encoder(ff_glu=True, use_rmsnorm=True), TOKENS),
    "x images": (x_images, IMAGES),
    "x text": (x_text, torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])),
}
EVERY = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def recorded(request):
    make, inputs = KINDS[request.param]
    torch.manual_seed(0)
    module = make().double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model = wp.wrap(module)
    with torch.inference_mode(), wp.record(model, model.sites) as rec:
        module(inputs)
    return request.param, module, model, inputs, rec


each = pytest.mark.parametrize("recorded", KINDS, indirect=True)


def close(got, want, within=1e-12):
    assert got.shape == want.shape
    assert (got - want).abs().max() <= within * want.abs().max()


def test_every_mapping_is_walked_here():
    used = {"torchvision-vit", "torch-encoder-prenorm", "torch-encoder-postnorm"}
    used |= {"vit-pytorch", "vit-pytorch-simple", "x-transformers"}
    assert set(named.shipped()) == used


@each
@torch.inference_mode()
def test_layers_are_what_the_module_computes(recorded):
    kind, module, model, inputs, rec = recorded
    assert model.layers == (12 if kind == "torchvision" else 3)
    outputs = own_layers(kind, module, inputs)
    for layer in range(1, model.layers + 1):
        close(rec["z_out", layer], outputs[layer - 1])
        if layer > 1:
            assert torch.equal(rec["z_in", layer], rec["z_out", layer - 1])
        known = model.layer(layer)
        norm = known.norm or nn.Identity()
        close(rec["attn_in", layer], norm(rec["z_in", layer]))
        half = rec["z_in", layer] + rec["attn_out", layer]
        close(rec["z_half", layer], half if known.after is None else known.after[0](half))


def own_layers(kind, module, inputs):
    """What leaves each layer, by the library's own modules run one after the other."""
    if kind == "torchvision":
        x = module._process_input(inputs)
        x = torch.cat([module.class_token.expand(len(x), -1, -1), x], dim=1)
        x = x + module.encoder.pos_embedding
        steps = list(module.encoder.layers)
    elif "norm" in kind:
        x, steps = inputs, list(module.layers)
    elif kind in ("vit-pytorch", "vit-pytorch, mean", "simple"):
        found = []
        module.transformer.register_forward_pre_hook(lambda _, args: found.append(args[0]))
        module(inputs)
        x = found[0]
        steps = [lambda x, a=a, f=f: f(a(x) + x) + a(x) + x for a, f in module.transformer.layers]
    else:
        layers = getattr(module, "attn_layers", module)
        kept, hidden = layers.forward, []
        layers.forward = lambda x, **given: (
            hidden.append(kept(x, **(given | {"return_hiddens": True}))) or (hidden[-1][0])
        )
        module(inputs)
        del layers.forward
        states = hidden[0][1].layer_hiddens  # what enters each step, and what leaves the last one
        return states[2::2]
    outputs = []
    for step in steps:
        x = step(x)
        outputs.append(x.transpose(0, 1) if "tokens first" in kind else x)
    return outputs


@each
@torch.inference_mode()
def test_heads_are_projections_and_weights_times_values_make_the_update(recorded):
    kind, module, model, _, rec = recorded
    # The softmax of x-transformers is in float32, whatever its inputs are; not where it is fused.
    within = 1e-6 if kind.startswith("x ") and kind != "x flash" else 1e-12
    for layer in range(1, model.layers + 1):
        for third in "qkv":
            heads = rec[f"heads_{third}", layer]
            linear = rec["attn_in", layer].unsqueeze(1) @ model.subspaces(layer, f"qkv:{third}")
            apart = heads - linear
            close(apart + linear - apart[:, :, :1], linear)  # but for a bias
        made = rec["attn_weights", layer] @ rec["heads_v", layer]
        made = made.transpose(1, 2).flatten(2)
        part = model.layer(layer)
        out = part.out or module.get_submodule(part.context.module)
        close(out(made), rec["attn_out", layer], within)


@each
@torch.inference_mode()
def test_recording_changes_nothing_and_leaves_no_hook(recorded):
    _, module, model, inputs, _ = recorded
    before = module(inputs)
    with wp.record(model, model.sites):
        during = module(inputs)
    # torch's encoder leaves its fused path where a hook is set, and rounds otherwise there.
    assert (during - before).abs().max() <= 1e-13 * before.abs().max()
    assert torch.equal(module(inputs), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())


def test_the_fused_path_of_torchs_encoder_does_not_skip_the_hooks():
    module = encoder(batch_first=True).eval()
    model = wp.wrap(module)
    x = TOKENS.float()
    with torch.inference_mode(), wp.record(model, model.sites) as rec:
        out = module(x)
    assert rec["mlp_hidden", 3].shape == (2, 5, 32)
    with torch.inference_mode():
        torch.testing.assert_close(out, module(x), rtol=1e-5, atol=1e-6)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    with torch.inference_mode(), wp.record(model, ["z_out"]) as rec:
        module(x, mask=mask)
    with pytest.raises(SiteError, match="masked attention"):
        with torch.inference_mode(), wp.record(model, ["attn_weights"]):
            module(x, mask=mask)


def test_tokens_in_front_and_the_grid():
    told = {}
    for kind in ("torchvision", "pre-norm"):
        make, inputs = KINDS[kind]
        model = wp.wrap(make().double().eval())
        grid = model.grid(inputs) if inputs.ndim == 4 else None
        told[kind] = (model.prefix_tokens, model.class_index, grid, model.anatomy.name)
    assert told == {
        "torchvision": (1, 0, (4, 4), "torchvision-vit"),
        "pre-norm": (0, None, None, "torch-encoder-prenorm"),
    }


def test_measures_of_a_mapped_module():
    model = wp.wrap(torchvision_vit().eval(), name="tv")
    metrics = ["compression", "coding_rate", "attention_entropy", "attention_distance"]
    result = wp.probe(model, IMAGES.float(), metrics, progress=False)
    assert result.run["family"] == "torchvision-vit"
    assert result.curve("compression")["mean"].gt(0).all()
    wp.probe(model, IMAGES.float(), "compression", convention="official", progress=False)


class Mine(nn.Module):
    def __init__(self, several=1):
        super().__init__()
        self.embed = nn.Linear(4, 16)
        self.stacks = nn.ModuleList(
            encoder(norm_first=True, batch_first=True) for _ in range(several)
        )

    def forward(self, x):
        x = self.embed(x)
        for stack in self.stacks:
            x = stack(x)
        return x


def test_a_mapping_by_name_finds_its_part_of_a_module():
    module = Mine().eval()
    x = torch.randn(2, 5, 4)
    with pytest.raises(ProbeError, match=r"no family.*torch-encoder-prenorm"):
        wp.wrap(module)
    model = wp.wrap(module, mapping="torch-encoder-prenorm", prefix_tokens=1)
    with torch.inference_mode(), wp.record(model, ["z_out"]) as rec:
        out = module(x)
    assert torch.equal(rec["z_out", 3], out)
    assert (model.prefix_tokens, model.class_index) == (1, 0)
    with pytest.raises(ProbeError, match=r"norm_first is False"):
        wp.wrap(module, mapping="torch-encoder-postnorm")
    with pytest.raises(ProbeError, match=r"in 2 places.*stacks.0, stacks.1"):
        wp.wrap(Mine(2), mapping="torch-encoder-prenorm")


OWN = """
about: a module of a test
sites:
  z_in: stacks.0.layers.{layer}:input
  attn_in: stacks.0.layers.{layer}.norm1:output
  z_half: stacks.0.layers.{layer}.norm2:input
  attn_out: stacks.0.layers.{layer}.dropout1:output
  z_out: stacks.0.layers.{layer}:output
subspaces:
  qkv:k: stacks.0.layers.{layer}.self_attn.in_proj_weight:(3 K p) d
prenorm: stacks.0.layers.{layer}.norm1
heads: stacks.0.layers.0.self_attn.num_heads
run: stacks.0
"""


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(OWN)
    model = wp.wrap(Mine().eval(), mapping=path)
    assert (model.anatomy.name, model.layers, model.bases) == ("mine", 3, ("qkv:k",))
    path.write_text(OWN.replace("layers.{layer}.dropout1:output", "layers.{layer}.dropout2:output"))
    with pytest.raises(SiteError, match="layer 1 of Mine.*not simply added"):
        wp.wrap(Mine().eval(), mapping=path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sites": {"z_oot": "a.{layer}:output"}}, "does not follow the schema"),
        ({"sites": {"z_out": "a.{layer}"}}, "does not follow the schema"),
        ({"sides": {}}, "does not follow the schema"),
        ({"heads": "stacks.0.layers.0.nothing"}, "no number of the module"),
        ({"heads": "training"}, "no number of the module"),
        *(
            ({name: value}, f"{name} must")
            for name in ("heads", "dim_head", "dim", "patch", "layers")
            for value in (0, -1, 4.0, 1e9, 10**9, None, True)
        ),
        *(
            ({name: value}, f"{name} must")
            for name in ("prefix_tokens", "class_token", "first_layer")
            for value in (-1, 4.0, 10**9, True)
        ),
        ({"grid": [2.0, 2]}, "grid.0 must be integer"),
        ({"causal": "banana"}, "'banana', which is neither true nor false"),
        ({"causal": "stacks.0"}, "neither true nor false"),
        ({"batch_first": "banana"}, "neither true nor false"),
        ({"patch": "stacks"}, "no size of patches"),
        ({"second": "stacks.0.layers.{layer}.none:output"}, "'second' names"),
        ({"context": "stacks.0.layers.{layer}.none:output"}, "'context' names"),
        ({"after": ["none.{layer}", "stacks"]}, "norm 1 of 'after' names"),
        ({"last": {"z_out": "none:output"}}, "site 'z_out' of 'last' names"),
        ({"attention": {"module": "none.{layer}", "weight": "x"}}, "'module' of 'attention' names"),
        ({"run": "none"}, "cannot be tried"),
        ({"sites": {"z_out": "stack.{layer}:output"}}, "not in the module"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, change, told):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(OWN) | change))
    with pytest.raises(ProbeError, match=told):
        wp.wrap(Mine().eval(), mapping=path)


@pytest.mark.parametrize("site", ["z_in", "attn_in"])
def test_a_site_by_which_others_are_checked_is_asked_for(tmp_path, site):
    fields = yaml.safe_load(OWN) | {"heads": 2}
    fields["sites"]["heads_k"] = "stacks.0.layers.{layer}.keys:output"
    del fields["sites"][site]
    module = Mine().eval()
    for layer in module.stacks[0].layers:  # its keys by a module of their own
        layer.keys = nn.Linear(16, 16)
        layer.norm1.register_forward_hook(lambda _, args, out, keys=layer.keys: keys(out) * 0 + out)
    fields["subspaces"] = {"qkv:k": "stacks.0.layers.{layer}.keys.weight"}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(fields))
    with pytest.raises(SiteError, match=f"'{site}' is not mapped"):
        wp.wrap(module, mapping=path)


def test_a_class_token_of_a_file_counts_without_tokens_in_front(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(OWN + "class_token: 4\n")
    model = wp.wrap(Mine().eval(), mapping=path)
    assert (model.class_index, model.extra_tokens) == (4, (4,))
    path.write_text(OWN + "class_token: 5\n")
    with pytest.raises(ProbeError, match="token 5 is not there"):
        wp.probe(wp.wrap(Mine().eval(), mapping=path), torch.randn(2, 5, 4), "l0", progress=False)


def test_other_names_are_refused(tmp_path):
    with pytest.raises(ProbeError, match=r"no mapping 'torchvision'.*Did you mean"):
        wp.wrap(Mine(), mapping="torchvision")
    with pytest.raises(ProbeError, match="cannot be read"):
        wp.wrap(Mine(), mapping=tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: b: c")
    with pytest.raises(ProbeError, match="is no YAML"):
        wp.wrap(Mine(), mapping=tmp_path / "bad.yaml")
    with pytest.raises(ProbeError, match="both given"):
        wp.wrap(Mine(), mapping="x-transformers", sites={"z_out": "a.{layer}:output"})
    with pytest.raises(ProbeError, match="both given"):
        wp.wrap(Mine(), family="crate", mapping="x-transformers")


def test_an_option_that_a_mapping_does_not_know_leaves_a_site_out_and_says_why():
    module = x_encoder(attn_pre_talking_heads=True).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model = wp.wrap(module)
    assert "attn_weights" not in model.sites
    with pytest.raises(SiteError, match="softmax of its heads"):
        model.tap("attn_weights", 1)
    scaled = x_encoder(scale_residual=True).eval()
    with torch.no_grad():
        for parameter in scaled.parameters():
            parameter.add_(0.3)
    with pytest.raises(SiteError, match="not simply added"):
        wp.wrap(scaled)


def test_numbered_paths():
    from whitebox_probe.models.layouts import at

    assert at("a_{layer}.{2*layer}.{2*layer+1}", 3) == "a_3.6.7"
