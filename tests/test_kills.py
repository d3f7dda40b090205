"""A command that is stopped anywhere leaves what was whole, and the next one goes on with it."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.kills.harness import COMMANDS, Counts, Point, bench, tried
from whitebox_probe._core import io, launch, stopping
from whitebox_probe._core.errors import ResultError
from whitebox_probe._core.gate import digest
from whitebox_probe._core.io import atomic_path, temporary_folder, tidy
from whitebox_probe.cli import main as cli
from whitebox_probe.results import kinds
from whitebox_probe.results.folder import SAVED, finish

QUICK = {"run": (40, 70), "fetch": (4, 9), "report": (2, 4)}
"""Steps on the disk at which each command is stopped here: while it begins, measures and saves."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and looks for processes in /proc")
def test_commands_that_are_killed_stopped_or_find_the_disk_full_go_on_to_the_same():
    counts = Counts()
    with bench() as at:
        for name, steps in QUICK.items():
            known = at.known(COMMANDS[name], over=True)
            for number, step in enumerate(steps):
                act = ("KILL", "full", "TERM", "INT")[(number + len(name)) % 4]
                tried(at, COMMANDS[name], Point(act, True, step=min(step, known.steps)), counts)
    assert counts.faults == []
    assert counts.hit == counts.tried == sum(map(len, QUICK.values()))


def killed_while(lines, folder):
    """What a process leaves that ends in the middle of writing, without any time to tidy."""
    code = f"import os\nfrom pathlib import Path\nfolder = Path({str(folder)!r})\n"
    code += "from whitebox_probe._core.io import atomic_path, temporary_folder\n" + lines
    subprocess.run([sys.executable, "-c", code + "    os.kill(os.getpid(), 9)"], check=False)
    left = [path for path in folder.iterdir() if path.name.startswith(".")]
    assert len(left) == 1
    return left[0]


@pytest.mark.parametrize("what", ["atomic_path(folder / 'a.csv')", "temporary_folder(folder, 'a')"])
def test_what_a_kill_left_is_removed_by_the_next_that_writes_there(what, tmp_path):
    left = killed_while(f"with {what} as path:\n", tmp_path)
    (tmp_path / ".a.partly").write_text("mine")
    with atomic_path(tmp_path / "b.csv") as path:
        path.write_text("b")
    assert not left.exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == [".a.partly", "b.csv"]


def test_what_another_process_is_writing_is_left_alone(tmp_path):
    with atomic_path(tmp_path / "a.csv") as one, temporary_folder(tmp_path, "a") as two:
        tidy(tmp_path)
        with atomic_path(tmp_path / "a.csv") as three:
            three.write_text("first")
        assert one.exists()
        assert two.is_dir()
        one.write_text("last")
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.csv", "last")]


def test_a_name_that_is_taken_for_left_behind_is_not_used(tmp_path, monkeypatch):
    made = []

    def make(folder, prefix, suffix):
        handle, name = real(folder, prefix, suffix)
        made.append(name)
        if len(made) == 1:  # another process looks at it before it is locked, and removes it
            os.unlink(name)
        if len(made) == 2:  # and at this one just now
            fcntl.flock(os.open(name, os.O_RDWR), fcntl.LOCK_EX)
        return handle, name

    real = io._make_file
    monkeypatch.setattr(io, "_make_file", make)
    with atomic_path(tmp_path / "a.csv") as path:
        assert str(path) == made[2]
        path.write_text("a")
    assert (tmp_path / "a.csv").read_text() == "a"


def test_on_a_disk_without_locks_nothing_is_taken_for_left_behind(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(37, "No locks available")

    left = killed_while("with atomic_path(folder / 'a.csv'):\n", tmp_path)
    monkeypatch.setattr(io.fcntl, "flock", none)
    with atomic_path(tmp_path / "a.csv") as path:
        path.write_text("a")
    assert sorted(tmp_path.iterdir()) == sorted([left, tmp_path / "a.csv"])


def test_files_are_as_readable_as_any_other(tmp_path):
    (tmp_path / "usual").write_text("")
    with atomic_path(tmp_path / "ours") as path:
        path.write_text("")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_save_that_is_agreed_is_finished_by_whoever_reads_and_links_are_not_followed(tmp_path):
    saved = tmp_path / SAVED
    saved.mkdir()
    told = {"files": {}, "what": "new"}
    new = {"a.csv": "new", "run.json": json.dumps(told | {"digest": digest(told)})}
    for name, text in new.items():
        (tmp_path / name).write_text("old")
        (saved / name).write_text(text)
    finish(tmp_path)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == new
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("")
    saved.symlink_to(elsewhere)
    finish(tmp_path)
    assert (elsewhere / "mine").exists()


def test_a_save_that_cannot_be_finished_is_told_in_one_line(tmp_path, monkeypatch):
    from whitebox_probe.results import folder as module
    from whitebox_probe.results.result import Result

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "finish", full)
    with pytest.raises(ResultError, match=r"not whole: its saving was cut off, .*No space left"):
        Result.load(tmp_path)


@pytest.mark.parametrize("seal", [None, "{}", '{"files": {}, "digest": "ab"}', "no JSON"])
def test_files_of_the_users_under_the_name_of_a_save_are_moved_nowhere(seal, tmp_path):
    """Any command that looked into such a folder put them over the user's own, once."""
    (tmp_path / SAVED).mkdir()
    (tmp_path / "thesis.txt").write_text("newest")
    (tmp_path / SAVED / "thesis.txt").write_text("old")
    if seal is not None:
        (tmp_path / SAVED / "run.json").write_text(seal)
    assert cli.main(["report", str(tmp_path), "--out", str(tmp_path / "r.md")]) == 2
    out = ["--limit", "2", "--metrics", "l0", "--quiet", "--overwrite", "--out", str(tmp_path)]
    assert cli.main(["run", "crate-tiny-fmnist", *out]) == 2
    assert (tmp_path / "thesis.txt").read_text() == "newest"
    assert (tmp_path / SAVED / "thesis.txt").read_text() == "old"


@pytest.mark.parametrize("what", ["file", "link to nothing", "link to a folder", "folders in it"])
def test_what_is_in_the_way_of_a_save_is_told_and_left_alone(what, tmp_path):
    from whitebox_probe.results.folder import save_sealed

    way = tmp_path / "d" / SAVED
    way.parent.mkdir()
    if what == "file":
        way.write_text("mine")
    elif what == "folders in it":
        (way / "run.json" / "x").mkdir(parents=True)
    else:
        way.symlink_to("/nope" if what.endswith("nothing") else tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ResultError, match=r"\.whitebox-saved in it is in the way"):
        save_sealed(way.parent, {"a.csv": lambda path: path.write_text("1")}, "run.json", {})
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_in_place_of_the_folder_is_not_taken_for_a_save_in_the_way(tmp_path):
    from whitebox_probe.results.folder import save_sealed

    (tmp_path / "d").write_text("mine")
    with pytest.raises(ResultError, match="d: File exists"):
        save_sealed(tmp_path / "d", {}, "run.json", {})
    assert (tmp_path / "d").read_text() == "mine"


def test_hidden_files_of_others_are_left_alone(tmp_path):
    (tmp_path / ".film.part-1").mkdir()
    (tmp_path / ".notes.whitebox-part-2.txt").write_text("mine")
    (tmp_path / "table.whitebox-part-abcdefgh.csv").write_text("mine")
    before = sorted(tmp_path.iterdir())
    tidy(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_both_signals_raise_and_the_handlers_are_put_back():
    before = [signal.getsignal(number) for number in stopping.NUMBERS]
    for number in stopping.NUMBERS:
        with pytest.raises(KeyboardInterrupt) as told, stopping.answered():
            signal.raise_signal(number)
        assert stopping.status(told.value) == 128 + number
        assert stopping.asked() == number
    assert [signal.getsignal(number) for number in stopping.NUMBERS] == before


class Dying:
    """Raises while it is taken away, where Python lets nothing be raised."""

    def __init__(self, what):
        self.what = what

    def __del__(self):
        self.what()


def test_a_stop_that_python_swallows_comes_again_and_is_not_printed(capsys):
    def readers_fail():
        raise RuntimeError("a reader of samples is killed by signal: Terminated")

    @stopping.answered()
    def stopped():
        Dying(lambda: signal.raise_signal(signal.SIGTERM))
        Dying(readers_fail)
        time.sleep(20)

    with pytest.raises(stopping.Terminated):
        stopped()
    assert capsys.readouterr().err == ""


def test_a_stop_that_is_over_is_not_sent_once_more():
    came = []

    @stopping.answered()
    def stopped():
        Dying(lambda: signal.raise_signal(signal.SIGTERM))
        return 143

    assert stopped() == 143
    before = signal.signal(signal.SIGTERM, lambda *_: came.append(1))
    try:
        time.sleep(0.3)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == []


def test_a_stop_within_a_text_that_is_run_ends_with_its_status(tmp_path):
    (tmp_path / "stopped.py").write_text(
        "import sys, whitebox_probe.__main__ as own, whitebox_probe.cli.main as cli\n"
        "def main():\n"
        "    try: exec('raise KeyboardInterrupt')\n"
        "    except KeyboardInterrupt: return 130\n"
        "cli.main = main\n"
        "sys.exit(own.command())\n"
    )
    words = [sys.executable, "-m", "stopped"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, timeout=200)
    assert (done.returncode, done.stderr) == (130, b"")


def test_a_stop_that_is_told_is_not_raised_again():
    with stopping.answered():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        stopping.heard()
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stopping.answered():  # the next command's own
        signal.raise_signal(signal.SIGINT)


def test_an_answer_of_the_users_own_is_not_replaced():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stopping.answered():
            signal.raise_signal(signal.SIGTERM)
        assert stopping.asked() is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_a_library_makes_of_a_signal_is_a_stop_and_no_fault(monkeypatch, capsys):
    from whitebox_probe.cli import list as command
    from whitebox_probe.cli.main import main

    def run(args):
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt as stop:
            raise RuntimeError("a reader of samples is killed by signal: Terminated") from stop

    monkeypatch.setattr(command, "run", run)
    assert main(["list"]) == 143
    assert (
        capsys.readouterr().err.strip()
        == "whitebox-probe: stopped; no file was left half written (the same command begins anew)"
    )


@pytest.mark.parametrize("number", stopping.NUMBERS)
def test_a_child_leaves_the_stopping_to_its_parent(number):
    with stopping.answered():
        pid = os.fork()
        if pid == 0:
            signal.raise_signal(number)
            os._exit(7)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == (7 if number == signal.SIGINT else -signal.SIGTERM)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("WORLD_SIZE", value) for value in ("2.5", "x", "1e3", "0", "-2", "9" * 30)),
        *(("RANK", value) for value in ("x", "2", "-1")),
        *(("LOCAL_RANK", "x"), ("MASTER_PORT", "-1"), ("MASTER_PORT", "99999")),
    ],
)
def test_variables_that_no_launcher_sets_are_told(monkeypatch, capfd, name, value):
    sound = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    for key, usual in sound.items():
        monkeypatch.setenv(key, usual)
    launch.expect_sound()
    monkeypatch.setenv(name, value)
    assert cli.main(["list"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert f"the variable {name} is '" in lines[0]


def test_of_a_single_process_a_launcher_is_not_asked(monkeypatch, capfd):
    said = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "x", "MASTER_PORT": "1"}
    for key, value in (said | {"LOCAL_RANK": "5"}).items():
        monkeypatch.setenv(key, value)
    assert cli.main(["--version"]) == 0
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert cli.main(["--version"]) == 0
    assert cli.main(["list"]) == 2
    assert "the command 'list' was started as several processes" in capfd.readouterr().err


def test_a_process_of_torchrun_knows_when_it_is_left(monkeypatch):
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(launch, "_PARENT", -1)
    assert not launch.is_left()  # started by hand, whose shell may have gone
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert launch.is_left()
    monkeypatch.setattr(launch, "_PARENT", os.getppid())
    assert not launch.is_left()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_a_process_of_torchrun_ends_when_torchrun_is_killed(tmp_path):
    child = "import time; from whitebox_probe._core import launch; launch.follow(15)\n"
    child += "print('following', flush=True); time.sleep(60)"
    parent = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', sys.argv[1]])\n"
    parent += "time.sleep(60)"
    names = dict.fromkeys(("RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID"), "0")
    run = subprocess.Popen(
        [sys.executable, "-c", parent, child],
        env=os.environ | names | {"WORLD_SIZE": "2"},
        stdout=subprocess.PIPE,
    )
    with run:
        assert run.stdout.readline() == b"following\n"
        run.kill()
        start = time.monotonic()
        assert run.stdout.read() == b""
        assert time.monotonic() - start < 30  # it sleeps for a minute


def test_a_full_disk_stops_a_sweep_and_the_cell_is_measured_by_the_next(
    tmp_path, monkeypatch, capsys
):
    from whitebox_probe.cli.main import main
    from whitebox_probe.results.result import Result

    file = tmp_path / "sweep.yaml"
    held = {"models": "crate-tiny-fmnist", "data": "fashion-mnist", "limit": 2, "metrics": ["l0"]}
    file.write_text(json.dumps(held | {"out": "out"}))

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Result, "save", full)
        assert main(["sweep", str(file), "--quiet"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a file cannot be written or read: No space left on device" in line
    assert not list(tmp_path.glob("out/cells/*/failed.json"))
    assert main(["sweep", str(file), "--quiet"]) == 0
    (cell,) = tmp_path.glob("out/cells/*")
    (cell / "state-0-of-1.npz").write_bytes(b"")  # of one that was killed behind its last step
    assert main(["sweep", str(file), "--quiet"]) == 0
    assert not (cell / "state-0-of-1.npz").exists()


def test_a_run_that_is_refused_removes_nothing(tmp_path, capsys):
    from whitebox_probe.cli.main import main

    names = ["run.json", "state-0-of-1.npz", "state-mine-of-thesis.npz"]
    for name in names:
        (tmp_path / name).write_text("{}")
    of_ours = dict.fromkeys(kinds.OWN["run.json"]["required"]) | {"layers": 2}
    (tmp_path / "run.json").write_text(json.dumps(of_ours))
    assert main(["run", "--resume", str(tmp_path)]) == 2
    assert "its run is finished" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert main(["run", "crate-tiny-fmnist", "--overwrite", "--out", str(tmp_path)]) == 2
    assert "state-0-of-1.npz in it is called as the state of a run" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_only_states_of_ours_are_forgotten(tmp_path):
    import numpy as np

    from whitebox_probe.probing.state_files import forget, states_in

    np.savez(tmp_path / "state-0-of-1.npz", about="{}", ids=[0], values=[[0.0]])
    np.savez(tmp_path / "state-1-of-2.npz", steps=[1])
    for name in ("state-mine-of-thesis.npz", "state-0-of-1.npz.bak", "state-2-of-3.npz"):
        (tmp_path / name).write_text("mine")
    forget(tmp_path)
    assert [path.name for path in states_in(tmp_path)] == ["state-1-of-2.npz", "state-2-of-3.npz"]
    assert len(list(tmp_path.iterdir())) == 4
    (tmp_path / "arguments.json").write_text("{}")  # which anybody may have
    forget(tmp_path)
    assert len(states_in(tmp_path)) == 2
    of_ours = json.dumps(dict.fromkeys(kinds.OWN["arguments.json"]["required"]))
    (tmp_path / "arguments.json").write_text(of_ours)  # in a folder of ours a damaged state is one
    forget(tmp_path)
    assert states_in(tmp_path) == []
    assert (tmp_path / "state-mine-of-thesis.npz").read_text() == "mine"


def test_states_are_gone_before_the_arguments_are(tmp_path, monkeypatch):
    from whitebox_probe.cli.main import main

    seen = []
    unlink = type(tmp_path).unlink

    def noted(self, *args, **more):
        seen.append(self.name)
        unlink(self, *args, **more)

    monkeypatch.setattr(type(tmp_path), "unlink", noted)
    words = ["run", "crate-tiny-fmnist", "--limit", "4", "--batch-size", "2", "--metrics", "l0"]
    assert main([*words, "--save-every", "0", "--quiet", "--out", str(tmp_path / "out")]) == 0
    assert seen.index("state-0-of-1.npz") < seen.index("arguments.json")
