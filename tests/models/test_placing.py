"""A network is found in a file under any prefix, by its names; what stands beside it is told."""

import argparse
import pathlib
import warnings

import pytest
import torch
from timm import create_model
from timm.models.vision_transformer import VisionTransformer

import whitebox_probe as wp
from tests.conftest import STEP, small_crate
from whitebox_probe._core.errors import CheckpointError, LoadWarning
from whitebox_probe.models.registry import build

SMALL = {"img_size": 12, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
STATED = {"heads": 2, "act_layer": "gelu", "norm_eps": 1e-6}
NET = VisionTransformer(**SMALL, num_classes=5)
STATE = NET.state_dict()
ARCH = SMALL | {"family": "timm_vit", "num_classes": 5, "act_layer": "gelu", "norm_eps": 1e-6}
PREFIXES = [
    *("model.", "module.", "_orig_mod.", "_fsdp_wrapped_module.", "backbone.", "encoder.", "net."),
    *("model.backbone.", "foo.bar_1.baz.", "module.model.", "_orig_mod.module.net.", "x.0.1."),
    *("_forward_module.", "visual.trunk.", "student.module."),
]
WAYS = {"heads": STATED, "arch": {"arch": ARCH}}


def under(prefix, state=None):
    return {f"{prefix}{key}": tensor for key, tensor in (state or STATE).items()}


def saved(folder, thing):
    torch.save(thing, folder / "x.pth")
    return folder / "x.pth"


def same(model, state=None):
    return all(torch.equal(model.module.state_dict()[k], t) for k, t in (state or STATE).items())


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_any_prefix_is_found_and_comes_off_without_a_word(tmp_path, prefix, way):
    assert same(wp.load(saved(tmp_path, {"state_dict": under(prefix)}), **WAYS[way]))


@pytest.mark.parametrize("prefix", [p for p in PREFIXES if p not in ("module.", "_orig_mod.")])
def test_what_stands_beside_is_told_in_one_line(tmp_path, prefix):
    beside = {"criterion.weight": torch.ones(3), "classifier.bias": torch.ones(2)}
    path = saved(tmp_path, under(prefix) | beside)
    if all(part.endswith("module") for part in prefix.rstrip(".").split(".")):
        with pytest.raises(CheckpointError, match="criterion.weight, classifier.bias"):
            wp.load(path, **STATED)  # of the wrapper nothing is left that would tell
        return
    with pytest.warns(LoadWarning, match=r"2 tensors .* left out: crit.*, classifier") as caught:
        assert same(wp.load(path, **STATED))
    assert [warning.filename for warning in caught] == [__file__]
    assert len(str(caught[0].message)) < 500


@pytest.mark.parametrize("pair", [("student", "teacher"), ("generator", "discriminator")])
@pytest.mark.parametrize("around", ["", "module.", "model."])
def test_two_networks_are_asked_about(tmp_path, pair, around):
    other = {key: tensor + 1 for key, tensor in STATE.items()}
    one, two = (f"{around}{name}" for name in pair)
    path = saved(tmp_path, {"state_dict": under(f"{one}.", other) | under(f"{two}.")})
    shown = two.removeprefix("module.")
    for way in WAYS.values():
        with pytest.raises(CheckpointError, match=rf"2 networks.* or wrapper='{shown}'"):
            wp.load(path, **way)
        assert same(wp.load(path, wrapper=shown, **way))
        assert same(wp.load(path, wrapper=two, **way))
        assert same(wp.load(path, wrapper=f"{shown}.", **way))


def test_of_several_state_dicts_the_one_of_a_known_network_is_taken(tmp_path):
    held = {"loss": {"center": torch.ones(3)}, "net": under("model."), "epoch": 3}
    assert same(wp.load(saved(tmp_path, held), **STATED))
    held["ema"] = under("model.")
    with pytest.raises(CheckpointError, match="each of net, ema could be meant"):
        wp.load(saved(tmp_path, held), **STATED)
    assert same(wp.load(saved(tmp_path, {"a": {"b": held["net"]}}), wrapper="a.b", **STATED))


@pytest.mark.parametrize("around", ["", "model."])
def test_what_averaging_counts_with_is_no_weight(tmp_path, around):
    state = under(f"{around}module.") | {f"{around}n_averaged": torch.tensor(5)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(wp.load(saved(tmp_path, {"state_dict": state}), **STATED))
        held = {"model": STATE, "model_ema": state}
        assert same(wp.load(saved(tmp_path, held), wrapper="model_ema", **STATED))


@pytest.mark.parametrize("inside", ["_checkpoint_wrapped_module", "_fsdp_wrapped_module"])
def test_wrappers_of_blocks_come_off(tmp_path, inside):
    state = {key.replace("blocks.1.", f"blocks.1.{inside}."): t for key, t in STATE.items()}
    assert same(wp.load(saved(tmp_path, state), **STATED))


@pytest.mark.parametrize("family", ["crate", "cbt", "crate_gpt", "crate_bert", "crate_mae", "tost"])
def test_each_family_is_found_under_a_prefix(tmp_path, family):
    from whitebox_probe.models.registry import families

    arch = families()[family].example[0]
    state = build(family, arch, source="a test").state_dict()
    path = saved(tmp_path, {"state_dict": under("lit.net.", state)})
    model = wp.load(path, arch={"family": family, **families()[family].assumed(arch), **arch})
    assert same(model, state)


def test_an_architecture_without_marks_is_found_by_its_own_names(tmp_path):
    sizes = {"depth": 1, "embed_dim": 12, "num_heads": 3, "img_size": 28, "patch_size": 14}
    net = create_model("eva02_tiny_patch14_224", num_classes=2, **sizes)
    path = saved(tmp_path, under("a.b.", net.state_dict()) | {"loss": torch.ones(2)})
    with pytest.warns(LoadWarning, match="under 'a.b.' was loaded: 1 tensor beside it was left"):
        model = wp.load(path, arch="timm:eva02_tiny_patch14_224", **sizes)
    assert same(model, net.state_dict())


KEY = "blocks.0.mlp.fc1.weight"
DAMAGES = {
    "none": lambda state: state | {KEY: None},
    "missing": lambda state: {key: t for key, t in state.items() if key != KEY},
    "renamed": lambda state: {f"{key}x" if key == KEY else key: t for key, t in state.items()},
    "meta": lambda state: state | {KEY: state[KEY].to("meta")},
    "sparse": lambda state: state | {KEY: state[KEY].to_sparse()},
    "a list": lambda state: state | {KEY: state[KEY].tolist()},
    "expanded": lambda state: state | {KEY: torch.ones(1).expand(10**12)},
    "all sparse": lambda state: {key: t.to_sparse() for key, t in state.items()},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_average_does_not_give_its_place_to_the_plain_weights(tmp_path, damage):
    average = DAMAGES[damage]({key: tensor / 2 for key, tensor in STATE.items()})
    path = saved(tmp_path, {"state_dict": STATE, "state_dict_ema": average})
    for way in WAYS.values():
        with pytest.raises(CheckpointError, match="its 'state_dict_ema' (holds|lacks|has)"):
            wp.load(path, **way)
    assert same(wp.load(path, wrapper="state_dict", **STATED))


@pytest.mark.parametrize("damage", ["none", "meta", "sparse", "a list"])
@pytest.mark.parametrize("names", [("model", "model_ema"), ("teacher", "student")])
def test_a_damaged_state_dict_does_not_give_its_place_to_another(tmp_path, names, damage):
    one, other = names
    path = saved(tmp_path, {one: STATE, other: under("module.", DAMAGES[damage](STATE))})
    with pytest.raises(CheckpointError, match=f"'{one}' and '{other}', of which one is not whole"):
        wp.load(path, arch=ARCH)
    assert same(wp.load(path, wrapper=one, arch=ARCH))


def test_weights_of_the_same_names_that_do_not_fit_are_told(tmp_path):
    path = saved(tmp_path, {"model": STATE, "best": DAMAGES["missing"](STATE)})
    with pytest.warns(LoadWarning, match="under 'best' have the same names, and do not fit"):
        assert same(wp.load(path, arch=ARCH))


@pytest.mark.parametrize(
    "beside",
    [
        {"optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}},
        {"state_dict_ema": None},
        {"state_dict_ema": {}},
        {"head": {"weight": torch.ones(2), "name": "x"}},
        {"teacher": {key: torch.ones(1) for key in STATE}},
        {"shapes": {key: tuple(tensor.shape) for key, tensor in STATE.items()}},
    ],
)
def test_what_is_no_other_copy_of_the_network_has_no_word(tmp_path, recwarn, beside):
    assert same(wp.load(saved(tmp_path, {"state_dict": STATE, "epoch": 3} | beside), arch=ARCH))
    assert not recwarn.list


def timm_training(folder, name="vit_tiny_patch16_224", **options):
    plain, average = (create_model(name, num_classes=7, **options).state_dict() for _ in range(2))
    args = argparse.Namespace(lr=1e-3, output=pathlib.Path("out"), num_classes=7, model=name)
    held = {"epoch": 3, "arch": name, "state_dict": plain, "state_dict_ema": average, "args": args}
    return saved(folder, held | {"optimizer": {"state": {}}, "version": 2}), plain, average


@pytest.mark.slow
def test_a_training_file_of_timm_loads_in_one_try_with_its_average(tmp_path):
    path, plain, average = timm_training(tmp_path)
    with pytest.warns(LoadWarning, match="averaged weights.*Pass wrapper='state_dict' for") as told:
        model = wp.load(path)
    assert len(told) == 1
    assert (model.dims.heads, model.module.num_classes) == (3, 7)
    assert same(model, average)
    assert same(wp.load(path, wrapper="state_dict"), plain)
    with pytest.warns(LoadWarning, match="averaged"):
        assert same(wp.load(path, arch="timm:vit_tiny_patch16_224"), average)


@pytest.mark.slow
def test_a_training_file_names_what_its_tensors_do_not_settle(tmp_path):
    path, plain, _ = timm_training(tmp_path, "eva02_tiny_patch14_224")
    assert same(wp.load(path, wrapper="state_dict"), plain)


def test_a_path_that_is_not_there_is_told_to_be_none(tmp_path):
    with pytest.raises(CheckpointError, match=r"there is no file .*nowhere\.pth"):
        wp.load(tmp_path / "nowhere.pth")


def test_a_folder_is_given_as_a_file_is(tmp_path):
    from safetensors.torch import save_file

    save_file(STATE, tmp_path / "model.safetensors")
    torch.save({}, tmp_path / "optimizer.pt")
    for way in WAYS.values():
        assert same(wp.load(tmp_path, **way))


def test_a_crate_beside_a_loss_computes_what_it_did(tmp_path):
    net = small_crate(dim_head=8)
    path = saved(tmp_path, under("net.", net.state_dict()) | {"loss.scale": torch.ones(1)})
    with pytest.warns(LoadWarning, match=r"loss\.scale"):
        model = wp.load(path, heads=2, **STEP)
    images = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        assert torch.equal(model.module(images), net.eval()(images))
