"""A null is one file: in the folder of nulls, everything finds it unaided."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
import torch

import whitebox_probe as wp
from tests.contract import test_every_null as contract
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.cli import main as cli
from whitebox_probe.probing import null, null_kinds
from whitebox_probe.probing.probe import DrawsWarning

ROOT = Path(__file__).parents[3]
CODE = '''
"""Tokens of another sign."""

import torch
from torch import Tensor

from whitebox_probe.probing.null import Null


class Flipped(Null):
    """Each entry keeps its size and is given a random sign."""

    kind = "flipped"
    text = "the model's tokens with random signs"
    line = (0, (4, 1, 1, 1))
    replaces = "tokens"

    def tokens(self, z: Tensor, random: torch.Generator) -> Tensor:
        """One sign an entry."""
        signs = torch.randint(2, z.shape, generator=random).to(z) * 2 - 1
        return z * signs
'''
IMAGES = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def flipped(tmp_path, monkeypatch):
    """The one file, in a folder that nulls are found in."""
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "flipped.py").write_text(CODE)
    monkeypatch.setattr(null_kinds, "__path__", [*null_kinds.__path__, str(tmp_path / "rooms")])
    importlib.invalidate_caches()
    null.kinds.cache_clear()
    yield null.null_named("flipped")
    monkeypatch.undo()
    sys.modules.pop("whitebox_probe.probing.null_kinds.flipped", None)
    vars(null_kinds).pop("flipped", None)
    null.kinds.cache_clear()


@pytest.fixture
def model():
    return wp.load("crate-tiny-fmnist")


def test_it_is_found_and_the_nearest_name_is_told(flipped):
    assert null.kinds()["flipped"] is flipped
    assert "flipped" in null.for_probe()
    with pytest.raises(ProbeError, match="Did you mean 'flipped'"):
        null.null_named("fliped")


def test_it_is_probed_beside_the_model(flipped, model):
    result = wp.probe(model, IMAGES, ["l0", "mean_cosine"], null=[None, "flipped"], progress=False)
    own, other = (result.select(null=kind) for kind in ("", "flipped"))
    # Signs leave the share of non-zeros alone, and turn the tokens.
    assert (own.curve("l0")["mean"] == other.curve("l0")["mean"]).all()
    assert other.curve("mean_cosine")["mean"].abs().max() < 0.1
    assert own.curve("mean_cosine")["mean"].abs().max() > 0.1


def test_wp_nulls_gives_it_and_figures_draw_its_line(flipped, model):
    found = wp.nulls(model, IMAGES, ["compression"], kinds=["flipped", "gaussian"], progress=False)
    assert list(found) == ["flipped", "gaussian"]
    assert found["flipped"].model == "crate-tiny-fmnist | flipped"
    result = wp.probe(model, IMAGES, ["compression"], progress=False)
    lines = wp.plots.compression(result, nulls=found).axes[0].lines
    drawn = {line.get_label(): line for line in lines}
    assert {"null: flipped", "null: gaussian"} <= set(drawn)
    pattern = drawn["null: flipped"]._unscaled_dash_pattern
    assert pattern == (0, (4, 1, 1, 1))


def test_the_command_line_measures_it(flipped, tmp_path, capsys):
    words = ["run", "crate-tiny-fmnist", "--null", "flipped", "--metrics", "l0", "--limit", "3"]
    status = cli.main([*words, "--out", str(tmp_path / "out"), "--quiet"])
    assert status == 0, capsys.readouterr().err
    assert set(wp.Result.load(tmp_path / "out").frame["null"]) == {"flipped"}


def test_the_table_of_nulls_has_its_row(flipped):
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert "| `flipped` | the model's tokens with random signs |" in tables.nulls("")


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contracts(flipped, check):
    check(flipped)


@pytest.mark.parametrize(
    ("name", "code", "contracts"),
    [
        ("replaces", '"subspaces"', ["says"]),
        ("line", '"wavy"', ["line"]),
        ("tokens", "lambda self, z, random: z[1:]", ["shape"]),
        ("tokens", "lambda self, z, random: z.clone()", ["drawing", "independent"]),
        ("tokens", "lambda self, z, random: torch.randn(z.shape).to(z)", ["drawing", "batches"]),
        ("exempt", '{"independent": "no"}', ["check_reasons"]),
    ],
)
def test_one_that_breaks_a_contract_is_noticed(flipped, monkeypatch, name, code, contracts):
    monkeypatch.setattr(type(flipped), name, eval(code), raising=False)
    for each in contracts:
        with pytest.raises((AssertionError, ValueError, DrawsWarning)):
            getattr(contract, each)(flipped)
