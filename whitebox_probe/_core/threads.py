"""Which other threads of the process run a user's code, or a library's that may draw or train."""

import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType

_HELPERS = (
    *("tqdm", "zmq", "tornado", "traitlets", "ipykernel", "IPython", "jupyter_client"),
    *("debugpy", "pydevd", "_pydevd_bundle", "_pydev_bundle", "execnet", "jedi"),
    *("tensorboard", "wandb", "torch._inductor.compile_worker"),
    "torch.utils.data._utils.pin_memory",
    # What waits for processes: neither runs code that it is given.
    *("multiprocessing.queues", "concurrent.futures.process", "asyncio.unix_events"),
    *("loky.process_executor", "joblib.externals.loky.process_executor"),
)
"""Libraries, and parts of some, whose threads only wait, show, copy and talk."""
_NAMED = ("fsspecIO",)
"""Threads that only their names tell: file systems are read in this one."""


class Waiting(threading.Thread):
    """A thread of this package's own that waits for an answer, and may wait on when it is left.

    It neither draws nor trains, so that nobody has to take care of it.
    """

    def __init__(self, target: Callable[[], object]) -> None:
        super().__init__(target=target, daemon=True)


def alone() -> bool:
    """Whether no other thread is at work: none, or such as a notebook and a progress bar have.

    A thread that was started for anything else counts, also while it waits, unless it is `Waiting`:
    what draws numbers in C has no frame that tells, and a worker of a pool, a loop or a timer may
    begin at any time. One that begins while this is asked for is not known.
    """
    # The main thread, and those that Python did not start, were started for nothing that is known:
    # their frames tell.
    unknown = (threading._MainThread, threading._DummyThread)  # type: ignore[attr-defined]
    others = set(threading.enumerate()) - {threading.current_thread()}
    waiting = {thread for thread in others if isinstance(thread, Waiting)}
    started = {thread for thread in others - waiting if not isinstance(thread, unknown)}
    if not all(_helps(_home(thread)) or thread.name in _NAMED for thread in started):
        return False
    idle = {threading.get_ident(), *(thread.ident for thread in waiting)}
    return all(_idles(f) for ident, f in sys._current_frames().items() if ident not in idle)


def _home(thread: threading.Thread) -> str:
    """The Python module of what a thread was started for."""
    own = type(thread).__module__
    if own != "threading":
        return own
    target = getattr(thread, "_target", None) or getattr(thread, "function", None)
    while isinstance(target, partial):
        target = target.func
    return str(getattr(target, "__module__", None) or "")


def _idles(frame: FrameType | None) -> bool:
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] not in sys.stdlib_module_names and not _helps(module):
            return False
        frame = frame.f_back
    return True


def _helps(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in _HELPERS)
