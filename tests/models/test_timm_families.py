"""Each kind of timm vision transformer: every site against timm's own blocks, output untouched."""

from functools import partial

import pytest
import torch
from timm.layers import GluMlp, SwiGLU
from timm.layers.pos_embed_sincos import apply_rot_embed_cat
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import ParallelThingsBlock, VisionTransformer

import whitebox_probe as wp
from whitebox_probe import checkpoints
from whitebox_probe._core.errors import ProbeError, SiteError
from whitebox_probe.models.registry import build, family_named

SMALL = {
    "img_size": 16,
    "patch_size": 4,
    "num_classes": 3,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
    "mlp_ratio": 2,
}
TOWERS = {
    "plain": (VisionTransformer, {}),
    "deit": (VisionTransformer, {"no_embed_class": True, "init_values": 1e-6}),
    "deit distilled": (VisionTransformerDistilled, {}),
    "dino": (VisionTransformer, {"num_classes": 0, "dynamic_img_size": True}),
    "dinov2": (VisionTransformer, {"init_values": 1e-5}),
    "dinov2 registers": (
        VisionTransformer,
        {"init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True},
    ),
    "dinov2 giant": (
        VisionTransformer,
        {
            "init_values": 1e-5,
            "mlp_layer": partial(GluMlp, act_layer=torch.nn.SiLU, gate_last=False),
        },
    ),
    "aim": (VisionTransformer, {"class_token": False, "global_pool": "avg", "mlp_layer": SwiGLU}),
    "mae": (VisionTransformer, {"num_classes": 0, "global_pool": "token"}),
    "clip": (VisionTransformer, {"pre_norm": True}),
    "siglip": (VisionTransformer, {"class_token": False, "global_pool": "map"}),
    "beit3": (VisionTransformer, {"scale_attn_norm": True, "scale_mlp_norm": True}),
    "query-key norm": (VisionTransformer, {"qk_norm": True}),
    "eva": (Eva, {}),
    "eva split": (Eva, {"qkv_fused": False}),
    "eva without bias": (Eva, {"qkv_bias": False}),
    "eva02 tiny": (
        Eva,
        {"swiglu_mlp": True, "use_rot_pos_emb": True, "ref_feat_shape": (4, 4)},
    ),
    "eva02 base": (
        Eva,
        {
            "swiglu_mlp": True,
            "scale_mlp": True,
            "use_rot_pos_emb": True,
            "qkv_fused": False,
            "ref_feat_shape": (4, 4),
        },
    ),
    "eva02 clip": (
        Eva,
        {"scale_attn_inner": True, "use_rot_pos_emb": True, "global_pool": "token"},
    ),
    "dinov3": (
        Eva,
        {
            "num_reg_tokens": 4,
            "use_abs_pos_emb": False,
            "use_rot_pos_emb": True,
            "rope_type": "dinov3",
            "rope_rotate_half": True,
            "qkv_bias": False,
            "init_values": 1e-5,
            "dynamic_img_size": True,
        },
    ),
    "dinov3 with bias": (
        Eva,
        {"use_rot_pos_emb": True, "rope_type": "dinov3", "rope_rotate_half": True},
    ),
    "pe": (
        Eva,
        {
            "attn_type": "rope",
            "use_rot_pos_emb": True,
            "rope_grid_indexing": "xy",
            "global_pool": "map",
            "use_pre_transformer_norm": True,
        },
    ),
    "rope mixed": (
        Eva,
        {"attn_type": "rope", "use_rot_pos_emb": True, "rope_type": "mixed", "qk_norm": True},
    ),
}
EVERY = pytest.mark.parametrize("kind", TOWERS)


def built(kind):
    """The small model with every parameter drawn, so that no LayerScale or gate hides a part."""
    network, changes = TOWERS[kind]
    model = network(**(SMALL | changes)).eval()
    for name, parameter in model.named_parameters():
        if "rope" not in name:
            torch.nn.init.normal_(parameter, mean=0.1, std=0.4)
    return model


def recorded(model, images, sites=None):
    wrapped = wp.wrap(model, name="tower")
    with torch.no_grad(), wp.record(wrapped, sites or wrapped.sites) as rec:
        out = model(images)
    return wrapped, rec, out


def scaled(block, part, update):
    """The update as the block scales it: LayerScale in one class, a bare factor in the other."""
    if hasattr(block, "ls1"):
        return getattr(block, f"ls{part}")(update)
    factor = getattr(block, f"gamma_{part}")
    return update if factor is None else factor * update


def by_hand(attention, x):
    """Queries, keys and values (B, K, n, p) from the attention's own parameters."""
    if attention.qkv is None:
        parts = [getattr(attention, f"{t}_proj")(x) for t in "qkv"]
    else:
        bias = attention.qkv.bias
        if getattr(attention, "q_bias", None) is not None:
            bias = torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
        joined = x @ attention.qkv.weight.T + (0 if bias is None else bias)
        parts = joined.chunk(3, dim=-1)
    return [part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in parts]


def rope_of(model, layer):
    rope = getattr(model, "rope", None)
    if rope is None:
        return None
    embedding = rope.get_embed(shape=(4, 4)) if model.dynamic_img_size else rope.get_embed()
    return embedding[layer - 1] if model.rope_mixed else embedding


def hidden(mlp, x):
    if isinstance(mlp, SwiGLU):
        return mlp.act(mlp.fc1_g(x)) * mlp.fc1_x(x)
    if isinstance(mlp, GluMlp):
        first, second = mlp.fc1(x).chunk(2, dim=-1)
        return mlp.act(first) * second
    return mlp.act(mlp.fc1(x))


@EVERY
@torch.no_grad()
def test_sites_are_what_the_blocks_compute(kind):
    model, images = built(kind), torch.randn(2, 3, 16, 16)
    wrapped, rec, _ = recorded(model, images)
    assert set(wrapped.sites) == {
        *("z_in", "attn_in", "heads_q", "heads_k", "heads_v", "attn_weights", "attn_out"),
        *("z_half", "mlp_in", "mlp_hidden", "z_out"),
    }
    outputs = model.forward_intermediates(
        images, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True
    )
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4)
    for layer, block in enumerate(model.blocks, start=1):
        whole = outputs[layer - 1]
        if model.num_prefix_tokens:
            whole = torch.cat([whole[1], whole[0]], dim=1)
        close(rec["z_out", layer], whole)
        if layer > 1:
            assert torch.equal(rec["z_in", layer], rec["z_out", layer - 1])
        z_in, z_half = rec["z_in", layer], rec["z_half", layer]
        inside = block.norm1(z_in)
        close(rec["attn_in", layer], inside)
        more = {} if isinstance(model, VisionTransformer) else {"rope": rope_of(model, layer)}
        close(rec["attn_out", layer], scaled(block, 1, block.attn(inside, **more)))
        close(z_in + rec["attn_out", layer], z_half)
        close(rec["mlp_in", layer], block.norm2(z_half))
        close(rec["mlp_hidden", layer], hidden(block.mlp, block.norm2(z_half)))
        update = scaled(block, 2, block.mlp(block.norm2(z_half)))
        close(rec["z_out", layer], z_half + update)
        for third, want in zip("qkv", by_hand(block.attn, inside), strict=True):
            close(rec[f"heads_{third}", layer], want)
            U = wrapped.subspaces(layer, f"qkv:{third}")
            linear = inside.unsqueeze(1) @ U
            shift = (want - linear)[:1, :, :1]  # the bias, the same for all tokens
            close(want, linear + shift)


@EVERY
@torch.no_grad()
def test_attention_weights_are_the_softmax_of_what_the_block_multiplies(kind):
    model, images = built(kind), torch.randn(2, 3, 16, 16)
    wrapped, rec, _ = recorded(model, images)
    prefix = model.num_prefix_tokens
    for layer, block in enumerate(model.blocks, start=1):
        q, k, v = by_hand(block.attn, rec["attn_in", layer])
        q, k = block.attn.q_norm(q), block.attn.k_norm(k)
        rope = None if isinstance(model, VisionTransformer) else rope_of(model, layer)
        if rope is not None:
            half = block.attn.rotate_half
            turn = partial(apply_rot_embed_cat, emb=rope, half=half)
            q = torch.cat([q[:, :, :prefix], turn(q[:, :, prefix:])], dim=2)
            k = torch.cat([k[:, :, :prefix], turn(k[:, :, prefix:])], dim=2)
        scores = q @ k.transpose(-2, -1) / wrapped.dims.dim_head**0.5
        want = scores.exp() / scores.exp().sum(dim=-1, keepdim=True)
        torch.testing.assert_close(rec["attn_weights", layer], want, rtol=1e-3, atol=1e-5)
        mixed = (rec["attn_weights", layer] @ v).transpose(1, 2).flatten(2)
        update = scaled(block, 1, block.attn.proj(block.attn.norm(mixed)))
        torch.testing.assert_close(rec["attn_out", layer], update, rtol=1e-3, atol=1e-3)


@EVERY
@torch.no_grad()
def test_recording_changes_no_bit_and_leaves_no_hook(kind):
    model, images = built(kind), torch.randn(2, 3, 16, 16)
    before = model(images)
    _, _, during = recorded(model, images)
    assert torch.equal(during, before)
    assert torch.equal(model(images), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@EVERY
def test_sizes_and_prefix_tokens_are_the_models(kind):
    model = built(kind)
    wrapped, rec, _ = recorded(model, torch.randn(1, 3, 16, 16), sites=["z_out", "heads_k"])
    n = rec["z_out", 1].shape[1]
    assert n == 16 + wrapped.prefix_tokens
    assert wrapped.dims.tokens == (None if model.dynamic_img_size else n)
    s = wrapped.dims
    assert (s.layers, s.dim, s.heads, s.dim_head) == (2, 16, 2, 8)
    assert rec["heads_k", 2].shape == (1, 2, n, 8)
    norm = wrapped.layer(2).norm
    assert norm is model.blocks[1].norm1
    assert wrapped.heads_site("qkv:v") == "heads_v"


def test_rotary_positions_follow_the_size_of_the_image():
    model = built("dinov3")
    sites = ["attn_weights", "heads_v", "attn_out"]
    _, rec, _ = recorded(model, torch.randn(1, 3, 24, 16), sites=sites)
    assert rec["attn_weights", 1].shape == (1, 2, 5 + 24, 5 + 24)
    for layer, block in enumerate(model.blocks, start=1):
        mixed = (rec["attn_weights", layer] @ rec["heads_v", layer]).transpose(1, 2).flatten(2)
        want = scaled(block, 1, block.attn.proj(mixed))
        torch.testing.assert_close(rec["attn_out", layer], want, rtol=1e-3, atol=1e-3)


def test_a_mask_is_refused():
    model = built("eva02 tiny")
    wrapped = wp.wrap(model)
    with wp.record(wrapped, "attn_weights"):
        with pytest.raises(SiteError, match="masked attention is not recorded"):
            model(torch.randn(1, 3, 16, 16), is_causal=True)


REFUSED = {
    "ParallelThingsBlock are not understood.*side by side": (
        VisionTransformer,
        {"block_fn": ParallelThingsBlock},
    ),
    "different numbers of keys.*1 or 2 heads": (
        Eva,
        {"attn_type": "rope", "qkv_fused": False, "num_kv_heads": (1, 2)},
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_other_blocks_are_refused(message):
    network, changes = REFUSED[message]
    with pytest.raises(SiteError, match=message):
        wp.wrap(network(**(SMALL | changes)))


@pytest.mark.parametrize(
    ("name", "family", "sizes"),
    [
        ("eva02_tiny_patch14_224", "timm_eva", (12, 192, 3, 257)),
        ("vit_small_patch16_dinov3", "timm_eva", (12, 384, 6, None)),
        ("vit_tiny_patch16_224", "timm_vit", (12, 192, 3, 197)),
        ("deit_tiny_distilled_patch16_224", "timm_vit", (12, 192, 3, 198)),
    ],
)
def test_a_timm_name_finds_its_family(name, family, sizes):
    model = wp.load(f"timm:{name}", weights="random")
    s = model.dims
    assert model.family.name == family
    assert (s.layers, s.dim, s.heads, s.tokens) == sizes
    assert model.preprocess.size in (224, 256)


def test_a_timm_model_of_another_class_is_refused():
    with pytest.raises(ProbeError, match=r"'resnet18' cannot be probed: it is a ResNet, and its"):
        wp.load("timm:resnet18", weights="random")
    with pytest.raises(ProbeError, match="timm has no model 'eva99'"):
        wp.load("timm:eva99", weights="random")


OF_TIMM = [name for name, e in checkpoints.registry().items() if e.source["kind"] == "timm"]


@pytest.mark.parametrize("name", OF_TIMM)
def test_the_registrys_timm_entries_are_timms_own(name):
    import timm

    entry = checkpoints.entry(name)
    config = timm.get_pretrained_cfg(entry.source["name"])
    assert config.hf_hub_id
    with torch.device("meta"):
        module = build(entry.family, entry.arch, source=name)
    family = family_named(entry.family)
    assert family.anatomy.dims(module).layers == 12
    weights = family.convert(module.state_dict(), module, source=entry.source)
    assert set(weights) == set(module.state_dict())
