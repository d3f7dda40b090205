"""What torchrun, or any launcher with its environment variables, says of this process."""

import os
import signal
import sys

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.lines import shown

_PARENT = os.getppid()
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h
_MOST = 1 << 20  # processes
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def expect_sound() -> None:
    """Refuse variables of a launcher that no launcher sets; what else is here takes them for unset.

    Raises: ProbeError.
    """
    if not all(os.environ.get(name) for name in _NEEDED):
        return
    size = _whole("WORLD_SIZE")
    if size == 1:
        return  # alone: nothing else of it is asked
    bounds = {"WORLD_SIZE": (1, _MOST), "RANK": (0, (size or _MOST) - 1)}
    bounds |= {"MASTER_PORT": (0, 65535)}
    bounds |= {"LOCAL_RANK": bounds["RANK"]} if os.environ.get("LOCAL_RANK") else {}
    for name, (least, most) in bounds.items():
        value = _whole(name)
        if value is None or not least <= value <= most:
            raise ProbeError(
                f"the variable {name} is '{shown(os.environ[name], 40)}'",
                f"torchrun and its like set it to a whole number from {least} to {most}",
                f"Start by torchrun, or unset it: unset {name}",
            )


def launched() -> bool:
    """Whether this is one of several processes of one run."""
    if not all(os.environ.get(name) for name in _NEEDED):
        return False
    number, size = _whole("RANK"), _whole("WORLD_SIZE") or 0
    return number is not None and number < size and size > 1


def rank() -> int:
    """The number of this process among those of the run, from 0."""
    return (_whole("RANK") or 0) if launched() else 0


def local_rank() -> int:
    """The number of this process among those of its machine, from 0."""
    if not launched():
        return 0
    return (_whole("LOCAL_RANK") or 0) if os.environ.get("LOCAL_RANK") else rank()


def _whole(name: str) -> int | None:
    """A variable's whole number; None for any other text."""
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


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
