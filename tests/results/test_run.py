"""Where a result comes from: fields, read like a mapping, written and read again."""

import copy
import json
import pickle
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from whitebox_probe._core.errors import ResultError
from whitebox_probe.results.result import Result
from whitebox_probe.results.run import Run

OLD = Path(__file__).parent / "old"  # as the first format's code wrote it


def test_it_reads_like_a_mapping(made):
    run = made(basis=["native", "native+qr"], eps=[0.1, 0.5]).run
    assert (run["model"], run["layers"], run["convention"], run["lam"]) == (
        "crate",
        3,
        "paper",
        0.1,
    )
    assert run["basis"] == ["native", "native+qr"]
    assert run["eps"] == [0.1, 0.5]
    assert run["null"] is None
    assert (run["prenorm"], run["class_token"], run["seed"]) == (True, True, 0)
    assert (run["device"], run["processes"]) == ("cpu", 1)
    assert run["arguments"]["batch_size"] == 32
    assert run["arguments"]["fast"] is True
    assert run.get("nothing", 7) == 7
    assert "eps" in run
    assert "nothing" not in run
    assert {"model", "convention", "basis", "device", "arguments"} <= set(run)
    assert len(run) == len(list(run)) == len(dict(run))
    with pytest.raises(KeyError, match="nothing"):
        run["nothing"]


def test_it_cannot_be_changed_and_keeps_no_value_of_the_callers(made):
    data = {"name": "images", "fingerprint": "abc"}
    run = made(data=data).run
    data["name"] = "other"
    assert run.data["name"] == "images"
    with pytest.raises(FrozenInstanceError):
        run.model = "other"


def test_it_is_the_same_after_json_pickle_and_copy(made):
    run = made(null_line=(0, (1, 1)), bounds={"compression": (np.float64(1.0), 2)}).run
    again = Run.of(json.loads(json.dumps(run.to_dict())))
    assert again == run
    assert again.null_line == (0, (1, 1))
    assert pickle.loads(pickle.dumps(run)) == copy.deepcopy(run) == run
    assert json.loads(json.dumps(run.to_dict())) == json.loads(json.dumps(again.to_dict()))


def test_runs_are_equal_whose_numbers_depend_on_the_same(made):
    run = made().run
    assert run == replace(run, seconds=9.0, created="now", versions={"torch": "9"})
    assert run == replace(run, execution={"batch_size": 1, "device": "cuda", "processes": 2})
    assert run != replace(run, settings=run.settings | {"seed": 1})
    assert run != replace(run, preprocess={"size": 32})
    with pytest.raises(TypeError, match=r"has no hash: use run\.model"):
        hash(run)


def test_what_no_version_wrote_is_named(made):
    told = made().run.to_dict()
    with pytest.raises(ResultError, match="holds unknown keys: colour, shape"):
        Run.of(told | {"shape": 1, "colour": 2})
    with pytest.raises(ResultError, match="lacks keys: model"):
        Run.of({k: v for k, v in told.items() if k != "model"})
    with pytest.raises(ResultError, match="format 3 cannot be read.*newer"):
        Run.of(told | {"format": 3})
    few = {k: v for k, v in told.items() if k not in ("nonfinite", "labels", "null_of")}
    assert Run.of(few) == made().run
    with pytest.raises(TypeError, match=r"network\.arch of a run is a object"):
        made(network={"arch": object()})


def test_the_number_of_tokens_follows_the_class_token(made):
    run = made(class_token=[True, False]).run
    assert [run.tokens_of(each) for each in (True, False, None)] == [10, 9, 10]
    assert made(class_token=False).run.tokens_of(False) == 10  # as measured: without it already


def test_bounds_hold_for_their_settings(made):
    sweep = [{"eps": 0.1, "low": 1, "high": 3}, {"eps": 0.5, "low": 0, "high": 2}]
    run = made(eps=[0.1, 0.5], bounds={"compression": sweep}).run
    assert run.bound("compression", {"eps": 0.5}) == (0, 2)
    assert run.bound("compression", {"eps": 0.3}) is None
    assert run.bound("coding_rate", {}) is None
    assert made(bounds={"compression": [1, 3]}).run.bound("compression", {}) == (1, 3)


def test_a_run_of_the_first_format_is_read():
    run = Result.load(OLD).run
    assert (run.model, run.family, run.layers, run.count) == ("crate", "crate", 3, 5)
    assert (run["convention"], run["basis"], run["eps"]) == ("paper", "native+qr", [0.1, 0.5])
    assert run.settings["bases"] == ["native"]
    assert run.settings["orthonormal"] == [True]
    assert run.settings["metrics"][:3] == ["compression", "coding_rate", "l0"]
    assert (run["batch_size"], run["device"], run["seed"]) == (32, "cpu", 0)
    assert run.measures["compression"]["label"] == r"$R^c(<Z>;\, U^\ell)$"
    assert run.preprocess is None


def test_a_table_of_the_first_format_gets_its_settings(tmp_path):
    result = Result.load(OLD)
    curve = result.curve("compression", eps=0.5)
    assert curve["layer"].tolist() == [1, 2, 3]
    assert curve["prenorm"].all()
    assert curve["basis"].eq("native+qr").all()
    values = result.values("compression", eps=0.5)
    np.testing.assert_allclose(values.mean(axis=0), curve["mean"])
    assert result.curve("l0")[["eps", "prenorm"]].isna().all(axis=None)
    assert result.curve("coherence_mean")["convention"].eq("").all()
    assert result.matrix("coherence").shape == (3, 2, 2)
    assert Result.load(result.save(tmp_path)) == result
