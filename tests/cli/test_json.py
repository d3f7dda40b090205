"""`--json`: one document on stdout, the numbers of the tables, and the keys of the page."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import whitebox_probe as wp
from whitebox_probe.cli import _json
from whitebox_probe.cli import main as cli

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
MODELS = ("crate-tiny-fmnist", "vit-tiny-fmnist")


def refuse(constant):
    raise AssertionError(f"{constant} is no JSON")


@pytest.fixture
def told(capsys):
    def run(*words):
        status = cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        assert status == 0, err
        return json.loads(out, parse_constant=refuse)

    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("json")
    few = ["--limit", "8", "--metrics", "l0,coherence", "--quiet"]
    for model in MODELS:
        assert cli.main(["run", model, *few, "--out", str(folder / model)]) == 0
    return folder


def documented(command):
    row = next(r for r in PAGE.read_text().splitlines() if r.startswith(f"| `{command}` |"))
    return set(re.findall(r"`(\w+)`", row.split("|")[2]))


def same(rows, frame):
    """Whether records are the rows of a table, null where it has no value."""
    assert len(rows) == len(frame) > 0
    for row, there in zip(rows, frame.to_dict("records"), strict=True):
        assert set(row) == set(there)
        for key, value in there.items():
            if isinstance(value, float) and not np.isfinite(value):
                assert row[key] is None
            else:
                assert row[key] == _json.plain(value), key


@pytest.mark.parametrize(
    ("form", "key"),
    [
        ([], "checkpoints"),
        *(([f"--{k}"], k) for k in ("architectures", "metrics", "data", "figures", "mappings")),
        (["--sites"], "sites"),
    ],
)
def test_every_list_is_a_document_with_the_keys_of_the_page(told, form, key, capsys):
    found = told("list", *form, "--json")
    assert key in found
    assert documented("list") >= {*found, *(k for rows in found.values() for r in rows for k in r)}
    names = [row["name"] for row in found[key]]
    assert len(set(names)) == len(names) > 3
    cli.main(["list", *form])
    table = capsys.readouterr().out
    assert [name for name in names if name not in table] == []


@pytest.mark.parametrize(
    "name",
    ["crate-tiny-fmnist", "crate-tiny-kjv", "crate_small", "coherence", "compression", "kjv",
     "photos", "torchvision-vit"],
)  # fmt: skip
def test_info_is_a_document(told, name):
    found = told("info", name, "--json")
    assert name in found.values()
    assert all(re.fullmatch(r"[^\s,A-Z]+", key) for key in found)
    if "sizes" in found:
        assert set(found["sizes"]) == set("LndKp")
        assert isinstance(found["parameters"], int)


def test_run_is_a_document(told, tmp_path):
    words = ("--limit", 6, "--metrics", "l0,coherence", "--out", tmp_path / "out")
    found = told("run", "crate-tiny-fmnist", *words, "--json")
    (only,) = found["runs"]
    assert documented("run") >= {*found, *only}
    result = wp.Result.load(tmp_path / "out")
    same(only["layers"], result.frame)
    assert only["samples"] == 6
    row = next(row for row in only["changes"] if row["metric"] == "l0")
    curve = result.curve("l0")["mean"]
    assert (row["first"], row["last"]) == (curve.iloc[0], curve.iloc[-1])
    assert "6 samples" in only["notes"][0]


def test_run_of_several_models_is_one_document(told, tmp_path):
    words = ("--limit", 2, "--metrics", "l0", "--out", tmp_path)
    found = told("run", *MODELS, *words, "--json")
    assert [each["model"] for each in found["runs"]] == list(MODELS)
    assert [Path(each["out"]).name for each in found["runs"]] == list(MODELS)


def test_compare_is_a_document(told, runs, tmp_path):
    words = [runs / model for model in MODELS]
    found = told("compare", *words, "--out", tmp_path, "--formats", "png", "--json")
    assert documented("compare") >= set(found)
    comparison = wp.Comparison.load(tmp_path)
    assert [row["difference"] for row in found["differences"]] == pytest.approx(
        list(comparison.differences["difference"]), rel=1e-12
    )
    assert {row["count"] for row in found["differences"]} == {8}
    assert all(0 <= row["p"] <= row["p_holm"] <= 1 for row in found["differences"])
    assert all(Path(path).is_file() for path in found["files"])
    (weights,) = [each for each in found["unpaired"] if "coherence_mean" in each["metrics"]]
    assert "no samples" in weights["why"]


def test_audit_is_a_document(told, tmp_path):
    few = ("--limit", 6, "--no-null", "--no-robustness", "--formats", "png", "--quiet")
    found = told("audit", MODELS[0], *few, "--explain", "compresses", "--out", tmp_path, "--json")
    assert documented("audit") >= set(found)
    table = pd.read_csv(tmp_path / "audit.csv")
    assert [row["verdict"] for row in found["verdicts"]] == list(table["verdict"])
    assert found["explained"].keys() == {"compresses"}


def test_an_error_leaves_stdout_empty(capsys):
    assert cli.main(["info", "no-such-thing", "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1


def test_what_json_cannot_hold_is_null():
    plain = _json.plain({"a": np.float64("inf"), "b": np.array([1, 2]), "c": pd.NA, "d": np.True_})
    assert plain == {"a": None, "b": [1, 2], "c": None, "d": True}
