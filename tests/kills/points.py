"""Points of a command that are the same every time: the n-th step of its own on the disk.

A step is a file opened for writing, moved or removed, or a folder made or removed, below a folder.
Python tells of each before it is done, whoever asks for it (`sys.addaudithook`). At its point a
process is sent a signal, or finds the disk full.
"""

import errno
import json
import os
import signal
import sys

VARIABLE = "WHITEBOX_PROBE_TESTED_POINT"
FULL, COUNT = "full", "count"
_STEPS = {"os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.chmod": 1}
_WRITES = os.O_WRONLY | os.O_RDWR


def told(act: str, at: int, under: object, log: object) -> dict[str, str]:
    """The variable that sets a point.

    Args: act: `full`, `count`, or a signal's name, as `KILL`. at: which step, from 1. log: a file
        that grows by a byte a step.
    """
    return {VARIABLE: json.dumps({"act": act, "at": at, "under": str(under), "log": str(log)})}


def arm() -> None:
    """Set the point that the environment names, if any; it holds until the process ends."""
    if not os.environ.get(VARIABLE):
        return
    asked = json.loads(os.environ[VARIABLE])
    act, at, under = asked["act"], asked["at"], os.path.realpath(asked["under"]) + os.sep
    log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    own, seen = os.getpid(), [0]

    def step(event: str, args: tuple) -> None:
        if event == "open":
            writes = isinstance(args[2], int) and args[2] & _WRITES
        else:
            writes = event in _STEPS
        if not writes or os.getpid() != own:
            return
        paths = args[: _STEPS.get(event, 1)]
        if not any(_text(path).startswith(under) for path in paths):
            return
        os.write(log, b".")
        seen[0] += 1
        if act == FULL:
            if seen[0] == at or (seen[0] > at and event in ("open", "os.mkdir")):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), _text(paths[-1]))
        elif act != COUNT and seen[0] == at:
            os.kill(own, signal.Signals[f"SIG{act}"])

    sys.addaudithook(step)


def _text(path: object) -> str:
    if isinstance(path, int) or path is None:
        return ""
    return os.path.abspath(os.fsdecode(path))
