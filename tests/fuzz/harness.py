"""One call of the command line over hostile input, and what has to be true of it afterwards."""

import contextlib
import io
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from whitebox_probe.cli.main import main

LONGEST = 500
SLOW = 20.0
"""Seconds that one input may take."""


class Stalled(BaseException):
    """An input that takes longer than `SLOW`."""


@dataclass
class Case:
    """An input: what it is called, the words of the command line, and who judges an exit of 0.

    `right` says of an accepted input what is wrong about it; empty where nothing is.
    """

    name: str
    words: list[str]
    right: object = None


@dataclass
class Counts:
    """What became of the inputs."""

    tried: int = 0
    codes: Counter = field(default_factory=Counter)
    tracebacks: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    wrong_accepts: list[str] = field(default_factory=list)
    payloads: int = 0
    session: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Every one of them, in words."""
        several = (self.tracebacks, self.unclear, self.wrong_accepts, self.session, self.slow)
        return [*(each for one in several for each in one), *["a payload ran"] * self.payloads]

    def line(self, kind: str) -> str:
        """The counts in one line."""
        codes = ", ".join(f"exit {code}: {n}" for code, n in self.codes.items())
        return (
            f"{kind:12s} {self.tried:6d} tried ({codes}); tracebacks {len(self.tracebacks)}, "
            f"unclear lines {len(self.unclear)}, wrong accepts {len(self.wrong_accepts)}, "
            f"payloads run {self.payloads}, session changes {len(self.session)}, "
            f"slow {len(self.slow)}"
        )


def session() -> dict[str, object]:
    """What a call must leave as it was."""
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "random state": torch.get_rng_state().sum().item(),
        "filters": len(warnings.filters),
        "environment": {k: v for k, v in os.environ.items() if not k.startswith("TORCHINDUCTOR")},
        "folder": os.getcwd(),
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)],
        "output": (sys.stdout, sys.stderr),
        "grad": torch.is_grad_enabled(),
    }


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """An alarm for what hangs; in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: object) -> None:
        raise Stalled("".join(traceback.format_stack(frame, limit=6)))  # type: ignore[arg-type]

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def call(words: list[str]) -> tuple[int | str, str, str]:
    """The exit status, standard output and standard error of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status: int | str = main(words)
        except SystemExit as stop:
            status = int(stop.code or 0)
        except Stalled as stop:
            status = f"stalled: {stop}"
        except BaseException:
            status = traceback.format_exc()
    return status, out.getvalue(), err.getvalue()


def judge(case: Case, counts: Counts, canary: Path) -> None:
    """Run an input, and count what is wrong about the answer."""
    before = session()
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inside = session()
        with limited(SLOW):
            status, out, err = call(case.words)
        after = session()
    taken = time.monotonic() - start
    counts.tried += 1
    counts.codes[str(status) if isinstance(status, int) else "none"] += 1
    told = f"{case.name}: {' '.join(case.words)[:300]}\n    "
    if taken >= SLOW:
        counts.slow.append(f"{told}{taken:.0f} s {status}")
    elif status not in (0, 2):
        counts.tracebacks.append(f"{told}{status} {err[-1500:]}")
    elif "Traceback" in err + out:
        counts.tracebacks.append(f"{told}{err[-1500:]}")
    if status == 2:
        line = err.removesuffix("\n")
        lines = [each for each in line.split("\n") if ": note: " not in each]
        if len(lines) != 1 or len(lines[0]) >= LONGEST or not lines[0].isprintable():
            counts.unclear.append(f"{told}{err[:1500]!r}")
        if "weights_only" in err:
            counts.unclear.append(f"{told}{err[:1500]!r}")
    if any(not c.isprintable() and c != "\n" for c in out):
        counts.unclear.append(f"{told}standard output holds control characters")
    if status == 0 and callable(case.right) and (wrong := case.right()):
        counts.wrong_accepts.append(f"{told}{wrong}")
    if canary.exists():
        counts.payloads += 1
        canary.rmdir() if canary.is_dir() else canary.unlink()
    changed = [
        f"{name} ({set(inside[name].items()) ^ set(after[name].items())})"  # type: ignore[attr-defined]
        if name == "environment"
        else name
        for name in inside
        if inside[name] != after[name]
    ]
    if changed or session()["filters"] != before["filters"]:
        counts.session.append(f"{told}{', '.join(changed)}")
