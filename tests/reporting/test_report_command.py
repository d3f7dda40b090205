"""`whitebox-probe report`, and the commands that a report gives to make it again."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

import whitebox_probe as wp
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.cli import main as cli
from whitebox_probe.cli.main import main
from whitebox_probe.reporting import commands
from whitebox_probe.reporting.material import gathered


@pytest.fixture
def folders(results, tmp_path):
    return [str(r.save(tmp_path / r.model)) for r in results]


def test_it_writes_a_page_and_says_where(folders, tmp_path, capsys):
    out = tmp_path / "new" / "report.html"
    assert main(["report", *folders, "--out", str(out), "--title", "Two models"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert "<h1>Two models</h1>" in out.read_text(encoding="utf-8")


def test_an_existing_file_is_refused_without_overwrite(folders, tmp_path, capsys):
    out = tmp_path / "report.html"
    out.write_text("mine")
    assert main(["report", *folders, "--out", str(out)]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main(["report", *folders, "--out", str(out), "--overwrite"]) == 0
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_markdown_is_printed_or_written(folders, tmp_path, capsys):
    assert main(["report", *folders, "--format", "md"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("## crate, vit")
    assert main(["report", *folders, "--out", str(tmp_path / "a.md")]) == 0
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == printed


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["/nowhere", "--out", "{}/a.html"], "there is no such folder"),
        (["/nowhere"], "--out must be given"),
        (["{}", "--out", "{}/a.html"], "it has none of"),
        (["{}", "--out", "{}"], "is a folder"),
        (["{}", "--out", "{}", "--overwrite"], "is a folder"),
        (["{}", "--out", "{}/a.pdf"], "End it in .html or .md"),
        (["{}", "--out", "{}/a.html", "--steps", "x"], "'x' is not A,B,..."),
    ],
)
def test_a_wrong_input_is_one_line_and_exit_status_2(words, why, tmp_path, capsys):
    words = [word.format(tmp_path) for word in words]
    if ".pdf" in words[-1]:
        words[0] = str(tmp_path / "empty")
    try:
        status = main(["report", *words])
    except SystemExit as stop:
        status = stop.code
    told = capsys.readouterr().err
    assert (status, told.count("\n")) == (2, 1)
    assert why in told
    assert list(tmp_path.iterdir()) == []


def test_a_folder_above_results_is_told_where_they_are(results, tmp_path, capsys):
    for each in results:
        each.save(tmp_path / "sweep" / "cells" / each.model)
    (tmp_path / "sweep" / "cells.csv").write_text("cell")
    words = ["report", "--out", str(tmp_path / "a.html")]
    assert main([*words, str(tmp_path / "sweep")]) == 2
    assert f"Pass {tmp_path / 'sweep' / 'cells'}, in which" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "sweep" / "cells")]) == 0


def test_the_command_of_a_run_makes_the_same_numbers_again(tmp_path, capsys):
    words = (
        "run crate-tiny-fmnist --limit 5 --metrics l0,compression --eps 0.2 --seed 3 --no-prenorm"
    )
    words += " --null none,gaussian --name mine --orthonormal --quiet"
    assert main([*words.split(), "--out", str(tmp_path / "first")]) == 0
    first = wp.Result.load(tmp_path / "first")
    command, gaps = commands.of_run(first.run, str(tmp_path / "again"))
    assert gaps == []
    program, *again = shlex.split(command)
    assert (program, main([*again, "--quiet"])) == ("whitebox-probe", 0)
    assert wp.Result.load(tmp_path / "again") == first
    capsys.readouterr()


def test_what_a_command_cannot_say_is_told(made, tmp_path):
    command, gaps = commands.whole(gathered(made("a")))
    assert command.splitlines()[0].startswith("whitebox-probe run FILE --data images")
    assert gaps == ["a was made in Python (wp.wrap), and no command makes it"]
    text = wp.report(made("a"), tmp_path / "a.html").read_text(encoding="utf-8")
    assert "no command makes it" in text
    two = made("a", prenorm=[True, False])
    assert any("prenorm had both values" in gap for gap in commands.of_run(two.run, "x")[1])


def test_the_command_of_an_audit_is_understood_as_it_was_asked(verdicts):
    settings = {
        "models": {
            "crate-tiny-fmnist": {"checkpoint": {"name": "crate-tiny-fmnist"}, "network": {}},
            "resnet": {"checkpoint": {"name": "resnet"}, "network": {"arch": {"model": "resnet"}}},
        },
        "data": {"name": "fashion-mnist"},
        "limit": 8,
        "draws": 2,
        "null": True,
        "robustness": False,
        "eps": 0.2,
        "lam": 0.1,
        "seed": 4,
        "dtype": "float32",
        "class_token": True,
        "prenorm": False,
        "basis": None,
        "first_layer": 2,
        "null_limit": 16,
        "fit_limit": 256,
        "fast": True,
    }
    asked = "audit crate-tiny-fmnist timm:resnet --limit 8 --draws 2 --no-robustness --eps 0.2"
    asked += " --seed 4 --no-prenorm --threshold cosine=0.2 --out x"
    audit = replace(verdicts, settings=settings, thresholds=Thresholds(cosine=0.2))
    command, gaps = commands.of_audit(audit, "x")
    assert gaps == []
    parser = cli.parser()
    assert parser.parse_args(shlex.split(command)[1:]) == parser.parse_args(asked.split())


def test_the_page_on_reports_runs_as_it_stands(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "report.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "report.md", "exec"), {})
    assert (tmp_path / "report.html").read_text(encoding="utf-8").count("<h2 ") == 9
    for line in re.findall(r"^whitebox-probe (.*)$", page, re.MULTILINE):
        assert cli.parser().parse_args(shlex.split(line)).run
