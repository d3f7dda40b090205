"""A new family is one file: written into a scratch folder, everything finds it unaided."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

import whitebox_probe as wp
from whitebox_probe._core.errors import CheckpointError, ProbeError
from whitebox_probe.cli import main as cli
from whitebox_probe.models import families as rooms
from whitebox_probe.models import registry

ROOT = Path(__file__).parents[3]

NEW = '''"""A family of one file: the network, how it is read, how its files are."""

import torch
from torch import nn

from whitebox_probe.models.anatomy import Anatomy, Dims, Layer, Tap
from whitebox_probe.models.family import NetworkFamily, Recognised


class Step(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, dim, bias=False)

    def forward(self, z):
        return z + self.project(self.norm(z)).tanh()


class Scratch(nn.Module):
    def __init__(self, *, channels, dim, depth):
        super().__init__()
        self.embed = nn.Linear(channels, dim)
        self.steps = nn.ModuleList(Step(dim) for _ in range(depth))

    def forward(self, images):  # (B, C, H, W): each pixel is a token
        z = self.embed(images.flatten(2).mT)
        for step in self.steps:
            z = step(z)
        return z


class ScratchAnatomy(Anatomy):
    default_basis = "native"

    def dims(self, module):
        d = module.embed.out_features
        return Dims(layers=len(module.steps), dim=d, heads=2, dim_head=d // 2, tokens=None)

    def layer(self, module, number):
        path, step = f"steps.{number - 1}", module.steps[number - 1]

        def heads(x):
            return x.unflatten(-1, (2, -1)).transpose(1, 2)

        taps = {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.norm", "output"),
            "heads": Tap(f"{path}.project", "output", heads),
            "attn_out": Tap(f"{path}.project", "output", torch.tanh),
            "z_half": Tap(path, "output"),
            "z_out": Tap(path, "output"),
        }
        U = step.project.weight.unflatten(0, (2, -1)).mT
        return Layer(number, taps, norm=step.norm, bases=lambda basis: U)

    def bases(self, module):
        return ("native",)

    def official_site(self, basis):
        return "heads"

    def prefix_tokens(self, module):
        return 0


class ScratchFamily(NetworkFamily):
    name = "scratch"
    network = Scratch
    reads = ScratchAnatomy
    example = ({"channels": 3, "dim": 8, "depth": 2},)
    tested = "everything that the contract tests find unaided, which is what this file is for"
    fingerprints = ({"embed.weight": 2, "steps.0.project.weight": 2},)

    def recognise(self, shapes):
        if not self.marked(shapes):
            return None
        dim, channels = shapes["embed.weight"]
        depth = len({key.split(".")[1] for key in shapes if key.startswith("steps.")})
        return Recognised({"channels": channels, "dim": dim, "depth": depth})
'''


def forget():
    """Let the registry look again."""
    for cached in (registry.families, registry._own, registry._entries, registry._added):
        cached.cache_clear()


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The one file, in a folder that families are found in."""
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "scratch.py").write_text(NEW)
    monkeypatch.setattr(rooms, "__path__", [*rooms.__path__, str(tmp_path / "rooms")])
    importlib.invalidate_caches()
    forget()
    yield registry.family_named("scratch")
    monkeypatch.undo()
    sys.modules.pop("whitebox_probe.models.families.scratch", None)
    vars(rooms).pop("scratch", None)
    forget()


@pytest.fixture
def network(scratch):
    return registry.build("scratch", scratch.example[0], source="a test")


def test_it_is_one_of_the_families(scratch):
    assert registry.families()["scratch"] is scratch
    assert registry.is_own(scratch)
    with pytest.raises(ProbeError, match="Did you mean 'scratch'"):
        registry.family_named("scratsch")


def test_a_module_of_it_is_wrapped_and_recorded(network, scratch):
    model = wp.wrap(network)
    assert (model.family, model.anatomy.name) == (scratch, "scratch")
    with wp.record(model, ["heads", "attn_in"]) as recording:
        network(scratch.inputs(scratch.example[0]))
    U = model.subspaces(2)
    projected = recording["attn_in", 2].unsqueeze(1) @ U
    torch.testing.assert_close(recording["heads", 2], projected)


def test_a_file_of_it_is_recognised_and_a_broken_one_is_told_what_it_lacks(network, tmp_path):
    state = network.state_dict()
    torch.save(state, tmp_path / "x.pt")
    model = wp.load(tmp_path / "x.pt")
    assert (model.anatomy.name, model.layers, model.dims.dim) == ("scratch", 2, 8)
    assert all(torch.equal(model.module.state_dict()[key], state[key]) for key in state)
    state["steps.1.project"] = state.pop("steps.1.project.weight")
    torch.save(state, tmp_path / "y.pt")
    with pytest.raises(CheckpointError, match=r"missing: steps\.1\.project\.weight"):
        wp.load(tmp_path / "y.pt")


def test_it_is_probed_in_both_conventions_and_against_its_random_weights(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "x.pt")
    model, images = wp.load(tmp_path / "x.pt"), torch.randn(6, 3, 4, 4)
    for convention in ("paper", "official"):
        result = wp.probe(
            model, images, ["compression", "coding_rate"], convention=convention, progress=False
        )
        assert result.run["family"] == "scratch"
        assert result.curve("compression")["mean"].gt(0).all()
    assert wp.load(tmp_path / "x.pt", weights="random").name == "x-random"


def test_the_command_line_runs_a_file_of_it(network, tmp_path, capsys):
    torch.save(network.state_dict(), tmp_path / "x.pt")
    (tmp_path / "pictures").mkdir()
    for i in range(2):
        Image.new("RGB", (8, 8), (40 * i, 0, 9)).save(tmp_path / "pictures" / f"{i}.png")
    words = ["run", tmp_path / "x.pt", "--data", tmp_path / "pictures", "--out", tmp_path / "out"]
    words += ["--preprocess", "imagenet", "--metrics", "l0", "--quiet"]
    status = cli.main([str(word) for word in words])
    assert status == 0, capsys.readouterr().err
    assert wp.Result.load(tmp_path / "out").run["family"] == "scratch"


def test_the_table_of_families_has_its_row(scratch):
    pytest.importorskip("transformers")  # the other rows are made too
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    rows = [row for row in tables.families("").splitlines() if row.startswith("| `scratch` |")]
    assert len(rows) == 1
    assert "`heads`" in rows[0]
    assert scratch.tested in rows[0]
