"""The models that ship with the package are what the registry says they are."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import whitebox_probe as wp
from whitebox_probe import checkpoints
from whitebox_probe.data import open_data
from whitebox_probe.data.fashion_mnist import read_embedded
from whitebox_probe.data.images import image_transform

SHIPPED = [
    name
    for name, e in checkpoints.registry().items()
    if e.source["kind"] == "packaged" and e.accuracy
]


def test_the_image_models_that_ship_take_less_than_twelve_megabytes():
    stages = ["", "-epoch01", "-epoch07", "-init"]
    pairs = {f"{kind}-tiny-fmnist{stage}" for kind in ("crate", "vit") for stage in stages}
    assert pairs <= set(SHIPPED)
    assert all("-tiny-fmnist" in name for name in SHIPPED)
    assert sum(checkpoints.entry(name).size for name in SHIPPED) < 12e6


@pytest.mark.parametrize("name", [name for name in SHIPPED if "-epoch" in name])
def test_weights_from_inside_the_training_are_half_and_are_loaded_as_float32(name):
    trained, _, stage = name.partition("-epoch")
    log = json.loads((Path(wp.__file__).parent / "weights" / f"{trained}.log.json").read_text())
    assert 1 <= int(stage) < len(log["epochs"])
    path = checkpoints.fetch(checkpoints.entry(name))
    assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}
    model = wp.load(name)
    assert {p.dtype for p in model.module.parameters()} == {torch.float32}
    assert model.dims == wp.load(trained).dims
    # The test images are others than the validation's: a percent or so apart.
    stated = model.entry.accuracy[0]["top1"]
    assert stated == pytest.approx(
        100 * log["epochs"][int(stage) - 1]["validation_accuracy"], abs=2.5
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_the_accuracy_on_the_shipped_images_is_the_registered_one(name):
    model = wp.load(name)
    p = model.preprocess
    transform = image_transform(
        size=p.size, mean=p.mean, std=p.std, mode=p.mode, crop=p.crop, interpolation=p.interpolation
    )
    source = open_data("fashion-mnist", transform=transform)
    labels = torch.from_numpy(read_embedded()[1])
    with torch.inference_mode():
        right = sum(
            int((model.module(batch.inputs).argmax(1) == labels[batch.ids]).sum())
            for batch in source.batches(200, 0)
        )
    stated = next(a["top1"] for a in model.entry.accuracy if "2,000" in a["split"])
    # One image may fall to the other side by rounding on another machine.
    assert 100 * right / 2000 == pytest.approx(stated, abs=0.051)


@pytest.mark.parametrize("kind", ["crate", "vit"])
def test_the_log_of_the_training_run_is_shipped_and_agrees(kind):
    entry = checkpoints.entry(f"{kind}-tiny-fmnist")
    path = Path(wp.__file__).parent / "weights" / f"{kind}-tiny-fmnist.log.json"
    log = json.loads(path.read_text())
    assert 100 * log["test_accuracy"]["all 10,000"] == pytest.approx(entry.accuracy[0]["top1"])
    assert log["recipe"]["kind"] == kind
    model = wp.load(entry.name)
    assert sum(p.numel() for p in model.module.parameters()) == log["parameters"]


def test_the_pair_is_matched():
    logs = [
        json.loads((Path(wp.__file__).parent / "weights" / f"{k}-tiny-fmnist.log.json").read_text())
        for k in ("crate", "vit")
    ]
    recipes = [{k: v for k, v in log["recipe"].items() if k != "kind"} for log in logs]
    assert recipes[0] == recipes[1]
    assert len(logs[0]["epochs"]) == len(logs[1]["epochs"])
    crate, vit = wp.load("crate-tiny-fmnist"), wp.load("vit-tiny-fmnist")
    assert crate.dims == vit.dims
