"""Processes that were not started alike are told so before the first batch, in one line."""

import subprocess
import sys

import pytest

from tests.probing.disagreeing import CASES
from tests.probing.test_distributed import ONE_THREAD, ROOT, TORCHRUN, free_port


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What two processes say, by case and rank."""
    folder = tmp_path_factory.mktemp("disagreeing")
    words = [*TORCHRUN, "--nproc-per-node=2", "-m", "tests.probing.disagreeing", str(folder)]
    done = subprocess.run(
        words, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False, env=ONE_THREAD
    )
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.slow
def test_what_differs_is_named_by_every_process(told):
    assert told["alike-0"] == told["alike-1"] == "measured"
    names = {"number of bases": "basis"}
    for case in [*CASES][1:]:
        line = told[f"{case}-0"]
        assert line == told[f"{case}-1"], case
        assert "\n" not in line
        assert line.startswith("ProcessError: the processes of this run were not started alike"), (
            case,
            line,
        )
        assert names.get(case, case) in line.partition("they differ in")[2], case
    assert "eps (0.1 on rank 0, 1.1 on rank 1)" in told["eps-0"]


@pytest.mark.slow
def test_the_command_says_it_in_one_line_and_exits_2(tmp_path):
    port = free_port()
    env = ONE_THREAD | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    words = ["run", "crate-tiny-fmnist", "--limit", "8", "--quiet", "--metrics", "l0"]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "whitebox_probe", *words, "--eps", eps, "--out", tmp_path / "o"],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=env | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank, eps in enumerate(("0.1", "0.2"))
    ]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [2, 2]
    lines = "".join(errors).splitlines()
    assert sum("eps (0.1 on rank 0, 0.2 on rank 1)" in line for line in lines) == 1
    assert not any("Traceback" in line for line in lines)
