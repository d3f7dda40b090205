"""Several processes give what one gives; a process that dies ends the run."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import whitebox_probe as wp
from tests.probing import sharing
from whitebox_probe.cli import main as cli
from whitebox_probe.results.result import Result

ROOT = Path(__file__).parents[2]
NUMBERS = ["mean", "std", "sem", "ci_low", "ci_high", "count"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
ALONE = {name: os.environ[name] for name in os.environ if name not in ("RANK", "WORLD_SIZE")}
ONE_THREAD = ALONE | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def alone():
    """The passes by a single process with as many threads as each of several has."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results = {name: run() for name, run in sharing.passes(sharing.measures()).items()}
    torch.set_num_threads(threads)
    return results


@pytest.fixture(scope="module", params=[1, 3])
def shared(request, tmp_path_factory):
    """The passes by several processes: their number, and the folder of what they saved."""
    folder = tmp_path_factory.mktemp(f"by-{request.param}")
    (folder / sharing.MEASURES).write_text(json.dumps(sharing.measures()))
    words = [*TORCHRUN, f"--nproc-per-node={request.param}", "-m", "tests.probing.sharing"]
    some = sharing.ALONE if request.param == 1 else ()  # one process has nothing to share
    done = subprocess.run(
        [*words, str(folder), *some],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=300,
        check=False,
        env=ONE_THREAD,
    )
    assert done.returncode == 0, done.stderr
    return request.param, folder, some


@pytest.mark.slow
def test_any_number_of_processes_gives_the_result_of_one(alone, shared):
    count, folder, some = shared
    for name, want in ((name, alone[name]) for name in some or alone):
        got = Result.load(folder / name)
        assert got.run["processes"] == count
        pd.testing.assert_frame_equal(got.samples, want.samples, check_exact=True)
        assert got.frame.drop(columns=NUMBERS).equals(want.frame.drop(columns=NUMBERS)), name
        for column in NUMBERS:
            np.testing.assert_allclose(
                got.frame[column], want.frame[column], rtol=1e-6, err_msg=f"{name}: {column}"
            )
        assert got.matrices.keys() == want.matrices.keys()
        for key, matrix in want.matrices.items():
            np.testing.assert_allclose(got.matrices[key], matrix, rtol=1e-6, err_msg=key)


@pytest.mark.slow
def test_every_process_gets_the_whole_result(alone, shared):
    count, folder, some = shared
    for name, want in ((name, alone[name]) for name in some or alone):
        for rank in range(count):
            assert pd.read_pickle(folder / f"{name}-{rank}").equals(want.samples)


@pytest.mark.slow
def test_a_loader_cannot_be_shared(shared):
    count, folder, _ = shared
    for rank in range(count if count > 1 else 0):
        said = (folder / f"loader-{rank}").read_text()
        assert said.startswith(f"DataLoader of TensorDataset cannot be shared by {count} processes")
        assert "distributed=False" in said


@pytest.mark.slow
def test_metrics_by_themselves_are_reduced_by_torchmetrics(shared):
    count, folder, _ = shared
    sample, classes = wp.metrics.CodingRate(), wp.metrics.ClassRate()
    want = []
    for part in (torch.arange(7), torch.arange(7, 10)):
        sample.update(sharing.TOKENS[part], ids=part)
        classes.update(sharing.TOKENS[part], labels=part % 3)
        want += [float(sample.compute()), classes.compute()]
    for rank in range(count):
        got = torch.load(folder / f"metrics-{rank}.pt", weights_only=True)
        for mine, theirs in zip(got, want, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-9)


def start(rank, port, folder, *more):
    """One of two processes of a run, as another launcher than torchrun would start it."""
    words = ["run", "crate-tiny-fmnist", "--limit", "300", "--batch-size", "1", "--quiet"]
    words += ["--save-every", "0", "--out", str(folder), *more]
    env = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_PORT": port}
    return subprocess.Popen(
        [sys.executable, "-m", "whitebox_probe", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=ONE_THREAD | {"MASTER_ADDR": "127.0.0.1"} | {k: str(v) for k, v in env.items()},
    )


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(path, process):
    end = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_with_a_clear_error(tmp_path):
    port = free_port()
    first, second = (start(rank, port, tmp_path / "out") for rank in (0, 1))
    wait_for(tmp_path / "out" / "state-1-of-2.npz", second)
    second.send_signal(signal.SIGKILL)
    out, err = first.communicate(timeout=60)
    second.communicate(timeout=60)
    assert first.returncode == 2
    assert "error: another process of this run has ended" in err
    assert "Traceback" not in err
    assert out == ""
    assert not (tmp_path / "out" / "run.json").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the process by Linux' own list")
def test_under_torchrun_it_is_not_a_hang_either_and_the_run_goes_on(tmp_path, capsys):
    words = ["-m", "whitebox_probe", "run", "--save-every", "0", "--quiet"]
    named = ["crate-tiny-fmnist", "--limit", "60", "--batch-size", "1"]
    named += ["--metrics", "compression,l0,attention_entropy", "--out", tmp_path / "out"]
    torchrun = [*TORCHRUN, "--nproc-per-node=2"]
    options = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    run = subprocess.Popen([*torchrun, *words, *map(str, named)], env=ONE_THREAD, **options)
    wait_for(tmp_path / "out" / "state-1-of-2.npz", run)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    out, err = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "SIGKILL" in err
    assert out == ""
    resume = [*words, "--resume", str(tmp_path / "out")]
    assert cli.main(resume[2:]) == 2  # called: this process is one that is alone
    assert "it was begun by 2 processes, and this one has 1" in capsys.readouterr().err
    done = subprocess.run([*torchrun, *resume], env=ONE_THREAD, check=False, **options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("60 samples") == 1
    got = Result.load(tmp_path / "out")
    # In a process of its own: oneDNN keeps what it has prepared for other numbers of threads.
    whole = [*words, *named[:-1], tmp_path / "whole"]
    subprocess.run([sys.executable, *map(str, whole)], env=ONE_THREAD, check=True)
    assert got.frame.equals(Result.load(tmp_path / "whole").frame)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "matrices.npz",
        "run.json",
        "samples.parquet",
        "table.csv",
        "table.parquet",
    ]


@pytest.mark.slow
def test_errors_are_told_once_and_other_commands_refuse(tmp_path):
    for words, said in (
        (["run", "crate-tiny-fmnist", "--data", "nowhere", "--out", tmp_path / "o"], "nowhere"),
        (["list"], "only run shares its work"),
    ):
        port = free_port()
        env = ONE_THREAD | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
        both = [
            subprocess.Popen(
                [sys.executable, "-m", "whitebox_probe", *map(str, words)],
                stderr=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in (0, 1)
        ]
        lines = [process.communicate(timeout=120)[1] for process in both]
        assert [process.returncode for process in both] == [2, 2]
        assert sum(said in each for each in lines) == 1, lines


@pytest.mark.slow
def test_one_that_leaves_does_not_hold_on_to_one_that_waits_elsewhere(tmp_path):
    """It waited in a barrier, which did not keep its time, and the other one in an exchange."""
    script = tmp_path / "leaves.py"
    script.write_text(
        "from torch import distributed as dist\n"
        "from whitebox_probe.probing.processes import join\n"
        "me, got = join(), [None, None]\n"
        "dist.all_gather_object(got, 1)\n"
        "if me.rank == 0:\n"
        "    dist.all_gather_object(got, 2)\n"
    )
    words = [*TORCHRUN, "--nproc-per-node=2", str(script)]
    ended = subprocess.run(words, capture_output=True, timeout=120, check=False)
    assert ended.returncode == 1
