"""A measure is one file: in this package's folder, or in another package that is installed."""

import importlib
import inspect
import pickle
import sys

import pytest
import torch
from torchmetrics import MetricCollection

import whitebox_probe as wp
from tests.conftest import small_vit
from whitebox_probe._core.errors import PluginError, ProbeError
from whitebox_probe.cli import main as cli
from whitebox_probe.metrics import catalogue as found

FILE = '''
"""How loud tokens are."""

from dataclasses import dataclass

from torch import Tensor

from whitebox_probe._core.checks import expect_finite, expect_shape
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = ["Loudness", "loudness"]


def loudness(Z: Tensor, *, power: float) -> Tensor:
    """Mean power of the entries: mean |z|^power.

    Shapes: Z (B, n, d) -> (B,), float64.
    Raises: ShapeError, NonFiniteError.
    """
    expect_shape(Z, "B n d", name="Z")
    return expect_finite(Z.double().abs().pow(power).mean(dim=(-2, -1)), name="loudness")


@dataclass(frozen=True, kw_only=True)
class Loudness(SampleMeasure):
    """Mean power of the entries of a sample."""

    name = "loudness"
    unit = "as the features, to the power"
    formula = "mean |z|^a"
    source = "a test"
    label = "loudness of $<Z>$"
    group = "geometry"
    site = {"paper": "z_out"}
    default = False
    invariances = frozenset({"token_order", "repeated_tokens"})

    power: float = 1.5

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of the site's tokens."""
        return layer.at(site).double().abs().pow(self.power).mean(dim=(-2, -1))
'''
Z = torch.randn(7, 5, 6, generator=torch.Generator().manual_seed(0))
IMAGES = torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def forgetting():
    """Forget the scratch measures afterwards, and what was cached of them."""
    before = set(sys.modules)
    found.catalogue.cache_clear()
    yield
    for name in set(sys.modules) - before:
        if name.rpartition(".")[2] in ("loudness", "other_measures"):
            del sys.modules[name]
    vars(wp.metrics).pop("loudness", None)
    found.catalogue.cache_clear()


@pytest.fixture
def one_file(tmp_path, monkeypatch, forgetting):
    """The measure as one file of the folder."""
    (tmp_path / "loudness.py").write_text(FILE)
    monkeypatch.setattr(wp.metrics, "__path__", [*wp.metrics.__path__, str(tmp_path)])
    importlib.invalidate_caches()


@pytest.fixture
def installed(tmp_path, monkeypatch, forgetting):
    """Install a distribution that has the measure: its entry point's name and class -> nothing."""

    def install(name, of="Loudness"):
        (tmp_path / "other_measures.py").write_text(FILE)
        info = tmp_path / "other_measures-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: other-measures\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[{found.GROUP}]\n{name} = other_measures:{of}\n")
        monkeypatch.syspath_prepend(tmp_path)
        found.catalogue.cache_clear()

    return install


def test_one_file_makes_it_a_measure_a_function_and_a_metric(one_file):
    kind = found.catalogue()["loudness"]
    assert kind.__module__ == "whitebox_probe.metrics.loudness"
    assert found.measure_named("loudness") is kind
    want = Z.double().abs().pow(3).mean(dim=(1, 2))
    torch.testing.assert_close(wp.metrics.functional.loudness(Z, power=3), want)
    assert "loudness" in dir(wp.metrics.functional)
    assert "Loudness" in dir(wp.metrics)
    expect_a_metric(want)


def test_another_package_adds_it_by_an_entry_point(installed):
    installed("loudness")
    assert found.catalogue()["loudness"].__module__ == "other_measures"
    expect_a_metric(Z.double().abs().pow(3).mean(dim=(1, 2)))


def expect_a_metric(want):
    assert list(inspect.signature(wp.metrics.Loudness).parameters) == [
        "convention",
        "power",
        "kwargs",
    ]
    metric = wp.metrics.Loudness(power=3)
    assert metric.definition == found.catalogue()["loudness"](power=3)
    metric(Z[:3])
    metric = pickle.loads(pickle.dumps(metric))
    metric.update(Z[3:])
    torch.testing.assert_close(metric.samples(), want)
    both = MetricCollection({"one": metric.clone(), "other": wp.metrics.Loudness(power=2)})
    both.reset()
    both.update(Z)
    torch.testing.assert_close(both.compute()["one"], want.mean())
    assert len(both.compute_groups) == 2


def test_what_cannot_be_used_names_the_package(installed):
    installed("quietness")
    with pytest.raises(PluginError, match="'quietness' of other-measures.*cannot be used"):
        found.catalogue()


def test_a_name_that_is_taken_names_the_package(installed):
    installed("coding_rate")
    with pytest.raises(PluginError, match="'coding_rate' of other-measures.*whitebox-probe has"):
        found.catalogue()


def test_without_it_the_nearest_name_is_told(forgetting):
    with pytest.raises(ProbeError, match="unknown metric 'loudness'"):
        found.measure_named("loudness")


# From here on: through the engine, the command line and the figures.


def expect_it_probed(capsys):
    vit = wp.wrap(small_vit(), name="vit")
    with wp.record(vit, "z_out") as rec, torch.no_grad():
        vit.module(IMAGES)
    for metrics, power in (["loudness"], 1.5), ([wp.metrics.Loudness(power=3)], 3):
        result = wp.probe(vit, IMAGES, metrics, progress=False)
        assert set(result.frame["metric"]) == {"loudness"}
        for layer, got in enumerate(result.curve("loudness")["mean"], start=1):
            want = rec["z_out", layer].double().abs().pow(power).mean()
            assert got == pytest.approx(want.item(), rel=1e-4)
    axes = wp.plots.curves(result, metric="loudness").axes[0]
    assert "loudness" in axes.get_ylabel()
    capsys.readouterr()
    assert cli.main(["list", "--metrics"]) == 0
    assert "mean |z|^a" in capsys.readouterr().out


def test_one_file_is_probed_drawn_and_listed(one_file, capsys):
    expect_it_probed(capsys)


def test_another_packages_is_probed_drawn_and_listed(installed, capsys):
    installed("loudness")
    expect_it_probed(capsys)
