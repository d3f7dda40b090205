"""Plain vision transformers without `arch`: sizes from keys and shapes, DINO's training files."""

import pytest
import torch
from timm.layers import SwiGLUPacked
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

import whitebox_probe as wp
from whitebox_probe._core.errors import ArchitectureError, CheckpointError, LoadWarning
from whitebox_probe.checkpoints import registry_path

SMALL = {"img_size": 12, "patch_size": 4, "embed_dim": 16, "depth": 3, "num_heads": 2}
STATED = {"heads": 2, "act_layer": "gelu", "norm_eps": 1e-6}
KINDS = {
    "plain": {"num_classes": 5, "mlp_ratio": 2},
    "dino": {"num_classes": 0},
    "layer scale": {"num_classes": 0, "init_values": 0.1},
    "registers": {"num_classes": 0, "reg_tokens": 3, "no_embed_class": True, "init_values": 1.0},
    "registers with positions": {"num_classes": 3, "reg_tokens": 2},
    "positions of patches only": {"num_classes": 3, "no_embed_class": True},
    "no class token": {"num_classes": 3, "class_token": False, "global_pool": "avg"},
    "pooled": {"num_classes": 3, "global_pool": "avg"},
    "siglip": {"num_classes": 0, "class_token": False, "global_pool": "map"},
    "no biases": {"num_classes": 3, "qkv_bias": False, "in_chans": 1},
    "normed queries": {"num_classes": 3, "qk_norm": True},
    "no last norm": {"num_classes": 3, "final_norm": False},
}


def made(**changes):
    network = VisionTransformer(**(SMALL | changes)).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def saved(folder, state):
    torch.save(state, folder / "vit.pth")
    return folder / "vit.pth"


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_file_is_recognised_and_computes_what_it_did(tmp_path, kind):
    network = made(**KINDS[kind])
    model = wp.load(saved(tmp_path, network.state_dict()), **STATED)
    assert model.family.name == "timm_vit"
    images = torch.randn(2, KINDS[kind].get("in_chans", 3), 12, 12)
    with torch.no_grad():
        assert torch.equal(model.module(images), network(images))
    assert model.dims == wp.wrap(network).dims
    assert model.prefix_tokens == network.num_prefix_tokens
    assert model.preprocess is None  # no file says how images are prepared


def test_the_shipped_file_is_recognised():
    path = registry_path().parent / "whitebox_probe/weights/vit-tiny-fmnist.safetensors"
    with pytest.raises(
        ArchitectureError, match=r"'timm_vit', .*it does not say heads.*=2 or 3 or 4"
    ):
        wp.load(path)
    with pytest.warns(wp.AssumedWarning, match="act_layer=gelu and norm_eps=1e-06"):
        model = wp.load(path, heads=4)
    images = torch.randn(2, 1, 28, 28)
    assert torch.equal(model.module(images), wp.load("vit-tiny-fmnist").module(images))


def test_clips_activation_is_asked_for_and_its_eps_its_own(tmp_path):
    network = made(pre_norm=True, num_classes=4)
    path = saved(tmp_path, network.state_dict())
    with pytest.raises(ArchitectureError, match="act_layer=gelu or quick_gelu"):
        wp.load(path, heads=2)
    with pytest.warns(wp.AssumedWarning, match="norm_eps=1e-05"):
        model = wp.load(path, heads=2, act_layer="quick_gelu")
    assert model.module.blocks[0].norm1.eps == model.module.norm_pre.eps == 1e-5
    assert "quick" in type(model.module.blocks[0].mlp.act).__name__.lower()


def test_a_grid_that_is_no_square_is_asked_for(tmp_path):
    network = made(img_size=(8, 12), num_classes=3)  # 2 x 3 patches
    path = saved(tmp_path, network.state_dict())
    with pytest.raises(ArchitectureError, match=r"it does not say img_size.*\[8,12\] or \[4,24\]"):
        wp.load(path, **STATED)
    images = torch.randn(1, 3, 8, 12)
    model = wp.load(path, **STATED, img_size=[8, 12])
    assert torch.equal(model.module(images), network(images))


def test_a_table_that_fits_two_grids_is_asked_for(tmp_path):
    network = made(img_size=12, reg_tokens=4, num_classes=0, no_embed_class=True)  # 9, or 9 - 5
    path = saved(tmp_path, network.state_dict())
    with pytest.raises(ArchitectureError, match="img_size=8 or 12; no_embed_class=False or True"):
        wp.load(path, **STATED)
    assert wp.load(path, **STATED, img_size=12, no_embed_class=True).dims.tokens == 14


def other(kind):
    if kind == "distilled":
        return VisionTransformerDistilled(**SMALL)
    if kind == "gated":
        return VisionTransformer(**SMALL, mlp_layer=SwiGLUPacked)
    eva = {"depth": 2, "qkv_fused": kind != "split", "swiglu_mlp": kind == "split"}
    return Eva(**(SMALL | eva | {"init_values": 1e-5 if kind == "scaled" else None}))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("distilled", "it has .*dist_token"),
        ("gated", "gated: fc1 gives 64 features, of which fc2 takes 32"),
        ("split", "Eva class.*attn.q_proj.weight"),
        ("fused", "Eva class.*attn.q_bias"),
        ("scaled", "Eva class.*gamma_1"),
    ],
)
def test_what_keys_do_not_settle_is_refused_and_timms_name_asked_for(tmp_path, kind, told):
    path = saved(tmp_path, other(kind).state_dict())
    with pytest.raises(CheckpointError, match=rf"{told}.*Pass arch='timm:NAME'"):
        wp.load(path, heads=2)


HEAD = {
    "head.mlp.0.weight": torch.randn(8, 16),
    "head.mlp.0.bias": torch.randn(8),
    "head.last_layer.weight_g": torch.randn(30, 1),
    "head.last_layer.weight_v": torch.randn(30, 8),
}


def dino(folder, **changes):
    """What DINO's main_dino.py saves: `module.` only before the student's keys."""
    teacher, student = made(num_classes=0), made(num_classes=0)
    held = {
        "student": {f"module.backbone.{k}": v for k, v in student.state_dict().items()}
        | {f"module.{k}": v for k, v in HEAD.items()},
        "teacher": {f"backbone.{k}": v for k, v in teacher.state_dict().items()} | HEAD,
        "dino_loss": {"center": torch.zeros(1, 30)},
        "epoch": 100,
    }
    held["teacher"] |= changes
    torch.save(held, folder / "checkpoint.pth")
    return folder / "checkpoint.pth", teacher, student


@pytest.mark.parametrize("whose", ["teacher", "student"])
def test_a_file_of_dinos_training_gives_the_encoder_and_names_what_it_leaves(tmp_path, whose):
    path, *networks = dino(tmp_path)
    with pytest.raises(CheckpointError, match="several state dicts.*student, teacher"):
        wp.load(path, **STATED)
    with pytest.warns(LoadWarning, match=r"4 tensors .*left out.*head\.mlp\.0\.weight") as caught:
        model = wp.load(path, wrapper=whose, **STATED)
    assert [warning.filename for warning in caught] == [__file__]
    network = networks[whose == "student"]
    images = torch.randn(2, 3, 12, 12)
    assert torch.equal(model.module(images), network(images))


def test_it_is_read_with_an_architecture_too(tmp_path):
    path, teacher, _ = dino(tmp_path)
    arch = SMALL | {"family": "timm_vit", "num_classes": 0, "act_layer": "gelu", "norm_eps": 1e-6}
    with pytest.warns(LoadWarning, match="left out"):
        model = wp.load(path, arch=arch, wrapper="teacher")
    assert torch.equal(model.module.cls_token, teacher.cls_token)


def test_no_other_key_beside_a_backbone_is_left_out(tmp_path):
    path, *_ = dino(tmp_path, **{"neck.weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"neck\.weight"):
        wp.load(path, wrapper="teacher", **STATED)


def test_a_key_of_the_encoder_that_is_unknown_is_refused(tmp_path):
    path, *_ = dino(tmp_path, **{"backbone.extra": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="it has extra"):
        wp.load(path, wrapper="teacher", **STATED)


def test_of_a_masked_autoencoder_the_encoder_is_taken(tmp_path):
    network = made(num_classes=0)
    state = network.state_dict() | {
        "mask_token": torch.zeros(1, 1, 8),
        "decoder_pos_embed": torch.zeros(1, 10, 8),
        "decoder_blocks.0.norm1.weight": torch.zeros(8),
    }
    with pytest.warns(LoadWarning, match="3 tensors .*mask_token, decoder_pos_embed"):
        model = wp.load(saved(tmp_path, {"model": state}), **STATED)
    images = torch.randn(2, 3, 12, 12)
    assert torch.equal(model.module(images), network(images))


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_dinov2models_file_is_recognised(tmp_path, prefix):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "patch_size": 4, "image_size": 12}
    theirs = transformers.Dinov2Model(
        transformers.Dinov2Config(num_attention_heads=2, **sizes)
    ).eval()
    theirs.save_pretrained(tmp_path)
    from safetensors.torch import load_file

    state = {f"{prefix}{k}": v for k, v in load_file(tmp_path / "model.safetensors").items()}
    model = wp.load(saved(tmp_path, state), **STATED)
    images = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        want = theirs(images).last_hidden_state
        torch.testing.assert_close(model.module.forward_features(images), want)


def test_one_key_renamed_is_told(tmp_path):
    state = made(num_classes=0).state_dict()
    state["patch_embed.projection.weight"] = state.pop("patch_embed.proj.weight")
    with pytest.raises(CheckpointError, match=r"nearest to .timm_vit.*1 missing: patch_embed"):
        wp.load(saved(tmp_path, state), **STATED)


@pytest.mark.parametrize("key", ["pos_embed", "cls_token"])
def test_a_part_of_another_rank_is_named(tmp_path, key):
    from timm.models.vision_transformer import VisionTransformer

    sizes = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 2}
    state = VisionTransformer(**sizes).state_dict()
    state[key] = state[key].reshape(-1)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=f"1 wrongly shaped: {key}"):
        wp.load(tmp_path / "x.pth", heads=2)


def test_a_table_of_more_tokens_than_the_file_has_is_told_as_that(tmp_path):
    state = made(img_size=112, patch_size=8).state_dict()  # 14 x 14 patches, and a class token
    del state["cls_token"]
    told = "197 positions are of 14 x 14 patches and 1 in front of them, where the file has 0 such"
    with pytest.raises(CheckpointError, match=told):
        wp.load(saved(tmp_path, state), **STATED)


@pytest.mark.parametrize("key", ["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"])
def test_a_tensor_without_numbers_is_refused(tmp_path, key):
    state = made().state_dict()
    state[key] = state[key].new_empty((0, *state[key].shape[1:]))
    with pytest.raises(CheckpointError, match=f"and not its shapes: 1 of them are empty: {key}"):
        wp.load(saved(tmp_path, state), **STATED)
