"""A network that a function of the user's makes: in Python, and on the command line."""

import json

import pytest
import torch
import yaml

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.cli.main import main

CODE = """
import torch, torchvision
from torch import nn

from beside import DEPTH


def vit(depth=DEPTH, width=16):
    return torchvision.models.VisionTransformer(
        image_size=28, patch_size=7, num_layers=depth, num_heads=2, hidden_dim=width, mlp_dim=20,
        num_classes=10, conv_stem_configs=None,
    )


class Plain(nn.Module):
    def __init__(self, side=28):
        super().__init__()
        self.cut = nn.Unfold(7, stride=side // 4)
        self.embed = nn.Linear(147, 8)
        self.steps = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x):
        x = self.embed(self.cut(x).mT)
        for step in self.steps:
            x = step(x).relu()
        return x


class Kept:
    make = staticmethod(Plain)


def frozen():
    torch.manual_seed(0)
    return Plain()


def nothing():
    return 3


class Unmade(nn.Module):
    def __init__(self):
        pass


def cyclic():
    module = Plain()
    module._modules["me"] = module
    return module


def numbered():
    module = Plain()
    module._modules[5] = nn.Linear(2, 2)
    return module


def lazy():
    module = Plain()
    module.steps[1] = nn.LazyLinear(8)
    return module


class Answering(Plain):
    def __getattr__(self, name):
        if name in ("embed", "steps", "cut"):
            return super().__getattr__(name)
        raise ValueError("no such part")


class Stubborn(Plain):
    def eval(self):
        raise KeyError("eval")


def broken():
    raise RuntimeError("no such file")
"""
MAPPING = {"sites": {"z_in": "steps.{layer}:input", "z_out": "steps.{layer}:output"}, "dim": 8}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(CODE)
    (tmp_path / "beside.py").write_text("DEPTH = 2\n")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(MAPPING))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    import sys

    for name in ("own", "beside"):
        sys.modules.pop(name, None)


IMAGES = torch.randn(3, 3, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("reference", ["own.py:vit", "own:vit"])
def test_a_file_with_what_makes_its_network(folder, reference):
    torch.manual_seed(3)
    made = wp.load(reference, depth=3).module
    torch.save({"state_dict": {f"module.{k}": v for k, v in made.state_dict().items()}}, "w.pth")
    model = wp.load("w.pth", arch=reference, depth=3)
    assert model.layers == 3
    assert model.name == "w"
    assert all(
        torch.equal(a, b) for a, b in zip(model.module.parameters(), made.parameters(), strict=True)
    )
    own = wp.probe(wp.wrap(made, name="w"), IMAGES, ["l0", "compression"], progress=False)
    assert wp.probe(model, IMAGES, ["l0", "compression"], progress=False).frame.equals(own.frame)


def test_random_weights_of_it_are_drawn_anew(folder):
    torch.save(wp.load("own.py:vit").module.state_dict(), "w.pth")
    drawn = [wp.load("w.pth", arch="own.py:vit", weights="random", seed=n) for n in (0, 0, 1)]
    weights = [m.module.encoder.layers[1].mlp[0].weight for m in drawn]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    torch.save(wp.load("own.py:frozen", mapping="mine.yaml").module.state_dict(), "f.pth")
    with pytest.raises(ProbeError, match="same weights for every seed"):
        wp.load("f.pth", arch="own.py:frozen", mapping="mine.yaml", weights="random")


def test_a_mapping_of_ones_own(folder):
    model = wp.load("own.py:Plain", mapping="mine.yaml")
    with torch.no_grad(), wp.record(model, ["z_out"]) as rec:
        out = model.module(IMAGES)
    assert torch.equal(rec["z_out", 3].relu(), out)
    assert wp.load("own.py:Kept.make", mapping="mine.yaml").layers == 3


WRONG = {
    "no such mapping": ({"mapping": "none"}, "own.py:Plain", "there is no mapping 'none'"),
    "no mapping": ({}, "own.py:Plain", "a Plain is of no family known here"),
    "misspelt": ({}, "own.py:vot", "own.py:vot is not there.*Did you mean 'vit'"),
    "no file": ({}, "owm.py:vit", "there is no file owm.py"),
    "no package": ({}, "owm.sub:vit", "owm.sub cannot be imported"),
    "no network": ({}, "own.py:nothing", "makes no network: it gave a int"),
    "broken": ({}, "own.py:broken", "it gave RuntimeError: no such file"),
    "option": ({"depht": 3}, "own.py:vit", "called with depht=3, it gave TypeError"),
    "not callable": ({}, "own.py:DEPTH", "cannot be called"),
    "random": ({"weights": "random"}, "own.py:vit", "does not say how it was built"),
    "of timm": ({"mapping": "vit-pytorch"}, "timm:vit_tiny_patch16_224", "model.py:make"),
    "unmade": ({}, "own.py:Unmade", "gave a Unmade that cannot be asked for its parts: Attrib"),
    "cyclic": ({}, "own.py:cyclic", "gave a Plain that cannot be asked for its parts: Recursion"),
    "numbered": ({}, "own.py:numbered", "gave a Plain (that cannot be asked|whose parts)"),
    "answering": ({}, "own.py:Answering", "cannot be asked for its parts: ValueError: no such"),
    "not evaluated": ({}, "own.py:Stubborn", "cannot be asked for its parts: KeyError: 'eval'"),
    "lazy": ({}, "own.py:lazy", "a Plain cannot be measured yet: 'steps.1.weight' has no shape"),
    "both": ({"arch": "own.py:vit"}, "own.py:vit", "both make a network"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_told_in_one_line(folder, kind):
    options, source, told = WRONG[kind]
    with pytest.raises(ProbeError, match=told) as caught:
        wp.load(source, **options)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_of_another_size_are_told_by_key(folder):
    torch.save(wp.load("own.py:vit").module.state_dict(), "w.pth")
    with pytest.raises(ProbeError, match=r"wrongly shaped.*class_token \(1, 1, 16\) where"):
        wp.load("w.pth", arch="own.py:vit", width=24)


def test_the_command_line_takes_it(folder, capsys):
    torch.save(wp.load("own.py:vit").module.state_dict(), "w.pth")
    (folder / "photos").mkdir()
    from PIL import Image

    for n in range(4):
        Image.effect_noise((28, 28), 20 * (n + 1)).convert("RGB").save(f"photos/{n}.png")
    arguments = ["--preprocess", "imagenet", "--data", "photos", "--metrics", "l0", "--quiet"]
    null = ["--weights", "random", "--seed", "4"]
    assert main(["run", "w.pth", "--arch", "own.py:vit", *arguments, *null, "--out", "a"]) == 0
    told = json.loads((folder / "a" / "run.json").read_text())
    assert told["network"]["arch"]["made by"] == "own.py:vit"
    assert told["preprocess"]["size"] == 28
    assert main(["info", "own.py:vit", "--set", "depth=4"]) == 0
    assert "4 layers" in capsys.readouterr().out
    assert main(["info", "own:Plain", "--mapping", "mine.yaml"]) == 0
    assert "3 layers" in capsys.readouterr().out
    assert main(["list", "--mappings"]) == 0
    assert "torchvision-vit" in capsys.readouterr().out
    assert main(["info", "torchvision-vit"]) == 0
    assert "encoder_layer_{layer}" in capsys.readouterr().out
    plain = ["run", "own.py:Plain", "--mapping", "mine.yaml", "--set", "side=224"]
    assert main([*plain, *arguments, "--out", "b"]) == 0
    assert json.loads((folder / "b" / "run.json").read_text())["model"] == "plain"
