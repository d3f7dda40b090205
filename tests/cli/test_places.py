"""Where a command writes: a home's `~`, and what is in the way, told before any work is done."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.cli import main as cli
from whitebox_probe.results.compare import Comparison, compare
from whitebox_probe.results.result import Result

FEW = ["run", "crate-tiny-fmnist", "--limit", "2", "--metrics", "l0", "--quiet"]


def refused(capsys, words):
    try:
        status = cli.main([str(word) for word in words])
    except SystemExit as end:  # as argparse refuses a value
        status = end.code
    assert status == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert len(err) < 500
    return err


def test_a_home_is_found_that_no_shell_has_put_in_place(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert cli.main([*FEW, "--out=~/runs/a"]) == 0
    assert (tmp_path / "runs/a/table.csv").is_file()
    assert not (tmp_path / "~").exists()
    assert cli.main(["report", "~/runs/a", "--out=~/page.md"]) == 0
    assert (tmp_path / "page.md").is_file()
    capsys.readouterr()
    assert "no such user" in refused(capsys, [*FEW, "--out=~nobody-of-that-name/a"])


@pytest.mark.parametrize("name", ["run.json", "table.csv", "table.parquet", "arguments.json"])
def test_a_folder_in_place_of_a_file_is_told_before_anything_is_written(name, tmp_path, capsys):
    out = tmp_path / "r"
    assert cli.main([*FEW, "--out", str(out)]) == 0
    capsys.readouterr()
    (out / name).unlink(missing_ok=True)
    (out / name).mkdir()
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    err = refused(capsys, [*FEW, "--overwrite", "--out", out])
    assert f"{name} in it is a folder" in err
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_a_page_may_lie_beside_folders_of_any_name(tmp_path, capsys):
    (tmp_path / "data.parquet").mkdir()
    assert cli.main([*FEW, "--out", str(tmp_path / "r")]) == 0
    assert cli.main(["report", str(tmp_path / "r"), "--out", str(tmp_path / "page.md")]) == 0


def test_a_comparison_is_written_into_none_of_its_results(tmp_path, capsys):
    for name in ("a", "b"):
        assert cli.main([*FEW, "--name", name, "--out", str(tmp_path / name)]) == 0
    capsys.readouterr()
    both = [tmp_path / "a", tmp_path / "b"]
    assert "one of the results" in refused(capsys, ["compare", *both, "--out", both[1] / "."])
    (tmp_path / "page.md").symlink_to(tmp_path / "nowhere")
    assert "a link to nothing" in refused(
        capsys, ["report", both[0], "--out", tmp_path / "page.md"]
    )
    assert (tmp_path / "page.md").is_symlink()


def test_links_that_lead_nowhere_are_told(tmp_path, capsys):
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("gone", "gone/a", "loop", "loop/a"):
        assert "nothing can be written to" in refused(capsys, [*FEW, "--out", tmp_path / name])


def test_links_in_a_circle_are_told_by_every_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        assert cli.main([*FEW, "--name", name, "--out", name]) == 0
    for name in ("loop", "loop.py", "loop.yaml"):
        Path(name).symlink_to(name)
    sweep = {"models": ["loop.py:make"], "data": ["fashion-mnist"], "metrics": ["l0"]}
    Path("sweep.yaml").write_text(json.dumps(sweep))
    capsys.readouterr()
    for words in (
        ["compare", "a", "b", "--out=loop"],
        ["compare", "a", "loop", "--out=c"],
        ["report", "a", "--out=loop"],
        ["plot", "a", "--out=loop"],
        ["run", "loop.py:make", "--data=fashion-mnist", "--out=c"],
        ["run", "crate-tiny-fmnist", "--data=loop", "--out=c"],
        ["sweep", "sweep.yaml", "--out=c"],
        ["sweep", "loop.yaml", "--out=c"],
        ["sweep", "sweep.yaml", "--out=loop"],
        ["audit", "crate-tiny-fmnist", "--data=fashion-mnist", "--out=loop"],
    ):
        refused(capsys, words)
    monkeypatch.setenv("WHITEBOX_PROBE_REGISTRY", "loop.yaml")
    refused(capsys, ["list"])


@pytest.mark.parametrize("key", ["models", "data", "metrics", "limit"])
def test_a_number_of_a_sweep_that_python_does_not_print_is_told(key, tmp_path, capsys):
    known = {"models": "[crate-tiny-fmnist]", "data": "[fashion-mnist]", "metrics": "[l0]"}
    known |= {"limit": "2", key: f"0x{'f' * 4000}"}
    lines = [f"{name}: {value}" for name, value in known.items()]
    (tmp_path / "s.yaml").write_text("\n".join(lines))
    err = refused(capsys, ["sweep", tmp_path / "s.yaml", "--out", tmp_path / "o"])
    assert "a number of more than 63 bits" in err


@pytest.mark.parametrize(
    ("out", "told"), [("a/" * 2000, "too deep"), ("a\udcff", "no UTF-8"), ("a" * 300, "too long")]
)
def test_paths_that_no_file_can_have_are_told(out, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert told in refused(capsys, [*FEW, "--out", out])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"out": "x\0y"}, "cannot be written to"),
        ({"out": "~nobody-of-that-name/x"}, "cannot be written to"),
        ({"out": "/dev/null/x"}, "/dev/null is no folder"),
        ({"threads": 4_294_967_297}, "threads"),
        ({"models": ["/dev/zero"]}, "cannot be read|device"),
    ],
)
def test_a_sweep_with_such_a_place_is_told(changes, told, tmp_path, capsys):
    file = tmp_path / "s.yaml"
    whole = {"out": "o", "models": ["crate-tiny-fmnist"], "data": "fashion-mnist", "limit": 2}
    file.write_text(json.dumps(whole | {"metrics": ["l0"]} | changes))
    err = refused(capsys, ["sweep", file])
    assert any(each in err for each in told.split("|")), err
    assert sorted(tmp_path.iterdir()) == [file]


def test_a_sweep_of_more_threads_than_there_can_be_is_told(tmp_path, capsys):
    file = tmp_path / "s.yaml"
    whole = {"out": "o", "models": ["crate-tiny-fmnist"], "data": "fashion-mnist", "limit": 2}
    file.write_text(json.dumps(whole))
    assert "threads is 3000000000" in refused(capsys, ["sweep", file, "--threads", 3_000_000_000])


SWEEP = {"models": ["crate-tiny-fmnist"], "data": "fashion-mnist", "limit": 2, "metrics": ["l0"]}
HOLDS = ("run.json", "arguments.json", "comparison.json", "audit.json", "similarity.csv")


@pytest.mark.parametrize("held", [*HOLDS, "cells.csv"])
@pytest.mark.parametrize("command", ["run", "audit", "compare", "sweep", "demo"])
def test_a_folder_holds_one_thing(command, held, tmp_path, capsys):
    own = {"run": HOLDS[:2], "compare": HOLDS[2:3], "audit": HOLDS[3:4], "sweep": ("cells.csv",)}
    if held in own.get(command, ()):
        return
    out, file = tmp_path / "out", tmp_path / "s.yaml"
    out.mkdir()
    (out / held).write_text("{}")
    file.write_text(json.dumps(SWEEP))
    words = {
        "run": [*FEW, "--overwrite"],
        "audit": ["audit", "crate-tiny-fmnist", "--limit", "2"],
        "compare": ["compare", tmp_path / "a", tmp_path / "b"],
        "sweep": ["sweep", file],
        "demo": ["demo", "--limit", "2"],
    }[command]
    err = refused(capsys, [*words, "--out", out])
    assert f"({held}): a folder holds one thing" in err
    assert [path.name for path in out.iterdir()] == [held]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("run", "table.csv"),
        ("run", "run.json"),
        ("run", "arguments.json"),
        ("audit", "audit.csv"),
        ("audit", "audit.png"),
        ("audit", "audit.md"),
        ("compare", "differences.csv"),
        ("compare", "comparison.md"),
        ("compare", "sparsity-l0.png"),
        ("demo", "sparsity.png"),
        ("demo", "tables/summary.csv"),
    ],
)
def test_files_of_a_users_own_are_not_replaced(command, name, tmp_path, capsys):
    out = tmp_path / "docs"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text('{"mine": 1}')
    (out / "thesis.txt").write_text("mine")
    if command == "compare":
        for each in ("a", "b"):
            assert cli.main([*FEW, "--name", each, "--out", str(tmp_path / each)]) == 0
        capsys.readouterr()
    words = {
        "run": [*FEW, "--overwrite"],
        "audit": ["audit", "crate-tiny-fmnist", "--limit", "2", "--table", "markdown"],
        "compare": ["compare", tmp_path / "a", tmp_path / "b", "--table", "markdown"],
        "demo": ["demo", "--limit", "2"],
    }[command]
    err = refused(capsys, [*words, "--out", out])
    assert name.rpartition("/")[2] in err
    assert "--overwrite" not in err
    found = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert found == {name, "thesis.txt"}
    assert (out / name).read_text() == '{"mine": 1}'


def test_only_folders_that_are_in_the_way_are_refused(tmp_path, capsys):
    both = [tmp_path / "a", tmp_path / "b"]
    for each in both:
        assert cli.main([*FEW, "--name", each.name, "--out", str(each)]) == 0
    out = tmp_path / "out"
    for name in ("old.json", "data.csv", "pics.png"):
        (out / name).mkdir(parents=True)
    compare = ["compare", *both, "--out", out]
    assert cli.main([*map(str, compare)]) == 0
    capsys.readouterr()
    figure = next(out.glob("*l0*.png"))
    figure.unlink()
    figure.mkdir()
    assert f"{figure.name} in it is a folder, in the way" in refused(capsys, compare)
    (tmp_path / "other/differences.csv").mkdir(parents=True)
    compare[-1] = tmp_path / "other"
    assert "differences.csv in it is a folder, in the way" in refused(capsys, compare)


@pytest.mark.parametrize("damage", ["torn", "empty", "without", "older", "edited"])
def test_a_result_is_replaced_however_it_is(damage, tmp_path, capsys):
    out = tmp_path / "r"
    assert cli.main([*FEW, "--out", str(out)]) == 0
    (out / "notes.txt").write_text("mine")
    whole = json.loads((out / "run.json").read_text())
    seal = {
        "torn": (out / "run.json").read_text()[:200],
        "empty": "",
        "without": "",
        "older": json.dumps({"model": "crate", "layers": 2}),
        "edited": json.dumps(whole | {"model": "other"}),
    }[damage]
    (out / "run.json").write_text(seal)
    if damage == "without":
        (out / "run.json").unlink()
    assert cli.main([*FEW, "--out", str(out)]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert cli.main([*FEW, "--overwrite", "--out", str(out)]) == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert json.loads((out / "run.json").read_text())["model"] == whole["model"]


@pytest.mark.parametrize(
    "words",
    [
        (*FEW, "--out", ""),
        (*FEW, "--out", " "),
        (*FEW, "--out", "r", "--data", ""),
        (*FEW, "--out", "r", "--mapping", ""),
        (*FEW, "--out", "r", "--arch", ""),
        ("run", "", "--out", "r"),
        ("run", "--resume", ""),
        ("audit", "", "--out", "r"),
        ("audit", "crate-tiny-fmnist", "--out", ""),
        ("audit", "--seeds", "", "", "--out", "r"),
        ("compare", "", "--out", "r"),
        ("plot", "", "--metric", "l0", "--out", "r"),
        ("plot", "a", "--metric", "l0", "--out", ""),
        ("plot", "a", "--metric", "l0", "--style", "", "--out", "r"),
        ("report", "a", "--out", ""),
        ("sweep", ""),
        ("sweep", "s.yaml", "--out", ""),
        ("demo", "--out", ""),
        ("info", ""),
        ("fetch", ""),
    ],
    ids=lambda words: " ".join(words),
)
def test_an_empty_path_is_no_path(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "empty" in refused(capsys, words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (json.dumps(SWEEP).replace('"limit": 2', '"limit": 1:30').encode(), "'1:30' must be"),
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"models: [caf\xe9]", "Save it as UTF-8"),
        (json.dumps(SWEEP).encode("utf-16"), "Save it as UTF-8"),
    ],
)
def test_a_sweep_file_that_says_nothing_usable_is_told(content, told, tmp_path, capsys):
    file = tmp_path / "s.yaml"
    file.write_bytes(content)
    assert told in refused(capsys, ["sweep", file, "--dry-run", "--out", tmp_path / "o"])


@pytest.mark.parametrize(
    "words",
    [
        ("sweep", "s.yaml", "--only", "a", "--only", "b"),
        ("sweep", "s.yaml", "--out=a", "--out", "b"),
        (*FEW, "--out", "a", "--out", "a"),
        (*FEW, "--out", "a", "--data", "x", "--limit", "2"),
        ("audit", "--seeds", "a", "--seeds", "b", "--out", "o"),
        ("plot", "r", "--metric", "l0", "--format", "png", "--formats", "pdf", "--out", "p"),
    ],
    ids=" ".join,
)
def test_an_option_of_one_value_is_given_once(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "is given twice" in refused(capsys, words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["models", "data", "arch", "mapping"])
def test_a_home_of_nobody_in_a_sweep_is_told(place, tmp_path, capsys):
    file, path = tmp_path / "s.yaml", "~nobody-of-that-name/x"
    model = {"model": "crate-tiny-fmnist", place: path}
    whole = SWEEP | {"out": "o"} | ({place: path} if place in SWEEP else {"models": [model]})
    file.write_text(json.dumps(whole))
    assert "no such user" in refused(capsys, ["sweep", file])


def test_a_cache_at_a_home_of_nobody_is_told(monkeypatch, capsys):
    monkeypatch.setenv("WHITEBOX_PROBE_CACHE", "~nobody-of-that-name/x")
    assert "WHITEBOX_PROBE_CACHE" in refused(capsys, ["fetch", "vit-small-in1k"])


@pytest.mark.parametrize("top", ["http:", "file:"])
def test_a_folder_that_is_called_as_an_address_begins_is_a_folder(top, tmp_path, monkeypatch):
    """pandas takes the relative path `http:/runs` for an address, and would ask it."""
    monkeypatch.chdir(tmp_path)
    runs = [f"{top}//runs/{name}" for name in ("a", "b")]
    for out in runs:
        assert cli.main([*FEW, f"--name={out[-1]}", "--out", out]) == 0
    assert cli.main(["compare", *runs, "--out", f"{top}/both"]) == 0
    few = ["--limit=4", "--draws=2", "--null-limit=2", "--no-robustness", "--quiet"]
    assert cli.main(["audit", "crate-tiny-fmnist", *few, "--out", f"{top}/audit"]) == 0
    pages = [f"{top}/both", f"{top}/audit", "--out", f"{top}/page.md"]
    assert cli.main(["report", *runs, *pages]) == 0
    assert cli.main(["plot", *runs, "--figure=curves", "--metric=l0", f"--out={top}/l0"]) == 0
    found = compare([Result.load(out) for out in runs])
    assert Comparison.load(f"{top}/both").differences.equals(found.differences)
    assert (tmp_path / top / "both" / "differences.csv").is_file()


def test_results_are_saved_under_names_that_are_no_utf_8(tmp_path, monkeypatch):
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this disk has no such names")
    monkeypatch.chdir(odd)
    for out in ("a", "b"):
        assert cli.main([*FEW, f"--name={out}", "--out", out]) == 0
    assert cli.main(["compare", "a", "b", "--out", "both"]) == 0
    assert len(Comparison.load("both").differences)
    Result.load("a").save(odd / "c")
    assert Result.load(odd / "c") == Result.load("a")


def test_data_under_names_that_are_no_utf_8_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9.txt")
    try:
        Path(name).write_text("In the beginning God created the heaven and the earth.\n" * 300)
    except OSError:
        pytest.skip("this disk has no such names")
    few = ["--limit=2", "--metrics=l0", "--quiet", "--out=r"]
    assert cli.main(["run", "gpt2-tiny-kjv", "--data", name, *few]) == 0
    assert Result.load("r").run.data["name"] == r"caf\udce9.txt"
    assert cli.main(["report", "r", "--out=page.md"]) == 0
    pictures = Path("pictures")
    pictures.mkdir()
    for number in range(3):
        Image.new("L", (28, 28), 9 * number).save(pictures / f"{number}.png")
    (pictures / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no picture")
    words = ["run", "crate-tiny-fmnist", "--data=pictures", "--on-error=skip", "--metrics=l0"]
    assert cli.main([*words, "--quiet", "--out=s"]) == 0
    (skipped,) = Result.load("s").run.data["skipped"]
    assert r"caf\udce9.png" in skipped["why"]


@pytest.mark.parametrize("folder", [None, 3, "", "a\0b", "\ud800"])
def test_what_is_no_folder_is_told(folder, tmp_path):
    assert cli.main([*FEW, "--out", str(tmp_path / "r")]) == 0
    result = Result.load(tmp_path / "r")
    for way in (result.save, Result.load):
        with pytest.raises(ProbeError, match="folder is "):
            way(folder)
