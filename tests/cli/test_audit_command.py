"""`audit`: models and checkpoints of one training, thresholds, explanations, and refusals."""

import json
from pathlib import Path

import pytest

import whitebox_probe
from whitebox_probe.cli import main as cli

WEIGHTS = Path(whitebox_probe.__file__).parent / "weights"
FEW = ["--limit", "6", "--draws", "2", "--null-limit", "3", "--quiet", "--formats", "png"]


def test_the_checkpoints_of_a_training_are_judged_one_by_one(tmp_path, capsys):
    files = [str(WEIGHTS / f"crate-tiny-fmnist{end}.safetensors") for end in ("-init", "")]
    told = ["--arch", "crate-tiny-fmnist", "--explain", "compresses", "--threshold", "cosine=0.2"]
    code = cli.main(["audit", "--checkpoints", *files, *told, "--out", str(tmp_path), *FEW])
    assert code == 0
    printed = capsys.readouterr().out
    assert printed.index("crate-tiny-fmnist-init") < printed.index("crate-tiny-fmnist: ")
    assert "Supported when R^c falls" in " ".join(printed.split())
    assert "6 samples: intervals are Student's t" in printed
    whole = json.loads((tmp_path / "audit.json").read_text())
    assert whole["thresholds"]["cosine"] == 0.2
    assert whole["settings"]["draws"] == 2
    assert {row["model"] for row in whole["verdicts"]} == {Path(file).stem for file in files}
    for name in ("audit.csv", "audit-robustness.csv", "audit-parts.csv", "audit-curves.csv"):
        assert (tmp_path / name).stat().st_size > 100
    assert (tmp_path / "audit.png").is_file()


def test_the_seeds_of_a_recipe_are_told_together(tmp_path, capsys):
    files = [str(WEIGHTS / f"crate-tiny-fmnist{end}.safetensors") for end in ("-init", "")]
    command = ["audit", "--seeds", *files, "--arch", "crate-tiny-fmnist", "--no-null"]
    assert cli.main([*command, "--no-robustness", "--out", str(tmp_path), *FEW]) == 0
    printed = capsys.readouterr().out
    table = printed[printed.index("mean effect [95% over seeds]") :]
    assert "attention_descends" in table
    whole = json.loads((tmp_path / "audit.json").read_text())
    values = [row["value"] for row in whole["verdicts"] if row["claim"] == "ista_descends"]
    line = next(line for line in table.splitlines() if line.startswith("ista_descends"))
    mean, half = sum(values) / 2, float(line.split()[4].rstrip("]")) - float(line.split()[2])
    assert float(line.split()[2]) == pytest.approx(mean, abs=0.1 * half)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "no MODEL is given"),
        (["crate-tiny-fmnist", "--checkpoints", "a.pt"], "MODELs and --checkpoints are given"),
        (["--seeds", "a.pt"], "--seeds has one file"),
        (["crate-tiny-fmnist", "--threshold", "cosin=0.2"], "there is no threshold 'cosin'"),
        (["crate-tiny-fmnist", "--threshold", "gap=3"], "the threshold 'gap' is 3"),
        (["crate-tiny-fmnist", "--explain", "compress"], "unknown claim 'compress'"),
        (["crate-tiny-fmnist", "--eps", "0.1,0.2"], "--eps has several values"),
        (["missing.pt"], "there is no file missing.pt"),
    ],
)
def test_what_cannot_be_judged_is_one_line(arguments, told, tmp_path, capsys):
    assert cli.main(["audit", *arguments, "--out", str(tmp_path)]) == 2
    assert told in capsys.readouterr().err
