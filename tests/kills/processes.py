"""Real commands: forked from a process that is warm, or started from nothing."""

import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = Path(__file__).parent / "site"
MARK = "WHITEBOX_PROBE_TESTED"
PATIENCE = 120.0
"""Seconds that one command may take."""


@dataclass
class Ended:
    """How a command ended: 128 and the signal's number where one ended it."""

    status: int
    out: str
    err: str
    seconds: float
    pid: int
    mark: str


def environment(place: Path) -> dict[str, str]:
    """What commands find, whoever starts them."""
    return {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "WHITEBOX_PROBE_CACHE": str(place / "cache"),
        "WHITEBOX_PROBE_REGISTRY": str(place / "registry.yaml")
        if (place / "registry.yaml").exists()
        else "",
        "PYTHONPATH": os.pathsep.join([str(SITE), str(ROOT)]),
    }


class Warm:
    """A process that forks commands; a context manager."""

    def __enter__(self) -> "Warm":
        # Its errors are ours to show: it imports, and nothing else.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kills.server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # a second line in a buffer is none that `select` sees
            cwd=ROOT,
            env={**os.environ, **environment(ROOT / "none")},
            start_new_session=True,
        )
        assert self._answer(PATIENCE) == {}
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()

    def _answer(self, seconds: float) -> dict | None:
        stream = self._process.stdout
        assert stream is not None
        if not select.select([stream], [], [], seconds)[0]:
            return None
        return json.loads(stream.readline())

    def call(
        self,
        words: Sequence[str],
        place: Path,
        *,
        more: Mapping[str, str] | None = None,
        after: float | None = None,
        number: int = signal.SIGKILL,
        group: bool = False,
        most: int | None = None,
    ) -> Ended:
        """Run a command in a folder.

        Args: after: seconds until a signal of a number is sent, to it or to its whole group.
            most: bytes that a file may have.
        """
        out, err = place.parent / f"{place.name}.out", place.parent / f"{place.name}.err"
        asked = {
            "words": list(words),
            "folder": str(place),
            "environment": environment(place) | dict(more or {}),
            "out": str(out),
            "err": str(err),
            "most": most,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        begun = self._answer(PATIENCE)
        assert begun is not None
        pid, start = begun["pid"], time.monotonic()
        ended = None
        if after is not None:
            ended = self._answer(after)
            if ended is None:
                os.killpg(pid, number) if group else os.kill(pid, number)
        ended = ended or self._answer(PATIENCE)
        if ended is None:
            os.killpg(pid, signal.SIGKILL)
            ended = self._answer(PATIENCE)
            assert ended is not None
            ended["status"] = 1000  # it hung
        status = ended["status"] if ended["status"] >= 0 else 128 - ended["status"]
        seconds = time.monotonic() - start
        return Ended(status, out.read_text(), err.read_text(), seconds, pid, "")


def cold(
    words: Sequence[str],
    place: Path,
    *,
    processes: int = 1,
    more: Mapping[str, str] | None = None,
    after: float | None = None,
    number: int = signal.SIGKILL,
    group: bool = False,
) -> Ended:
    """Run a command from nothing, by torchrun where it is several processes; as `Warm.call`."""
    mark = uuid.uuid4().hex
    python = [sys.executable]
    if processes > 1:
        python += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
        python += [str(processes)]
    out, err = place.parent / f"{place.name}.out", place.parent / f"{place.name}.err"
    start = time.monotonic()
    with out.open("wb") as to, err.open("wb") as errors:
        process = subprocess.Popen(
            [*python, "-m", "whitebox_probe", *words],
            stdin=subprocess.DEVNULL,
            stdout=to,
            stderr=errors,
            cwd=place,
            env={**os.environ, **environment(place), **dict(more or {}), MARK: mark},
            start_new_session=True,
        )
        if after is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(after)
            if process.poll() is None:
                if group:
                    os.killpg(process.pid, number)
                else:
                    process.send_signal(number)
        try:
            status = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = 1000
    status = status if status >= 0 else 128 - status
    seconds = time.monotonic() - start
    return Ended(status, out.read_text(), err.read_text(), seconds, process.pid, mark)


def survivors(ended: Ended, *, within: float = 15.0) -> list[int]:
    """Processes of a command that has ended which are still there after some seconds."""
    end = time.monotonic() + within
    while True:
        found = [
            pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_of(pid, ended)
        ]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.2)


def _is_of(pid: int, ended: Ended) -> bool:
    if pid == os.getpid():
        return False
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] in "ZX":
            return False
        if int(fields[3]) == ended.pid:
            return True
        needle = f"{MARK}={ended.mark}".encode()
        return bool(ended.mark) and needle in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (OSError, IndexError):
        return False
