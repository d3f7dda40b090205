"""A run.json that was edited is told in one line, whatever stands in it."""

import json

import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_crate
from whitebox_probe._core.errors import ResultError
from whitebox_probe.results.run import Run


@pytest.fixture(scope="module")
def run():
    model = wp.wrap(small_crate(), name="small")
    result = wp.probe(model, torch.rand(4, 3, 12, 12), ["l0"], progress=False)
    return json.loads(json.dumps(result.run.to_dict()))


def test_what_was_written_is_read(run):
    assert Run.of(run).to_dict() == run


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, []) for key in ("model", "tokens", "measures", "settings", "data", "seconds")),
        *((key, None) for key in ("model", "tokens", "measures", "settings", "data")),
        ("layers", True),
        ("labels", 3),
    ],
)
def test_a_field_of_another_kind_is_told(run, key, value):
    with pytest.raises(ResultError, match=f"'{key}' of run.json is a"):
        Run.of(run | {key: value})


def test_measures_are_described_by_mappings(run):
    with pytest.raises(ResultError, match="'measures' of run.json"):
        Run.of(run | {"measures": {"l0": 3}})


@pytest.mark.parametrize("name", ["seed", "conventions", "bases"])
def test_what_is_read_of_settings_has_to_be_there(run, name):
    settings = {key: value for key, value in run["settings"].items() if key != name}
    with pytest.raises(ResultError, match=f"follow its schema: settings must contain .*'{name}'"):
        Run.of(run | {"settings": settings})


@pytest.mark.parametrize("name", ["label", "unit", "group", "bases"])
def test_what_is_read_of_a_measure_has_to_be_there(run, name):
    told = {key: value for key, value in run["measures"]["l0"].items() if key != name}
    with pytest.raises(ResultError, match=f"follow its schema: measures.l0 .*'{name}'"):
        Run.of(run | {"measures": {"l0": told}})


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("network", "arch"), [1]),
        (("settings", "measurements"), [{"metric": 3}]),
        (("settings", "dtype"), [1]),
        (("settings", "fast"), "x"),
        (("null_line",), "x"),
        (("null_line",), [0]),
        (("null_line",), [0, ["x"]]),
    ],
)
def test_what_lies_deeper_is_of_its_kind(run, where, value):
    told = json.loads(json.dumps(run))
    part = told
    for name in where[:-1]:
        part = part[name]
    part[where[-1]] = value
    with pytest.raises(ResultError, match=r"run\.json does not follow its schema"):
        Run.of(told)


@pytest.mark.parametrize("line", [None, "--", "dotted", [0, [1, 2.5]]])
def test_lines_of_nulls_are_read(run, line):
    assert Run.of(run | {"null_line": line}).model == run["model"]
