"""Every kind of block and attention of timm that is read, in float64 against timm's own values."""

import pytest
import timm
import torch
from timm.models.eva import Eva
from timm.models.naflexvit import NaFlexVit, NaFlexVitCfg
from timm.models.vision_transformer import (
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    ResPostBlock,
    VisionTransformer,
)

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError, SiteError

SMALL = {"embed_dim": 16, "depth": 3, "num_heads": 2, "num_classes": 3}
IMAGE = {"img_size": 16, "patch_size": 4}


def named(name, **changes):
    return lambda: timm.create_model(name, **(SMALL | IMAGE | changes))


def plain(**changes):
    return lambda: VisionTransformer(**(SMALL | IMAGE | changes))


def eva(**changes):
    return lambda: Eva(**(SMALL | IMAGE | changes))


def naflex(**changes):
    cfg = {k: v for k, v in SMALL.items() if k != "num_classes"} | {"patch_size": 4} | changes
    return lambda: NaFlexVit(NaFlexVitCfg(**cfg), num_classes=3, img_size=16)


ROPE = {"use_rot_pos_emb": True, "attn_type": "rope"}
KINDS = {
    "plain": plain(),
    "distilled": named("deit_tiny_distilled_patch16_224"),
    "res-post-norm": plain(block_fn=ResPostBlock, init_values=0.5),
    "parallel": plain(block_fn=ParallelScalingBlock, init_values=0.5, qk_norm=True),
    "parallel without bias": plain(block_fn=ParallelScalingBlock, qkv_bias=False),
    "differential": plain(attn_layer="diff", qk_norm=True),
    "differential parallel": plain(block_fn=DiffParallelScalingBlock, init_values=0.5),
    "relative": named("vit_relpos_medium_patch16_224"),
    "relative with a class token": named("vit_relpos_medium_patch16_cls_224"),
    "relative, res-post-norm": named("vit_relpos_medium_patch16_rpn_224"),
    "relative, shared": named("vit_srelpos_medium_patch16_224"),
    "beit": named("beit_base_patch16_224"),
    "beit shared": named(
        "beit_base_patch16_224", use_rel_pos_bias=False, use_shared_rel_pos_bias=True
    ),
    "beitv2": named("beitv2_base_patch16_224"),
    "cait": named("cait_xxs24_224"),
    "eva post-norm": eva(use_post_norm=True),
    "eva with few keys": eva(qkv_fused=False, num_kv_heads=1, **ROPE),
    "eva gated": eva(scale_attn_inner=True, use_rot_pos_emb=True),
    "naflex": naflex(),
    "naflex with rotation": naflex(rope_type="axial", class_token=True, reg_tokens=2),
    "naflex mixed rotation": naflex(rope_type="mixed"),
    "naflex like eva": naflex(rope_type="dinov3", rope_rotate_half=True, swiglu_mlp=True),
    "qwen3": named("qwen3_vit_88m", pos_embed_grid_size=4),
    "qwen3 encoder": named("qwen3_vit_88m_enc", pos_embed_grid_size=4, out_features=8),
    "deepseek": named("deepseek_vit_412m"),
    "deepseek encoder": named("deepseek_vit_412m_enc", out_features=8),
    "geglu": lambda: timm.create_model("vitamin_small_224", depth=2, img_size=64),
}
EVERY = pytest.mark.parametrize("kind", KINDS)


def built(kind):
    torch.manual_seed(0)
    model = KINDS[kind]().eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def images_for(kind):
    side = 64 if kind == "geglu" else 16
    return torch.randn(2, 3, side, side, dtype=torch.float64)


def recorded(kind):
    model, images = built(kind), images_for(kind)
    wrapped = wp.wrap(model, name="tower")
    with torch.inference_mode(), wp.record(wrapped, wrapped.sites) as rec:
        model(images)
    return model, wrapped, images, rec


def close(got, want, within=1e-12):
    assert got.shape == want.shape
    assert (got - want).abs().max() <= within * want.abs().max()


def intermediates(model, images):
    options = {"output_fmt": "NLC", "intermediates_only": True}
    with torch.inference_mode():
        try:
            found = model.forward_intermediates(images, return_prefix_tokens=True, **options)
        except (TypeError, UnboundLocalError):  # towers without prefix tokens
            found = model.forward_intermediates(images, **options)
    return [f if isinstance(f, torch.Tensor) else torch.cat([f[1], f[0]], dim=1) for f in found]


@EVERY
def test_what_leaves_each_layer_is_timms_own(kind):
    model, wrapped, images, rec = recorded(kind)
    for layer, want in enumerate(intermediates(model, images), start=1):
        close(rec["z_out", layer], want)
        if layer > 1:
            assert torch.equal(rec["z_in", layer], rec["z_out", layer - 1])
    assert layer == wrapped.layers


def block_of(model, layer):
    return getattr(model, "encoder", model).blocks[layer - 1]


@EVERY
@torch.inference_mode()
def test_steps_add_up_and_the_hidden_layer_gives_the_second(kind):
    model, wrapped, _, rec = recorded(kind)
    for layer in range(1, wrapped.layers + 1):
        block = block_of(model, layer)
        norm = wrapped.layer(layer).norm
        z_in = rec["z_in", layer]
        within = 1e-6 if kind.startswith("deepseek") else 1e-12  # its norms compute in float32
        close(rec["attn_in", layer], z_in if norm is None else norm(z_in), within)
        if "z_half" not in wrapped.sites:
            close(rec["mlp_hidden", layer], block.mlp_act(hidden_of(block, rec, layer)))
            continue
        z_half = rec["z_half", layer]
        close(z_in + rec["attn_out", layer], z_half)
        hidden = rec["mlp_hidden", layer]
        mlp = block.mlp
        made = mlp.w2(hidden) if hasattr(mlp, "w2") else mlp.fc2(mlp.norm(hidden))
        close(made, mlp(rec["mlp_in", layer]))


def hidden_of(block, rec, layer):
    hidden = block.in_proj(rec["mlp_in", layer]).split(block.in_split, dim=-1)[0]
    return hidden if block.mlp_bias is None else hidden + block.mlp_bias


@EVERY
@torch.inference_mode()
def test_weights_times_values_are_what_the_attention_makes(kind):
    model, wrapped, images, rec = recorded(kind)
    seen = {}
    modules = dict(model.named_modules())
    for layer in range(1, wrapped.layers + 1):
        tap = wrapped.layer(layer).context

        def keep(part, args, layer=layer, tap=tap):
            seen[layer] = args[0] if tap.transform is None else tap.transform(args[0])

        modules[tap.module].register_forward_pre_hook(keep)
    model(images)
    for layer in range(1, wrapped.layers + 1):
        A, V = rec["attn_weights", layer], rec["heads_v", layer]
        V = V.repeat_interleave(A.shape[1] // V.shape[1], dim=1)
        close((A @ V).transpose(1, 2).flatten(2), seen[layer])
        if kind not in ("cait", "differential", "differential parallel"):
            close(A.sum(-1), torch.ones_like(A.sum(-1)))


@EVERY
@torch.inference_mode()
def test_heads_are_projections_of_what_enters(kind):
    _, wrapped, _, rec = recorded(kind)
    for layer in range(1, wrapped.layers + 1):
        for third in "qkv":
            U = wrapped.subspaces(layer, f"qkv:{third}")
            heads = rec[f"heads_{third}", layer]
            got, want = (
                t - t.mean(dim=-2, keepdim=True)
                for t in (heads, rec["attn_in", layer].unsqueeze(1) @ U)
            )
            assert got.shape == want.shape
            assert (got - want).abs().max() <= 1e-12 * heads.abs().max()


@EVERY
@torch.inference_mode()
def test_recording_changes_no_bit(kind):
    model, images = built(kind), images_for(kind)
    before = model(images)
    wrapped = wp.wrap(model)
    with wp.record(wrapped, wrapped.sites):
        during = model(images)
    assert torch.equal(before, during)
    assert torch.equal(before, model(images))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_prefix_tokens_are_those_of_the_layers():
    found = {kind: wp.wrap(built(kind)) for kind in ("cait", "beit", "naflex with rotation")}
    told = {kind: (m.prefix_tokens, m.class_index, m.dims.tokens) for kind, m in found.items()}
    assert told == {
        "cait": (0, None, 16),  # the class token joins behind the layers
        "beit": (1, 0, 17),
        "naflex with rotation": (3, 0, None),
    }
    images = torch.randn(1, 3, 16, 16)
    assert {m.grid(images) for m in found.values()} == {(4, 4)}


def test_parallel_blocks_have_no_half_step():
    model = wp.wrap(built("parallel"))
    assert "attn_out" in model.sites
    with pytest.raises(SiteError, match="'z_half'.*added at once"):
        model.tap("z_half", 1)
    fused = wp.wrap(built("differential parallel"))
    with pytest.raises(SiteError, match="'attn_out'.*one map makes"):
        fused.tap("attn_out", 1)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("xcit_nano_12_p16_224", "between channels"),
        ("volo_d1_224", "outlook attention"),
        ("swin_tiny_patch4_window7_224", "several widths .96, 192, 384, 768"),
        ("samvit_base_patch16", "in windows"),
        ("tnt_s_patch16_224", "two streams"),
        ("convit_tiny", "class token joins in"),
        ("mixer_b16_224", "no attention"),
    ],
)
def test_other_networks_are_refused_with_their_part(name, why):
    with torch.device("meta"):
        network = timm.create_model(name)
    with pytest.raises(ProbeError, match=why):
        wp.wrap(network)
    with pytest.raises(ProbeError, match=why):
        wp.load(f"timm:{name}", weights="random")


def test_a_block_that_only_looks_alike_is_refused():
    model = built("beit")
    attention = model.blocks[1].attn
    attention._get_rel_pos_bias, kept = lambda: 0 * kept(), attention._get_rel_pos_bias
    attention.fused_attn = False  # the unfused form reads the table itself by the same method
    wp.wrap(model)
    attention.scale *= 2
    wp.wrap(model)
    attention.forward = lambda x, **_: type(attention).forward(attention, 1.1 * x)
    with pytest.raises(SiteError, match="layer 2 of Beit"):
        wp.wrap(model)


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:swin_tiny_patch4_window7_224"])
def test_an_architecture_of_no_family_is_refused_before_its_weights_are_fetched(name, monkeypatch):
    def fetch(*_, **__):
        raise AssertionError("it was fetched")

    monkeypatch.setattr("whitebox_probe.checkpoints.fetch", fetch)
    monkeypatch.setattr("whitebox_probe.checkpoints.locate", lambda _: None)
    with pytest.raises(ProbeError, match=f"timm's '{name[5:]}' cannot be probed: it is a "):
        wp.load(name)
    with pytest.raises(AssertionError, match="it was fetched"):
        wp.load("timm:deit_tiny_patch16_224")
