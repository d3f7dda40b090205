"""Sweeps that run here: what is measured, what is not measured twice, and what a failure costs."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import whitebox_probe as wp
from tests.conftest import small_crate
from whitebox_probe._core.errors import SweepError
from whitebox_probe.cli import main as cli
from whitebox_probe.probing.collector import Collector
from whitebox_probe.sweeping.place import alone
from whitebox_probe.sweeping.sweep import others_in, planned

CRATE, VIT, TEXT = "crate-tiny-fmnist", "vit-tiny-fmnist", "crate-tiny-kjv"
SMALL = {"metrics": ["l0", "compression"], "limit": 8}


def swept(out, **document):
    calls = {
        name: document.pop(name) for name in ("ended", "only", "retry_failed") if name in document
    }
    return wp.sweep({"out": str(out), **SMALL, **document}, progress=False, **calls)


def states(found):
    return [each.state for each in found.cells]


def bytes_of(folder):
    return (folder / "samples.parquet").read_bytes()


@pytest.fixture
def call(capsys):
    """Run the command here; gives exit status, stdout and stderr."""

    def run(*words):
        status = cli.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def file(tmp_path):
    """Writes a sweep's file of a mapping, and gives its path."""

    def write(**document):
        path = tmp_path / "sweep.yaml"
        path.write_text(json.dumps({"out": "out", **SMALL, **document}))  # JSON is YAML
        return path

    return write


@pytest.fixture
def stop_at(monkeypatch):
    """Sends this process a signal when so many sites have been taken."""

    def at(count, number=signal.SIGINT):
        taken, calls = Collector.take, []

        def take(*args):
            calls.append(1)
            if len(calls) == count:
                signal.raise_signal(number)
            return taken(*args)

        monkeypatch.setattr(Collector, "take", take)

    return at


def test_the_numbers_of_a_cell_are_those_of_run_to_the_byte(tmp_path, call):
    found = swept(
        tmp_path / "out",
        models=[{"name": "untrained", "model": CRATE, "weights": "random"}, VIT],
        settings={"eps": [0.1, [0.2, 0.4]], "seed": 3},
        execution={"batch_size": 3},
    )
    assert states(found) == ["done"] * 4
    same = ("--limit", "8", "--metrics", "l0,compression", "--seed", "3", "--batch-size", "3")
    for number, words in ((0, (CRATE, "--weights", "random")), (3, (VIT, "--eps", "0.2,0.4"))):
        assert call("run", *words, *same, "--quiet", "--out", tmp_path / str(number))[0] == 0
        assert bytes_of(found.cells[number].folder) == bytes_of(tmp_path / str(number))
        run = wp.Result.load(tmp_path / str(number))
        ours = found.cells[number].result()
        assert ours.frame.drop(columns="model").equals(run.frame.drop(columns="model"))
        assert list(dict.fromkeys(ours.frame["model"])) == [found.cells[number].name]


def test_what_is_done_is_not_measured_again_when_the_file_grows(tmp_path):
    one = swept(tmp_path, models=CRATE)
    before = (one.cells[0].folder / "run.json").stat().st_mtime_ns
    ended = []
    two = swept(
        tmp_path,
        models=[{"name": "mine", "model": CRATE}, VIT],
        settings={"eps": [0.1, 0.5]},
        ended=lambda each, number, count: ended.append((each.name, number, count)),
    )
    assert ended == [("mine, eps=0.5", 1, 3), (f"{VIT}, eps=0.1", 2, 3), (f"{VIT}, eps=0.5", 3, 3)]
    assert two.cells[0].folder == one.cells[0].folder
    assert (one.cells[0].folder / "run.json").stat().st_mtime_ns == before
    assert len(list((tmp_path / "cells").iterdir())) == 4


def test_a_result_that_is_not_whole_is_measured_again(tmp_path):
    folder = swept(tmp_path, models=CRATE).cells[0].folder
    want = bytes_of(folder)
    (folder / "samples.parquet").write_bytes(want[:-9])
    assert states(swept(tmp_path, models=CRATE)) == ["done"]
    assert bytes_of(folder) == want


def test_a_result_of_another_cell_is_measured_again(tmp_path):
    document = {"models": CRATE, "settings": {"eps": [0.1, 0.5]}}
    first = swept(tmp_path, **document)
    one, two = (each.folder for each in first.cells)
    one.rename(tmp_path / "aside"), two.rename(one), (tmp_path / "aside").rename(two)
    assert states(planned({"out": str(tmp_path), **SMALL, **document}).sweep) == ["to do"] * 2
    again = swept(tmp_path, **document)
    assert again.frame.equals(first.frame)
    for name in os.listdir(one):  # the description stays: the result itself is another's
        if name != "cell.json":
            (one / name).write_bytes((two / name).read_bytes())
    again = swept(tmp_path, **document)
    assert again.frame.equals(first.frame)


@pytest.mark.parametrize("broken", [None, "", "[]", "{}", '{"format": 1, "cell": 5}', "another's"])
@pytest.mark.parametrize("file", ["cell.json", "run.json"])
def test_a_cell_whose_files_are_broken_is_measured_again(file, broken, tmp_path):
    document = {"models": CRATE, "settings": {"eps": [0.1, 0.5]}}
    first = swept(tmp_path, **document)
    one, two = (each.folder / file for each in first.cells)
    other, kept = two.stat().st_mtime_ns, two.read_text()
    one.unlink()
    if broken is not None:
        one.write_text(kept if broken == "another's" else broken)
    again = swept(tmp_path, **document)
    assert states(again) == ["done"] * 2
    assert again.frame.equals(first.frame)
    assert two.stat().st_mtime_ns == other  # the whole one is left alone


def test_a_failure_is_of_a_cell_too(tmp_path, call, file):
    path = file(models=[TEXT, CRATE])
    assert call("sweep", path)[0] == 2
    failed, done = (next((tmp_path / "out").glob(f"cells/{name}*")) for name in (TEXT, CRATE))
    failed.rename(tmp_path / "aside"), done.rename(failed), (tmp_path / "aside").rename(done)
    status, out, _ = call("sweep", path)
    assert status == 2
    assert f"1 of 2: {TEXT}: failed" in out
    assert f"2 of 2: {CRATE}: done" in out
    # What another cell had there is no result of this one, whose failure is told again.
    out = call("sweep", path)[1]
    assert "2 cells: 1 failed, 1 done" in out


@pytest.mark.parametrize("name", ["summary.csv", "summary.parquet", "cells.csv"])
def test_tables_that_are_a_users_own_are_left_alone(name, tmp_path, call, file):
    path, own = file(models=CRATE), tmp_path / "out" / name
    own.parent.mkdir()
    own.write_text("mine")
    status, _, err = call("sweep", path)
    assert (status, err.count("\n")) == (2, 1)
    assert f"holds {name}, and no sweep" in err
    assert [each.name for each in own.parent.iterdir()] == [name]
    assert own.read_text() == "mine"
    own.unlink()
    assert call("sweep", path)[0] == 0
    assert call("sweep", path)[0] == 0  # over the tables of a sweep


def test_what_is_in_the_way_of_a_sweep_is_told_in_python_too(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "cells").write_text("mine")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "cells").symlink_to(tmp_path / "nowhere")
    for out in ("file", "file/below", "a", "b"):
        with pytest.raises(SweepError, match=r"(file|cells) is no folder"):
            swept(tmp_path / out, models=CRATE)
    swept(tmp_path / "c", models=CRATE)
    (tmp_path / "c" / "summary.csv").unlink()
    (tmp_path / "c" / "summary.csv").mkdir()
    with pytest.raises(SweepError, match="in the way of a table"):
        swept(tmp_path / "c", models=CRATE)


def test_a_cell_that_fails_costs_itself_and_is_tried_again_when_asked(tmp_path, call, file):
    path = file(models=[TEXT, CRATE])
    status, out, err = call("sweep", path)
    assert status == 2
    assert err == ""
    assert f"1 of 2: {TEXT}: failed" in out
    assert f"2 of 2: {CRATE}: done" in out
    line = next(line for line in out.splitlines() if line.startswith("  "))
    assert "fashion-mnist" in line
    assert "2 cells: 1 failed, 1 done" in out
    status, out, _ = call("sweep", path)
    assert status == 2
    assert "1 of" not in out
    assert line in out
    status, out, _ = call("sweep", path, "--retry-failed", "--only", "*kjv")
    assert status == 2
    assert f"1 of 1: {TEXT}: failed" in out
    assert call("sweep", path, "--only", f"{CRATE}*")[0] == 0


def test_a_fault_of_ours_is_kept_with_its_traceback_and_is_status_one(
    tmp_path, call, file, monkeypatch
):
    from whitebox_probe.probing import outcome

    def broken(*args, **options):
        raise RuntimeError("it broke\nhere")

    with monkeypatch.context() as patch:
        patch.setattr(outcome, "samples", broken)
        status, out, _ = call("sweep", file(models=[TEXT, CRATE]))
    assert status == 1
    assert "RuntimeError: it broke here" in out
    assert "please report" in out
    (failed,) = (tmp_path / "out").glob(f"cells/{CRATE}*/failed.json")
    assert "RuntimeError: it broke" in json.loads(failed.read_text())["traceback"]
    status, out, _ = call("sweep", file(models=CRATE), "--retry-failed")
    assert status == 0
    assert not failed.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_sweep_that_is_stopped_goes_on_to_the_same_numbers(number, tmp_path, call, file, stop_at):
    want = swept(tmp_path / "whole", models=[VIT, CRATE], execution={"batch_size": 1})
    path = file(models=[VIT, CRATE], execution={"batch_size": 1})
    stop_at(150, number)
    status, _, err = call("sweep", path)
    assert status == 128 + number
    assert "Traceback" not in err
    assert err.strip().endswith("stopped: 2 cells: 1 done, 1 begun. The same call goes on")
    folder = tmp_path / "out"
    assert pd.read_csv(folder / "cells.csv")["state"].tolist() == ["done", "begun"]
    assert call("sweep", path)[0] == 0
    for each in want.cells:
        (mine,) = folder.glob(f"cells/{each.folder.name}")
        assert bytes_of(mine) == bytes_of(each.folder)
        assert not [p.name for p in mine.iterdir() if p.name.startswith("state")]


def test_a_sweep_that_is_stopped_between_cells_keeps_its_tables(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="1 done, 1 to do"):
        swept(tmp_path, models=[VIT, CRATE], ended=lambda *_: signal.raise_signal(signal.SIGTERM))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert len(pd.read_parquet(tmp_path / "summary.parquet")["cell"].unique()) == 1
    assert states(swept(tmp_path, models=[VIT, CRATE])) == ["done", "done"]


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(tmp_path, file):
    path = file(models=[VIT, CRATE], limit=40, execution={"batch_size": 1, "save_every": 0})
    words = [sys.executable, "-m", "whitebox_probe", "sweep", str(path), "--quiet"]
    process = subprocess.Popen(words, env=os.environ | {"OMP_NUM_THREADS": "1"})
    end = time.monotonic() + 120
    while not list((tmp_path / "out").glob("cells/*/state-*")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    path = file(models=[VIT, CRATE], limit=40, execution={"batch_size": 1})
    found = wp.sweep(path, progress=False)
    assert states(found) == ["done", "done"]
    assert found.table["samples"].tolist() == [40, 40]


def test_a_state_of_other_batches_is_begun_anew_and_that_is_said(tmp_path, stop_at):
    stop_at(30)
    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path, models=CRATE, execution={"batch_size": 1})
    found = swept(tmp_path, models=CRATE, execution={"batch_size": 8})
    assert states(found) == ["done"]
    assert any("begun anew" in note and "batch_size" in note for note in found.cells[0].notes)


def test_two_sweeps_in_one_folder_are_refused_and_so_are_two_of_one_cell(tmp_path):
    with alone(tmp_path, "a sweep"), pytest.raises(SweepError, match="at work already"):
        swept(tmp_path, models=CRATE)
    folder = swept(tmp_path, models=CRATE).cells[0].folder
    (folder / "run.json").unlink()
    with alone(folder, "a cell"):
        found = swept(tmp_path, models=[CRATE, VIT])
    assert states(found) == ["lost", "done"]
    assert "at work already" in found.cells[0].failure.line
    assert states(swept(tmp_path, models=[CRATE, VIT])) == ["done", "done"]


def test_weights_that_changed_are_another_cell_and_what_is_assumed_is_said(tmp_path):
    module = small_crate(image_size=28, channels=1)
    weights = tmp_path / "mine.safetensors"
    save_file(module.state_dict(), weights)
    model = {"model": str(weights), "set": {"heads": 2}, "preprocess": CRATE}
    one = swept(tmp_path / "out", models=model)
    assert states(one) == ["done"]
    assert any("mine.safetensors is loaded with" in note for note in one.cells[0].notes)
    with torch.no_grad():
        next(module.parameters()).add_(1)
    save_file(module.state_dict(), weights)
    two = swept(tmp_path / "out", models=model)
    assert two.cells[0].folder != one.cells[0].folder
    assert bytes_of(two.cells[0].folder) != bytes_of(one.cells[0].folder)
    assert others_in(two) == 1


def test_a_folder_of_images_that_changed_is_another_cell_in_the_same_process(tmp_path):
    def put(name, seed):
        pixels = np.random.default_rng(seed).integers(0, 255, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / name)  # BMP: always as large

    (tmp_path / "pictures").mkdir()
    put("0.bmp", 0), put("1.bmp", 1)
    document = {"models": CRATE, "data": str(tmp_path / "pictures"), "metrics": "l0"}
    first = swept(tmp_path / "out", **document)
    put("1.bmp", 2)
    second = swept(tmp_path / "out", **document)
    put("2.bmp", 3)
    third = swept(tmp_path / "out", **document)
    assert [len(each.cells[0].result().samples) for each in (first, second, third)] == [2, 2, 3]
    means = [each.frame["mean"].tolist() for each in (first, second)]
    assert means[0] != means[1]
    assert others_in(third) == 2


def test_names_do_not_move_the_cursor(tmp_path, call, file):
    words = ("sweep", file(models={"name": "evil\x1b[31m", "model": CRATE}), "--out", tmp_path)
    status, out, _ = call(*words)
    assert (status, "\x1b" in out) == (0, False)
    assert r"1 of 1: evil\x1b[31m: done" in out


def test_a_dry_run_lists_and_writes_nothing(tmp_path, call, file):
    path = file(models=[CRATE, VIT], settings={"eps": [0.1, 0.5]})
    status, out, err = call("sweep", path, "--dry-run", "--only", "vit*")
    assert (status, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if line]
    assert rows[:3] == [
        ["model", "eps", "state"],
        [VIT, "0.1", "to", "do"],
        [VIT, "0.5", "to", "do"],
    ]
    assert not (tmp_path / "out").exists()
    assert call("sweep", path, "--only", "crate*0.5", "--quiet")[0] == 0
    out = call("sweep", path, "--dry-run")[1]
    assert "4 cells: 3 to do, 1 done" in out
    status, _, err = call("sweep", path, "--only", "nothing*")
    assert status == 2
    assert "no cell's name is like 'nothing*'" in err


def test_the_summary_holds_every_number_beside_what_varies(tmp_path):
    found = wp.sweep(
        {
            "out": str(tmp_path),
            "models": [CRATE, VIT],
            "metrics": ["l0", "compression"],
            "settings": {"eps": [0.1, [0.2, 0.4]], "limit": [6, 7]},
        },
        progress=False,
    )
    frame = pd.read_parquet(tmp_path / "summary.parquet")
    pd.testing.assert_frame_equal(frame, found.frame)
    assert list(frame)[:5] == ["cell", "model", "data", "factor_eps", "factor_limit"]
    assert frame["factor_eps"].unique().tolist() == ["0.1", "0.2+0.4"]
    assert frame["factor_limit"].unique().tolist() == [6, 7]
    of_all = [each.result().frame for each in found.cells]
    assert len(frame) == sum(map(len, of_all)) == 8 * 8 * 2 + 4 * 8
    assert frame["mean"].tolist() == pd.concat(of_all)["mean"].tolist()
    assert set(pd.read_csv(tmp_path / "summary.csv")) == set(frame)
    rows = pd.read_csv(tmp_path / "cells.csv")
    assert rows["samples"].tolist() == [6, 7, 6, 7] * 2
    assert repr(found).endswith("8 cells: 8 done)")
    assert "0.2+0.4" in found._repr_html_()
    assert list(found.results()) == rows["cell"].tolist()


def test_its_cells_are_drawn_like_any_results(tmp_path, call):
    swept(tmp_path, models=CRATE, settings={"eps": [0.1, 0.5]})
    words = ("plot", *sorted((tmp_path / "cells").iterdir()), "--metric", "l0")
    status, out, err = call(*words, "--formats", "png", "--out", tmp_path / "figures")
    assert (status, err) == (0, "")
    assert [path.name for path in tmp_path.glob("figures*")] == ["figures.png"]
    assert "figures.png" in out


def test_the_table_fits_a_terminal_and_is_whole_where_it_is_piped(
    tmp_path, call, file, monkeypatch, capsys
):
    path = file(models=[CRATE, VIT], metrics=["l0", "compression", "hoyer", "mean_cosine"])
    out = call("sweep", path, "--quiet")[1]
    header = next(line for line in out.splitlines() if line.startswith("model"))
    assert header.split() == ["model", "state", "compression", "hoyer", "l0", "mean_cosine"]
    from whitebox_probe.cli import _screen

    for name, value in {"COLUMNS": "60", "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(_screen, "on_terminal", lambda: True)
    out = call("sweep", path, "--dry-run")[1]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert max(map(len, plain.splitlines())) <= 60
    assert "left out, to fit" in plain
