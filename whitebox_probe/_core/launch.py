"""What torchrun, or any launcher with its environment variables, says of this process."""

import os
import signal
import sys

_PARENT = os.getppid()
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def launched() -> bool:
    """Whether this is one of several processes of one run."""
    return all(os.environ.get(name) for name in _NEEDED) and int(os.environ["WORLD_SIZE"]) > 1


def rank() -> int:
    """The number of this process among those of the run, from 0."""
    return int(os.environ["RANK"]) if launched() else 0


def local_rank() -> int:
    """The number of this process among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK") or rank() if launched() else 0)


def is_left() -> bool:
    """Whether torchrun started this process, and has ended before it."""
    return "TORCHELASTIC_RUN_ID" in os.environ and launched() and os.getppid() != _PARENT


def follow(number: int) -> None:
    """Have this process sent a signal when torchrun ends, which may be killed before it (Linux)."""
    if sys.platform != "linux" or "TORCHELASTIC_RUN_ID" not in os.environ or not launched():
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, int(number))
    if is_left():  # before it was asked for
        signal.raise_signal(number)
