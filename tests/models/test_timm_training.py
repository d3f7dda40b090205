"""A training file of timm: its own arguments say which network it is of and how it saw images."""

import argparse

import numpy as np
import pytest
import torch
from PIL import Image
from timm import create_model
from timm.data import create_transform, resolve_data_config

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError

NAME = "vit_tiny_patch16_224"
WAYS = [{}, {"arch": f"timm:{NAME}"}]
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "crop_pct": 1.0}
UNSET = {"mean": None, "std": None, "crop_pct": None, "interpolation": "", "img_size": None}


def saved(folder, told=None, *, name=NAME, as_dict=False, **options):
    """What timm's script writes of a small network, with random weights."""
    network = create_model(name, **{"depth": 2, "num_classes": 5} | options).eval()
    args = {"model": name, "num_classes": 5, "gp": None, "lr": 1e-3, **UNSET, **(told or {})}
    args.setdefault("model_kwargs", {"depth": 2})
    whole = args if as_dict else argparse.Namespace(**args)
    path = folder / "last.pth.tar"
    held = {"epoch": 1, "arch": name, "state_dict": network.state_dict(), "optimizer": {}}
    torch.save(held | {"args": whole, "version": 2}, path)
    return path, network, args


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize(
    "told",
    [
        {},
        IMAGENET,
        {"interpolation": "bilinear", "crop_mode": "squash"},
        {"mean": [0.1], "std": (0.3,)},
        {"mean": [0.1, 0.2, 0.3], "img_size": 48, "model_kwargs": {"depth": 2, "img_size": 48}},
        {"input_size": [3, 48, 48], "model_kwargs": {"depth": 2, "img_size": 48}},
    ],
)
def test_images_are_prepared_as_timms_own_script_prepares_them(tmp_path, told, as_dict, way):
    options = told.get("model_kwargs", {"depth": 2})
    path, network, args = saved(tmp_path, told, as_dict=as_dict, **options)
    model = wp.load(path, **way)
    config = resolve_data_config(args, model=network)
    own = create_transform(**config, is_training=False)
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    )
    images = model.prepare(picture)
    torch.testing.assert_close(images[0], own(picture), atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        assert torch.equal(model.module(images), network(images))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "kwargs",
    [
        {"depth": 3},
        {"depth": 2, "reg_tokens": 4},
        {"depth": 2, "embed_dim": 96, "num_heads": 6},
        {"depth": 2, "act_layer": "relu"},
        {"depth": 2, "init_values": 1e-3, "dynamic_img_size": True},
    ],
)
def test_the_network_is_made_with_the_scripts_own_arguments(tmp_path, kwargs, way):
    path, network, _ = saved(tmp_path, {"model_kwargs": kwargs}, **kwargs)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    model = wp.load(path, **way)
    with torch.no_grad():
        assert torch.equal(model.module(images), network(images))
    assert model.dims.heads == kwargs.get("num_heads", 3)


def test_what_a_user_says_wins_over_the_file(tmp_path):
    path, _, _ = saved(tmp_path, IMAGENET | {"model_kwargs": {"depth": 2, "drop_rate": 0.1}})
    said = wp.Preprocess(224, (0.1,) * 3, (0.2,) * 3)
    assert wp.load(path, preprocess=said).preprocess == said
    assert wp.load(path, drop_rate=0.2).entry.arch["drop_rate"] == 0.2
    like = wp.load(path, arch="vit-tiny-in1k").preprocess
    assert (like.mean, like.crop, like.size) == (tuple(IMAGENET["mean"]), 1.0, 224)
    given = {"family": "timm_vit", "model": NAME, "depth": 2}
    assert wp.load(path, arch=given).preprocess.mean == tuple(IMAGENET["mean"])


def test_a_null_is_prepared_and_built_as_the_file_says(tmp_path):
    path, _, _ = saved(tmp_path, IMAGENET)
    model, random = wp.load(path), wp.load(path, weights="random")
    assert random.preprocess == model.preprocess
    assert random.dims == model.dims
    assert random.module.num_classes == 5


def test_the_pretraining_that_a_file_names_stays_behind_a_plain_name(tmp_path):
    tagged = f"{NAME}.augreg_in21k"
    path, _, _ = saved(tmp_path, name=tagged)
    assert wp.load(path, arch=f"timm:{NAME}").entry.arch["model"] == tagged
    exact = f"timm:{NAME}.augreg_in21k_ft_in1k"
    assert wp.load(path, arch=exact).entry.arch["model"] == exact.removeprefix("timm:")


def test_heads_that_the_name_settles_may_be_said_and_not_contradicted(tmp_path):
    path, _, _ = saved(tmp_path)
    assert wp.load(path, heads=3).dims.heads == 3
    with pytest.raises(CheckpointError, match="has 3 heads.*and 4 are asked for"):
        wp.load(path, heads=4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 3}, "depth=3"),
        ({"depth": 3, "reg_tokens": 4}, "depth=3, reg_tokens=4"),
    ],
)
def test_another_depth_is_named_in_the_advice_which_works(tmp_path, options, words, way):
    path, network, _ = saved(tmp_path, {"model_kwargs": {}}, **options)
    with pytest.raises(CheckpointError, match=f"Its shapes are those of {words}: pass it") as told:
        wp.load(path, **way)
    assert "Pass arch=" not in str(told.value)
    state = network.state_dict()
    model = wp.load(path, **options, **way)
    assert all(torch.equal(value, state[key]) for key, value in model.module.state_dict().items())


def test_nothing_that_a_file_names_is_fetched_or_read(tmp_path, monkeypatch):
    hostile = {
        "depth": 2,
        "pretrained": True,
        "checkpoint_path": str(tmp_path / "other.pth"),
        "pretrained_cfg": {"file": str(tmp_path / "other.pth")},
        "model": "vit_base_patch16_224",
    }
    path, _, _ = saved(tmp_path, {"model_kwargs": hostile})
    model = wp.load(path)
    assert (model.layers, model.dims.dim) == (2, 192)
    assert set(model.entry.arch) == {"model", "depth", "num_classes"}


def test_contradicting_arguments_of_images_are_told(tmp_path):
    path, _, _ = saved(tmp_path, {"mean": [0.1, 0.2]})
    with pytest.raises(CheckpointError, match=r"trained to see images is not.*mean=\[0.1, 0.2\]"):
        wp.load(path)


def test_a_grey_network_of_timm_is_given_grey_images(tmp_path):
    path, _, _ = saved(tmp_path, in_chans=1)
    model = wp.load(path)
    assert (model.preprocess.mode, len(model.preprocess.mean)) == ("L", 1)
    assert model.prepare(Image.new("RGB", (40, 40))).shape == (1, 1, 224, 224)


def test_the_fine_tuned_head_of_a_kin_is_found(tmp_path):
    small = {"embed_dim": 16, "num_heads": 2, "patch_size": 16}
    name = "beit_base_patch16_224"
    path, network, _ = saved(tmp_path, {"model_kwargs": {"depth": 2, **small}}, name=name, **small)
    assert wp.load(path).module.num_classes == network.num_classes == 5
