"""Files at another size than the network's: heads, channels, images, and rules for positions."""

import pytest
import torch
import torch.nn.functional as F
from timm import create_model
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

import whitebox_probe as wp
from tests.conftest import STEP
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models.keys.positions import grid_of, resample
from whitebox_probe.models.registry import build

SMALL = {"img_size": 12, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
STATED = {"heads": 2, "act_layer": "gelu", "norm_eps": 1e-6}
NAME = "vit_tiny_patch16_224"
TINY = {"depth": 1, "embed_dim": 24}


def saved(folder, state):
    torch.save(state, folder / "x.pth")
    return folder / "x.pth"


def as_dinos_code(table, side):
    """What DINO, CRATE and DINOv2 compute: scale factors of (new + 0.1) / old."""
    rows, old = table[:, 1:], 3
    grid = rows.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    factor = (side + 0.1) / old
    grid = F.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    assert grid.shape[-2:] == (side, side)
    return torch.cat([table[:, :1], grid.permute(0, 2, 3, 1).reshape(1, side * side, -1)], dim=1)


def as_ours(table, side):
    grid = table[:, 1:].reshape(1, 3, 3, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], grid.permute(0, 2, 3, 1).reshape(1, side * side, -1)], dim=1)


def as_timm(table, side):
    return resample_abs_pos_embed(table, new_size=[side, side])


RULES = {
    True: as_ours,
    "default": as_ours,
    "crate": as_dinos_code,
    "dinov2": as_dinos_code,
    "timm": as_timm,
}


@pytest.mark.parametrize("side", [2, 5, 7])
@pytest.mark.parametrize("by", RULES)
def test_positions_are_resampled_as_the_named_release_does_it(tmp_path, by, side):
    state = VisionTransformer(**SMALL, num_classes=3).state_dict()
    path = saved(tmp_path, state)
    model = wp.load(path, **STATED, img_size=4 * side, interpolate_positions=by)
    torch.testing.assert_close(
        model.module.pos_embed, RULES[by](state["pos_embed"], side), rtol=0, atol=1e-6
    )
    assert model.dims.tokens == 1 + side**2
    model.module(torch.randn(1, 3, 4 * side, 4 * side))


@pytest.mark.parametrize("by", RULES)
def test_a_crate_is_resampled_by_the_same_rules(tmp_path, by):
    arch = {"image_size": 12, "patch_size": 4, "channels": 3, "classes": 5, "dim": 16, "depth": 1}
    state = build("crate", arch | {"heads": 2, "dim_head": 8}, source="a test").state_dict()
    options = {"heads": 2, "image_size": 20, "interpolate_positions": by}
    model = wp.load(saved(tmp_path, state), **options, **STEP)
    want = RULES[by](state["pos_embedding"], 5)
    torch.testing.assert_close(model.module.pos_embedding, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("arch", [None, f"timm:{NAME}"])
def test_a_rule_that_nobody_has_is_told(tmp_path, arch):
    sizes = {"depth": 1} if arch else {"heads": 3}
    path = saved(tmp_path, create_model(NAME, depth=1, num_classes=2).state_dict())
    with pytest.raises(CheckpointError, match="'crat'.*Did you mean 'crate'"):
        wp.load(path, arch=arch, **sizes, img_size=64, interpolate_positions="crat")


def test_positions_that_do_not_fit_are_refused_unless_asked_for(tmp_path):
    path = saved(tmp_path, VisionTransformer(**SMALL).state_dict())
    with pytest.raises(CheckpointError, match="1 wrongly shaped: pos_embed.*interpolate_pos"):
        wp.load(path, **STATED, img_size=20)
    same = wp.load(path, **STATED, interpolate_positions="crate")  # as many: nothing to do
    assert same.dims.tokens == 10


@pytest.mark.parametrize("no_class", [False, True])
@pytest.mark.parametrize("registers", [0, 3])
def test_rows_without_a_place_are_kept(tmp_path, registers, no_class):
    kind = {"reg_tokens": registers, "no_embed_class": no_class, "num_classes": 2}
    state = VisionTransformer(**SMALL | {"img_size": 28}, **kind).state_dict()  # 49 patches
    path = saved(tmp_path, state)
    model = wp.load(path, **STATED, img_size=16, interpolate_positions=True)
    first = 0 if no_class else 1 + registers
    assert torch.equal(model.module.pos_embed[:, :first], state["pos_embed"][:, :first])
    assert model.module.pos_embed.shape[1] == first + 16


@pytest.mark.parametrize("way", ["heads", "arch"])
def test_a_square_file_serves_rectangular_images(tmp_path, way):
    state = create_model(NAME, depth=1, num_classes=2).state_dict()
    how = {"heads": {"heads": 3}, "arch": {"arch": f"timm:{NAME}", "depth": 1}}[way]
    with pytest.warns(wp.AssumedWarning) if way == "heads" else _nothing():
        model = wp.load(
            saved(tmp_path, state), **how, img_size=[64, 96], interpolate_positions=True
        )
    assert model.dims.tokens == 1 + 4 * 6
    images = torch.randn(1, 3, 64, 96)
    assert model.anatomy.grid(model.module, images) == (4, 6)
    with wp.record(model, ["z_out"]) as rec:
        model.module(images)
    assert rec["z_out", 1].shape == (1, 25, 192)


class _nothing:  # noqa: N801 - stands for pytest.warns
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def test_a_rectangular_file_is_resampled_to_its_own_shape(tmp_path):
    state = VisionTransformer(**SMALL | {"img_size": (8, 12)}, num_classes=2).state_dict()
    path = saved(tmp_path, state)
    model = wp.load(path, **STATED, img_size=[16, 24], interpolate_positions=True)
    want = resample(state["pos_embed"], old=(2, 3), new=(4, 6), prefix=1, by="default")
    assert torch.equal(model.module.pos_embed, want)
    with pytest.raises(CheckpointError, match="no square grid, and none of the same shape"):
        wp.load(path, **STATED, img_size=[16, 20], interpolate_positions=True)


def test_grids_are_square_or_of_the_shape_of_the_new_one():
    assert grid_of(49) == (7, 7)
    assert grid_of(24, (4, 6)) == (4, 6)
    assert grid_of(6, (4, 6)) == (2, 3)
    assert grid_of(7, (4, 6)) is None
    assert grid_of(0) is None


CHANGES = {
    "head": {"num_classes": 7},
    "no head": {"num_classes": 0},
    "channels": {"in_chans": 4, "num_classes": 3},
    "one channel": {"in_chans": 1, "num_classes": 3},
    "image": {"img_size": 384, "num_classes": 3},
    "pooling": {"global_pool": "avg", "num_classes": 3},
    "all": {"img_size": 96, "in_chans": 4, "num_classes": 2, "global_pool": "avg"},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_tuned_file_has_otherwise_is_read_from_it(tmp_path, change, dtype):
    network = create_model(NAME, depth=1, **CHANGES[change])
    state = {key: tensor.to(dtype) for key, tensor in network.state_dict().items()}
    model = wp.load(saved(tmp_path, state), arch=f"timm:{NAME}", depth=1)
    found = model.module.state_dict()
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key].float()) for key in state)
    side = CHANGES[change].get("img_size", 224)
    channels = CHANGES[change].get("in_chans", 3)
    reads = model.preprocess  # of four channels timm does not say how
    assert (reads is None) if channels == 4 else ((reads.size, len(reads.mean)) == (side, channels))
    with torch.no_grad():
        network.load_state_dict({key: tensor.float() for key, tensor in state.items()})
        images = torch.randn(1, channels, side, side)
        assert torch.equal(model.module(images), network.eval()(images))


def test_an_argument_that_is_given_is_not_replaced(tmp_path):
    path = saved(tmp_path, create_model(NAME, depth=1, num_classes=7).state_dict())
    with pytest.raises(CheckpointError, match=r"head\.weight \(7, 192\) where \(5, 192\)"):
        wp.load(path, arch=f"timm:{NAME}", depth=1, num_classes=5)


def test_a_file_without_a_head_says_how_to_leave_it_out(tmp_path):
    state = create_model(NAME, depth=1, num_classes=0).state_dict()
    path = saved(tmp_path, state)
    with pytest.raises(CheckpointError, match="2 missing: head.*num_classes=0"):
        wp.load(path, arch=f"timm:{NAME}", depth=1, num_classes=10)
    assert wp.load(path, arch=f"timm:{NAME}", depth=1).module.num_classes == 0


def test_a_releases_own_names_are_those_that_timm_knows(tmp_path):
    """DeiT III's LayerScale is `gamma_1` in its release."""
    name = "deit3_small_patch16_224"
    network = create_model(name, depth=1, num_classes=3)
    state = {
        key.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): tensor
        for key, tensor in network.state_dict().items()
    }
    assert "blocks.0.gamma_1" in state
    model = wp.load(saved(tmp_path, state), arch=f"timm:{name}", depth=1)
    assert torch.equal(model.module.blocks[0].ls1.gamma, network.blocks[0].ls1.gamma)


def test_the_filter_resamples_nothing_without_a_word(tmp_path):
    name = "deit3_small_patch16_224"
    state = create_model(name, depth=1, num_classes=3).state_dict()
    state["blocks.0.gamma_1"] = state.pop("blocks.0.ls1.gamma")
    path = saved(tmp_path, state)
    with pytest.raises(CheckpointError, match="pos_embed"):
        wp.load(path, arch=f"timm:{name}", depth=1, img_size=384)


FLAT = {"image_size": 12, "patch_size": 4, "classes": 5, "dim": 16, "depth": 1, "heads": 2}


@pytest.mark.parametrize("family", ["crate", "aot"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_channels_of_flat_patches_are_those_that_are_asked_for(tmp_path, family, channels):
    arch = FLAT | {"dim_head": 8, "channels": channels}
    network = build(family, arch, source="a test")
    path = saved(tmp_path, network.state_dict())
    step = STEP if family == "crate" else {}
    model = wp.load(path, heads=2, channels=channels, **step)
    images = torch.randn(2, channels, 12, 12)
    with torch.no_grad():
        assert torch.equal(model.module(images), network(images))


def test_a_crate_takes_rectangular_images(tmp_path):
    arch = FLAT | {"image_size": (8, 12), "dim_head": 8}
    network = build("crate", arch, source="a test")
    path = saved(tmp_path, network.state_dict())
    with pytest.raises(CheckpointError, match=r"does not say image_size.*\[8,12\] or \[4,24\]"):
        wp.load(path, heads=2, **STEP)
    images = torch.randn(2, 3, 8, 12)
    model = wp.load(path, heads=2, image_size=[8, 12], **STEP)
    with torch.no_grad():
        assert torch.equal(model.module(images), network(images))
    assert model.anatomy.grid(model.module, images) == (2, 3)
    finer = wp.load(path, heads=2, image_size=[16, 24], interpolate_positions="crate", **STEP)
    assert finer.dims.tokens == 1 + 4 * 6
    square = saved(tmp_path, build("crate", FLAT | {"dim_head": 8}, source="a test").state_dict())
    wide = wp.load(square, heads=2, image_size=[16, 24], interpolate_positions=True, **STEP)
    assert wide.anatomy.grid(wide.module, images) == (4, 6)
    with wp.record(wide, ["z_out"]) as rec:
        wide.module(torch.randn(1, 3, 16, 24))
    assert rec["z_out", 1].shape == (1, 25, 16)


@pytest.mark.parametrize("turned", [False, True], ids=["last", "first"])
def test_a_tensor_by_a_releases_name_and_by_timms_is_refused(tmp_path, turned):
    name = "deit3_small_patch16_224"
    state = create_model(name, depth=1, num_classes=3).state_dict()
    state["blocks.0.gamma_2"] = state.pop("blocks.0.ls2.gamma")
    more = {"blocks.0.gamma_1": state["blocks.0.ls1.gamma"] + 1}
    path = saved(tmp_path, more | state if turned else state | more)
    with pytest.raises(CheckpointError, match=r"two tensors .*'blocks\.0\.ls1\.gamma'"):
        wp.load(path, arch=f"timm:{name}", depth=1)
