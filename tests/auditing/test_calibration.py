"""The audit on networks of known truth, and on untrained ones: what it must see, and must not."""

import csv
from functools import cache
from pathlib import Path

import pytest

import whitebox_probe as wp
from whitebox_probe.auditing.audit import wanted
from whitebox_probe.auditing.grid import usual
from whitebox_probe.auditing.judge import Measured, judge
from whitebox_probe.models.load import load_random

NETWORKS = wp.reference.networks()
with (Path(__file__).parents[2] / "docs" / "calibration.csv").open(newline="") as file:
    TABLE = {row.pop("network"): row for row in csv.DictReader(file)}


@cache
def verdicts(name, seed):
    known = NETWORKS[name]
    frame = wp.audit(known.build(seed), known.data(seed), progress=False).frame
    return frame.set_index("claim")["verdict"].to_dict()


def test_every_network_is_in_the_table():
    assert list(TABLE) == list(NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_cell_is_the_audits_and_those_that_are_settled_the_expected_ones(name):
    assert verdicts(name, 0) == TABLE[name]
    for claim, verdict in NETWORKS[name].expected.items():
        assert TABLE[name][claim] == verdict, claim


@pytest.mark.parametrize(
    "name", ["descent-residual", "ascent", "bias", "ista-overcomplete", "sparser", "bases-random"]
)
def test_another_seed_is_judged_alike(name):
    for claim, verdict in NETWORKS[name].expected.items():
        assert verdicts(name, 7)[claim] == verdict, claim


@pytest.mark.parametrize(
    ("name", "data"), [("crate-tiny-fmnist", "fashion-mnist"), ("gpt2-tiny-kjv", "kjv")]
)
def test_untrained_networks_are_supported_in_nothing(name, data):
    """Of six against twelve: benchmarks/calibration.py has twenty against twenty, of four kinds."""
    if name.startswith("gpt2"):
        pytest.importorskip("transformers")
    trained = wp.load(name)
    base = usual(trained, eps=0.1, lam=0.1)
    requests, absent = wanted(trained, base, ())
    drawn = [
        wp.probe(load_random(trained, seed=n), data, requests, limit=12, progress=False)
        for n in range(100, 118)
    ]
    supported = 0
    for result in drawn[:6]:
        measured = Measured(result, base, nulls={"random weights": drawn[6:]}, absent=absent)
        supported += (judge({name: measured}).frame["verdict"] == "supported").any()
    assert supported <= 1
