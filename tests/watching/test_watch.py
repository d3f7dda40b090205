"""What a watch measures, what it refuses, and where it logs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal
from watching.tiny import SITES, images, network, train

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import LoadWarning, MissingDependency, ProbeError, ResultError
from whitebox_probe.results.table import COLUMNS, read_table
from whitebox_probe.watching import sinks as places
from whitebox_probe.watching.watch import MEASURES
from whitebox_probe.watching.watcher import Watcher

pytestmark = [
    pytest.mark.usefixtures("alone"),
    pytest.mark.filterwarnings("ignore::whitebox_probe._core.errors.LoadWarning"),
]


HEADER = ",".join([places.STEP, *COLUMNS]).encode() + b"\n"


def watch(net=None, **options):
    net = network() if net is None else net
    options = {"metrics": ["l0", "hoyer"], "every": 2} | options
    return wp.watch(wp.wrap(net, sites=SITES, dim=8, name="tiny"), images(), **options)


def test_each_step_that_is_measured_is_what_a_probe_gives_there():
    net = network()
    model = wp.wrap(net, sites=SITES, dim=8, name="tiny")
    seen = {}

    def both():
        watcher.step()
        options = {"metrics": ["l0", "hoyer"], "limit": 5, "progress": False}
        seen[len(seen) + 1] = wp.probe(model, images(), **options)

    with wp.watch(model, images(), metrics=["l0", "hoyer"], limit=5, every=2) as watcher:
        train(net, 5, both)
    assert [result.model for result in watcher.results()] == [f"tiny@{n}" for n in (0, 2, 4, 5)]
    for step, result in zip((2, 4, 5), watcher.results()[1:], strict=True):
        assert_frame_equal(
            result.frame.drop(columns="model"), seen[step].frame.drop(columns="model")
        )
        assert result.identities.equals(seen[step].identities)
    assert watcher.frame["step"].unique().tolist() == [0, 2, 4, 5]
    assert set(watcher.frame["model"]) == {"tiny"}
    assert wp.plots.over_steps(*watcher.results(), metric="l0").axes


def test_of_the_measures_by_default_a_model_gets_those_that_it_has():
    inputs = torch.randn(3, 3, 12, 12)
    assert wp.watch(small_crate(), inputs).start().results()[0].run["metrics"] == list(MEASURES)
    assert wp.watch(small_vit(), inputs).start().results()[0].run["metrics"] == list(MEASURES)
    bare = watch(metrics=None).start().results()[0]
    assert bare.run["metrics"] == ["coding_rate", "l0", "hoyer"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"data": None}, "which data to watch.*held out"),
        ({"every": 0}, "every is 0.*whole number from 1 on"),
        ({"every": 2.5}, "every is 2.5"),
        ({"every": True}, "every is True"),
        ({"share": 0}, "share is 0.*Use 0.02"),
        ({"first_step": -1}, "first_step is -1"),
        ({"metrics": ["l00"]}, "l00.*Did you mean 'l0'"),
        ({"metrics": []}, "no metric is named"),
        ({"model": "crate-tiny-fmnist"}, "a str cannot be watched"),
        ({"basic": "pca"}, "no 'basic'.*Did you mean 'basis'"),
        ({"eps": -1.0}, "eps is -1"),
        ({"limit": 0}, "limit is 0"),
        ({"to": 3}, "nothing is logged to 3.*'tensorboard'"),
        ({"to": "log.txt"}, "nothing is logged to 'log.txt'"),
        ({"to": "nowhere/log.csv"}, "its folder is not there"),
        ({"data": torch.zeros(2, 3)}, "cannot take an input|shape"),
    ],
)
def test_wrong_input_is_one_line_before_the_first_step(options, told):
    net = network()
    model = options.pop("model", wp.wrap(net, sites=SITES, dim=8))
    data = options.pop("data", images())
    with pytest.raises(ProbeError, match=told) as error:
        wp.watch(model, data, **{"metrics": ["l0"]} | options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("to", "library"), [("tensorboard", "tensorboard"), ("wandb", "wandb"), (None, "lightning")]
)
def test_a_library_that_is_not_there_is_told_before_anything_is_measured(to, library, monkeypatch):
    from whitebox_probe.watching import callbacks

    monkeypatch.setattr(places, "find_spec", lambda name: None)
    monkeypatch.setattr(callbacks, "find_spec", lambda name: None)
    monkeypatch.setattr(Watcher, "_timed", lambda self: pytest.fail("measured") if to else None)
    with pytest.raises(MissingDependency, match=rf"needs {library}.*whitebox-probe\[{library}\]"):
        watch(to=to).lightning_callback()
    if to is None:
        with pytest.raises(MissingDependency, match="needs transformers"):
            watch().transformers_callback()


def test_several_places_get_each_step_and_the_file_is_the_frame(tmp_path):
    seen = []
    path = tmp_path / "log.csv"
    watcher = watch(to=[path, lambda step, result: seen.append((step, result.model))])
    with watcher:
        for _ in range(5):
            watcher.step()
        assert read_table(path)["step"].max() == 4, "a step is there as soon as it was measured"
    assert seen == [(step, f"tiny@{step}") for step in (0, 2, 4, 5)]
    assert_frame_equal(read_table(path), watcher.frame, check_dtype=False)


def test_a_log_is_gone_on_with_and_no_step_is_there_twice(tmp_path):
    path = tmp_path / "log.csv"
    with watch(to=path) as watcher:
        for _ in range(7):
            watcher.step()
    with pytest.raises(ProbeError, match="is there already.*resume=True"):
        watch(to=path)
    # The training goes on from a checkpoint at step 4: what came behind it is replaced.
    with watch(to=path, resume=True, first_step=4, every=3) as watcher:
        for _ in range(5):
            watcher.step()
    log = read_table(path)
    assert log["step"].drop_duplicates().tolist() == [0, 2, 4, 6, 9]
    assert not log.duplicated(["step", "metric", "site", "layer"]).any()
    assert log.groupby("step").size().nunique() == 1


@pytest.mark.parametrize("lost", [1, 30, 300, 100_000])
def test_of_a_log_that_was_cut_off_anywhere_the_whole_steps_are_kept(tmp_path, lost):
    path = tmp_path / "log.csv"
    with watch(to=path, every=1) as watcher:
        watcher.step()
        watcher.step()
    text = path.read_text()
    path.write_text(text[: max(20, len(text) - lost)])
    with watch(to=path, resume=True, first_step=2) as watcher:
        pass
    log = read_table(path)
    known = [0, 1, 2] if lost < 1000 else [2]
    assert log["step"].drop_duplicates().tolist() == known
    assert log.groupby("step").size().nunique() == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"a,b\n1,2\n", "columns are others"),
        (None, "more or fewer"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        (HEADER + b"9" * 5000 + b",\n", "does not begin with a step"),
    ],
    ids=["another table", "other measures", "no text", "many digits"],
)
def test_a_file_that_is_no_such_log_is_not_written_to(tmp_path, text, told):
    path = tmp_path / "log.csv"
    if text is None:
        with watch(to=path, every=1) as watcher:
            watcher.step()
        text = path.read_bytes()
    path.write_bytes(text)
    with pytest.raises(ResultError, match=f"{told}.*another log"):
        watch(to=path, resume=True, first_step=3, metrics=["l0"]).start()
    assert path.read_bytes() == text


@pytest.mark.parametrize("room", [0, 1, 30, 200])
def test_a_step_for_which_the_disk_has_no_room_is_left_out_whole(tmp_path, room):
    resource = pytest.importorskip("resource")
    path = tmp_path / "log.csv"
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with watch(to=path, every=1) as watcher:
            watcher.step()
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, hard))
            watcher.step()
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            watcher.step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    log = read_table(path)
    assert log["step"].drop_duplicates().tolist() == [0, 1, 3]
    assert log.groupby("step").size().nunique() == 1
    with watch(to=path, resume=True, first_step=4):
        pass
    assert read_table(path)["step"].drop_duplicates().tolist() == [0, 1, 3, 4]


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\x0cb", "a\x85b", "a\u2028b", 'a,"b', "é"])
def test_a_log_is_gone_on_with_whatever_the_model_is_called(tmp_path, name):
    path = tmp_path / "log.csv"
    with watch(to=path, every=1, name=name) as watcher:
        watcher.step()
    before = path.read_bytes()
    with watch(to=path, every=1, name=name, resume=True, first_step=2):
        pass
    assert path.read_bytes().startswith(before)
    log = read_table(path)
    assert log["step"].drop_duplicates().tolist() == [0, 1, 2]
    assert log["model"].nunique() == 1


def test_a_log_stays_where_it_is_when_a_training_changes_its_folder(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with watch(to="log.csv", every=1) as watcher:
        watcher.step()
        monkeypatch.chdir("other")
        watcher.step()
    assert read_table(tmp_path / "log.csv")["step"].drop_duplicates().tolist() == [0, 1, 2]
    assert not list((tmp_path / "other").iterdir())


@pytest.mark.parametrize("step", [3, 3.0, np.int64(3), torch.tensor(3), 10**18])
def test_a_step_is_logged_as_the_number_that_it_is(tmp_path, step):
    path = tmp_path / "log.csv"
    with watch(to=path, every=1) as watcher:
        watcher.step(step)
    with watch(to=path, every=1, resume=True, first_step=int(step) + 1):
        pass
    assert pd.read_csv(path)["step"].drop_duplicates().tolist() == [0, step, step + 1]


@pytest.mark.parametrize("step", [1.5, True, -1, "x", 2**63, float("nan"), torch.ones(2), [1]])
def test_what_is_no_step_is_told(step):
    for way in ("step", "start"):
        with pytest.raises(ProbeError, match="number of a training's step"):
            getattr(watch(every=1), way)(step)


def test_what_a_module_becomes_in_training_does_not_end_it():
    net = network()
    with watch(net, every=1) as watcher:
        net.blocks[1].linear = torch.nn.Linear(3, 3)
        with pytest.warns(LoadWarning, match="step 1 of tiny is not logged"):
            watcher.step()
        net.blocks[1].linear = torch.nn.Linear(8, 8)
        watcher.step()
    assert [result.model for result in watcher.results()] == ["tiny@0", "tiny@2"]


@pytest.mark.parametrize("name", ["a\0.csv", "\ud800.csv", "a" * 300 + ".csv", "pipe.csv"])
def test_a_name_under_which_no_log_can_lie_is_told(tmp_path, name):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(ProbeError, match="nothing can be logged to"):
        watch(to=tmp_path / name, resume=True)


def test_a_log_survives_a_kill(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import torch, whitebox_probe as wp\n"
        "from watching.tiny import *\n"
        "watcher = wp.watch(wp.wrap(network(), sites=SITES, dim=8), images(), metrics=['l0'],\n"
        "                   every=1, to=sys.argv[2])\n"
        "watcher.start()\n"
        "while True: watcher.step()\n"
    )
    path = tmp_path / "log.csv"
    tests = str(os.path.dirname(os.path.dirname(__file__)))
    command = [sys.executable, "-W", "ignore", "-c", code, tests, str(path)]
    with subprocess.Popen(command) as process:
        until = time.monotonic() + 120
        while not (path.exists() and path.stat().st_size > 2000):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = int(path.read_text().splitlines()[-2].partition(",")[0])
    assert last >= 2
    with watch(to=path, resume=True, first_step=last + 1, metrics=["l0"]):
        pass
    assert read_table(path)["step"].drop_duplicates().tolist() == list(range(last + 2))


class Writer:
    """What TensorBoard's writer is asked for."""

    def __init__(self):
        self.scalars, self.flushed, self.closed = [], 0, False

    def add_scalar(self, tag, value, step):
        self.scalars.append((tag, step, value))

    def flush(self):
        self.flushed += 1

    def close(self):
        self.closed = True


class WandbRun:
    """What a run of wandb is asked for."""

    def __init__(self):
        self.defined, self.logged = {}, []

    def define_metric(self, name, **options):
        self.defined[name] = options

    def log(self, values):
        self.logged.append(values)


def test_a_writer_and_a_run_of_the_users_get_a_scalar_a_layer_and_stay_open():
    writer, run = Writer(), WandbRun()
    with watch(to=[writer, run]) as watcher:
        watcher.step()
    assert [(tag, step) for tag, step, _ in writer.scalars[:2]] == [
        ("hoyer/layer_01", 0),
        ("hoyer/layer_02", 0),
    ]
    assert writer.flushed == 2
    assert not writer.closed
    assert run.defined["whitebox_probe/*"] == {"step_metric": "whitebox_probe/step"}
    assert [values["whitebox_probe/step"] for values in run.logged] == [0, 1]
    l0 = watcher.results()[1].curve("l0")["mean"].tolist()
    assert [run.logged[1][f"whitebox_probe/l0/layer_{n:02d}"] for n in (1, 2, 3)] == l0
    assert json.dumps(run.logged), "plain numbers"


def test_a_metric_that_is_measured_in_several_ways_says_which():
    watcher = watch(metrics=["coding_rate", "l0"], eps=[0.1, 0.5]).start()
    names = {name.partition("/")[0] for name in places.scalars(watcher.results()[0])}
    assert names == {"coding_rate_eps_0.1_z_out", "coding_rate_eps_0.5_z_out", "l0"}


def test_a_run_of_wandb_that_is_not_under_way_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(run=None, __spec__=object()))
    watcher = watch(to="wandb")
    with pytest.raises(ProbeError, match="no run of wandb.*Call it first"):
        watcher.start()


def test_without_a_number_of_steps_it_measures_at_round_ones_and_at_the_end(monkeypatch):
    watcher = watch(every=None, share=0.5)
    watcher.pace._costs.clear()
    clock = iter(float(n) for n in range(10_000))
    watcher.pace._clock = lambda: next(clock)  # a step takes a second
    monkeypatch.setattr(type(watcher.pace), "cost", property(lambda self: 4.0))
    watcher.pace._costs.append(4.0)
    with watcher:
        for _ in range(33):
            watcher.step()
    assert [int(r.model.partition("@")[2]) for r in watcher.results()] == [0, 10, 20, 30, 33]
    assert "every=10" in repr(watcher)


def test_a_model_that_was_loaded_since_is_measured_as_it_is_when_training_starts():
    net = network()
    watcher = watch(net, metrics=["coding_rate"])
    stale = watcher._before.curve("coding_rate")["mean"].tolist()
    with torch.no_grad():
        net.blocks[0].linear.weight.mul_(3)
    watcher.start(40)
    (result,) = watcher.results()
    assert result.model == "tiny@40"
    assert result.curve("coding_rate")["mean"].tolist() != stale


def test_of_several_processes_the_first_one_measures(monkeypatch, tmp_path):
    from whitebox_probe.watching import watcher as of

    monkeypatch.setattr(of, "_first", lambda: False)
    with watch(to=tmp_path / "log.csv", every=1) as watcher:
        assert not watcher.step()
    assert watcher.results() == []
    assert watcher.frame.equals(pd.DataFrame())
    assert not (tmp_path / "log.csv").exists()


def test_the_loop_of_the_page_runs(tmp_path, monkeypatch):
    page = Path(wp.__file__).parents[1] / "docs" / "training.md"
    loop = page.read_text().partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    model = small_vit()
    names = {
        "wp": wp,
        "F": torch.nn.functional,
        "model": model,
        "held_out": torch.randn(4, 3, 12, 12),
        "loader": [(torch.randn(2, 3, 12, 12), torch.tensor([0, 1]))] * 3,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    exec(loop, names)
    assert read_table(tmp_path / "watch.csv")["step"].drop_duplicates().tolist() == [0, 3]
