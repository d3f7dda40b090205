"""docs/plug-ins.md: its examples are added as it says, and its table names what there is."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

import whitebox_probe as wp
from whitebox_probe import checkpoints, plots
from whitebox_probe.auditing import claim
from whitebox_probe.data import catalogue as data
from whitebox_probe.metrics import catalogue as metrics
from whitebox_probe.models import registry as families
from whitebox_probe.probing import null, null_kinds

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plug-ins.md").read_text()
GROUPS = {module.GROUP for module in (metrics, plots, data, claim, families)}
IMAGES = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(1))


def block(section, language):
    """The one code block of a section."""
    (found,) = re.findall(
        rf"```{language}\n(.*?)```", PAGE.partition(section)[2].partition("\n## ")[0], re.S
    )
    return found


@pytest.fixture
def forgetting(monkeypatch):
    null.kinds.cache_clear()
    metrics.catalogue.cache_clear()
    yield
    monkeypatch.undo()
    for name in ("whitebox_probe.probing.null_kinds.flipped", "loudness_probe"):
        sys.modules.pop(name, None)
    vars(null_kinds).pop("flipped", None)
    null.kinds.cache_clear()
    metrics.catalogue.cache_clear()


def test_the_table_names_every_group_folder_and_contract():
    rows = [row for row in PAGE.splitlines() if row.startswith("| ") and "test_every" in row]
    assert {group for group in re.findall(r"`(whitebox_probe\.\w+)`", "".join(rows))} == GROUPS
    for row in rows:
        for folder in re.findall(r"`(whitebox_probe/[\w/]+)/NAME\.py`", row):
            assert (ROOT / folder / "__init__.py").is_file()
    named = set(re.findall(r"`(test_every_\w+\.py)`", "".join(rows)))
    there = {path.name for path in (ROOT / "tests" / "contract").glob("test_every_*.py")}
    others = {"metric_as_torchmetrics", "public_name", "argument", "function"}
    assert named == there - {f"test_every_{each}.py" for each in others}


def test_the_file_in_the_folder_is_a_null(forgetting, tmp_path, monkeypatch):
    (tmp_path / "flipped.py").write_text(block("## A file in the folder", "python"))
    monkeypatch.setattr(null_kinds, "__path__", [*null_kinds.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    model = wp.load("crate-tiny-fmnist")
    found = wp.nulls(model, IMAGES, ["l0"], kinds="flipped", progress=False)["flipped"]
    own = wp.probe(model, IMAGES, ["l0"], progress=False)
    assert found.curve("l0")["mean"].tolist() == own.curve("l0")["mean"].tolist()


def test_the_entry_point_is_a_measure(forgetting, tmp_path, monkeypatch):
    (tmp_path / "loudness_probe.py").write_text(block("## An entry point", "python"))
    toml = block("## An entry point", "toml")
    group, name, where = re.search(r'\."(.*?)"\]\n(\w+) = "(.*?)"', toml).groups()
    info = tmp_path / "loudness_probe-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loudness-probe\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {where}\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = wp.probe("crate-tiny-fmnist", IMAGES, ["loudness"], progress=False)
    assert result.curve("loudness")["mean"].gt(0).all()
    Z = torch.ones(2, 3, 4) * 2
    assert wp.metrics.Loudness()(Z) == 4


def test_the_checkpoint_is_read_from_a_list_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own.yaml").write_text(block("## A checkpoint of your own", "yaml"))
    weights = wp.load("crate-tiny-fmnist").module.state_dict()
    torch.save(weights, tmp_path / "mine.pt")
    monkeypatch.setenv(checkpoints.REGISTRY_VARIABLE, str(tmp_path / "own.yaml"))
    model = wp.load("mine-small")
    assert all(torch.equal(model.module.state_dict()[key], weights[key]) for key in weights)
