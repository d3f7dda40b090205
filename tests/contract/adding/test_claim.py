"""A claim is one file: in the folder of claims, or in another package that is installed."""

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

import whitebox_probe as wp
from tests.contract import test_every_claim as contract
from whitebox_probe._core.errors import PluginError
from whitebox_probe.auditing import claim
from whitebox_probe.auditing import claims as rooms
from whitebox_probe.auditing.claim import Finding, Use
from whitebox_probe.auditing.verdicts import VERDICTS

ROOT = Path(__file__).parents[3]
CODE = '''
"""Tokens stay apart."""

from whitebox_probe.auditing.claim import Claim, Finding, Use, mean_of
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import paired_p

COSINE = Use("mean_cosine")


class StaysApart(Claim):
    """Tokens do not collapse onto one direction."""

    name = "stays_apart"
    text = "tokens do not collapse onto one direction"
    statistic = "mean cosine of two tokens of the last layer"
    unit = "cosine"
    rule = "it is below 0.5"
    uses = (COSINE,)
    wants = "low"
    keeps = ("class_token",)
    place = 0
    exempt = {"flat": "tokens that point nowhere lie apart, as it claims"}

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """Of the last layer."""
        values = self.values(result, COSINE, setting)[:, -1]
        value, low, high = mean_of(values)
        side = 1 if value < 0.5 else -1
        why = "" if side > 0 else "it is above 0.5"
        return Finding(value, low, high, paired_p(values - 0.5), "samples", side, why)

    def sentence(self, found: Finding) -> str:
        """The cosine."""
        return f"two tokens of the last layer have a cosine of {found.value:.2f} on average"
'''
IMAGES = torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def clean(monkeypatch):
    """What a test adds is gone after it."""
    claim.claims.cache_clear()
    yield
    monkeypatch.undo()
    for name in ("whitebox_probe.auditing.claims.stays_apart", "toy_claims"):
        sys.modules.pop(name, None)
    vars(rooms).pop("stays_apart", None)
    claim.claims.cache_clear()


@pytest.fixture
def one_file(tmp_path, monkeypatch, clean):
    """The one file, in a folder that claims are found in."""
    (tmp_path / "rooms").mkdir()
    (tmp_path / "rooms" / "stays_apart.py").write_text(CODE)
    monkeypatch.setattr(rooms, "__path__", [*rooms.__path__, str(tmp_path / "rooms")])
    importlib.invalidate_caches()


@pytest.fixture
def install(tmp_path, monkeypatch, clean):
    """Install a distribution of one module: (its entry point's name, its class) -> nothing."""

    def write(name, of="StaysApart", code=CODE):
        (tmp_path / "toy_claims.py").write_text(code)
        info = tmp_path / "toy_claims-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-claims\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{claim.GROUP}]\n{name} = toy_claims:{of}\n")
        monkeypatch.syspath_prepend(tmp_path)

    return write


def expect_it_judged(tmp_path):
    """In the table, on disk, in the figure and in the docs' table; and it keeps the contracts."""
    assert next(iter(claim.claims())) == "stays_apart"
    model = wp.load("crate-tiny-fmnist")
    found = wp.audit(model, IMAGES, draws=2, progress=False)
    row = found.frame.set_index("claim").loc["stays_apart"]
    cosine = found.results[model.name].curve("mean_cosine", class_token=True)["mean"].iloc[-1]
    assert row["value"] == pytest.approx(cosine)
    assert row["ci_low"] <= row["value"] <= row["ci_high"]
    assert row["verdict"].startswith(VERDICTS)
    assert row["null"] in ("random weights", "permuted weights")
    whole = json.loads((found.save(tmp_path / "audit") / "audit.json").read_text())
    assert whole["rules"]["stays_apart"]["rule"] == "it is below 0.5"
    assert wp.Audit.load(tmp_path / "audit") == found
    told = " ".join(ax.get_ylabel() for ax in wp.plots.audit(found).axes)
    assert "do not collapse" in " ".join(told.split())
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert "| `stays_apart` | tokens do not collapse onto one direction |" in tables.claims("")
    contract.check(claim.claims()["stays_apart"])


def test_one_file_is_judged(one_file, tmp_path):
    expect_it_judged(tmp_path)


def test_another_packages_is_judged(install, tmp_path):
    install("stays_apart")
    assert claim.claims()["stays_apart"].__module__ == "toy_claims"
    expect_it_judged(tmp_path)


@pytest.mark.parametrize(
    ("name", "of", "told"),
    [
        ("stays_close", "StaysApart", "'stays_close' of toy-claims.*cannot be used"),
        ("compresses", "StaysApart", "'compresses' of toy-claims.*whitebox-probe has one"),
        ("stays_apart", "Nothing", "'stays_apart' of toy-claims.*AttributeError"),
    ],
)
def test_one_that_cannot_be_added_names_its_package(install, name, of, told):
    install(name, of)
    with pytest.raises(PluginError, match=told):
        claim.claims()


@pytest.mark.parametrize(
    ("name", "code", "contracts"),
    [
        ("text", '"apart"', ["says"]),
        ("unit", '""', ["says"]),
        ("keeps", '("depth",)', ["says"]),
        ("uses", '(Use("mean_cosin"),)', ["requests"]),
        ("find", "lambda *_: Finding(0.2, 0.3, 0.4, 0.01, 'samples', 1)", ["effect"]),
        ("find", "lambda *_: Finding(0.2, 0.1, 0.3, 0.01, 'samples', 1)", ["flat"]),
        ("find", "lambda *_: Finding()", ["missing"]),
        ("exempt", '{"flat": "no"}', ["check_reasons"]),
    ],
)
def test_one_that_breaks_a_contract_is_noticed(one_file, monkeypatch, name, code, contracts):
    made = claim.claims()["stays_apart"]
    monkeypatch.setattr(type(made), name, eval(code, {"Finding": Finding, "Use": Use}))
    for each in contracts:
        with pytest.raises((AssertionError, wp.ProbeError)):
            getattr(contract, each)(made)


def test_without_the_file_there_is_none(clean):
    assert "stays_apart" not in claim.claims()
