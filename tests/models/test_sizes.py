"""Sizes and steps of a network that no network has are told before it is built."""

import json

import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError, ProbeError, SettingError
from whitebox_probe.models.registry import build, families
from whitebox_probe.models.room import made


@pytest.mark.parametrize(
    ("name", "value"),
    [("patch_size", 0), ("depth", 10**8), ("heads", True), ("dim", -3), ("eta", None)],
)
def test_are_one_line(name, value):
    with pytest.raises(CheckpointError, match=f"{name} is {value}. Give a") as error:
        wp.load("crate-tiny-fmnist", weights="random", **{name: value})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("eps", [1e-300, 1e160, 0.0, float("nan")])
def test_a_precision_whose_square_is_no_number_is_told(eps):
    with pytest.raises(SettingError, match="eps is .*from 1e-100 to 1e"):
        wp.probe("crate-tiny-fmnist", torch.rand(2, 1, 28, 28), eps=eps, progress=False)


def test_images_too_large_for_memory_are_told_before_anything_is_taken():
    pytest.importorskip("timm")
    with pytest.raises(CheckpointError, match="GB of weights, the memory there is"):
        wp.load("timm:vit_tiny_patch16_224", weights="random", img_size=1_000_000)


def test_what_torch_says_of_memory_is_told_in_our_words():
    def make():
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")

    with pytest.raises(CheckpointError, match=r"of a net cannot be built: it does not fit into"):
        made(make, {}, source="a net")


def test_numbers_of_heads_that_are_listed_are_those_that_are_taken(tmp_path):
    torch.save(wp.load("crate-tiny-fmnist").module.state_dict(), tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="was trained with, one of: ") as error:
        wp.load(tmp_path / "c.pth", heads=7, eta=0.1, lam=0.1)
    listed = [int(each) for each in error.value.fix.partition(": ")[2].split(", ")]
    assert [K for K in range(1, 97) if 96 % K == 0] == listed
    for heads in (4, 8, 96):  # others are contradicted by the rows: tests/models/test_plausible.py
        assert wp.load(tmp_path / "c.pth", heads=heads, eta=0.1, lam=0.1).dims.heads == heads


def test_a_link_to_nothing_is_told(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a link to nothing"):
        wp.load(f"hf:{tmp_path}")
    with pytest.raises(CheckpointError, match="there is a link of that name, to nothing"):
        wp.load(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hidden_act": "zzz"}, "its library has nothing called 'zzz'"),
        ({"hidden_size": "32"}, "'hidden_size'.*(expected int|'32')"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_what_is_wrong(changes, told, tmp_path):
    library = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    small = library.ViTConfig(**sizes, intermediate_size=64, image_size=28, patch_size=4)
    library.ViTModel(small).save_pretrained(tmp_path)
    whole = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(whole | changes))
    with pytest.raises(CheckpointError, match=told):
        wp.load(f"hf:{tmp_path}")


@pytest.mark.parametrize(
    ("family", "example"),
    [(each.name, example) for each in families().values() for example in each.example],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_heads_that_do_not_share_the_width_are_told(family, example, tmp_path):
    state = build(family, example, source="x").state_dict()
    torch.save(state, tmp_path / "w.pth")
    for name in ("heads", "num_heads", "n_head", "num_attention_heads"):
        if name in example:
            with pytest.raises(ProbeError) as told:
                wp.load(tmp_path / "w.pth", arch={"family": family, **example, name: 7})
            assert str(told.value).count("\n") == 0


@pytest.mark.parametrize("value", [1, True, [], None])
def test_a_value_of_another_type_is_told_of_a_named_network(value, tmp_path):
    (example,) = [e for e in families()["timm_kin"].example if "relpos" in e["model"]]
    torch.save(build("timm_kin", example, source="x").state_dict(), tmp_path / "w.pth")
    with pytest.raises(ProbeError, match="rel_pos_type is .*Give a short text"):
        wp.load(tmp_path / "w.pth", arch={"family": "timm_kin", **example, "rel_pos_type": value})
