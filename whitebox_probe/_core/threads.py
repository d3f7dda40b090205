"""Which other threads of the process run a user's code, or a library's that may draw or train."""

import sys
import threading
from collections.abc import Callable
from types import FrameType

_HELPERS = (
    *("tqdm", "zmq", "tornado", "traitlets", "ipykernel", "IPython", "jupyter_client"),
    *("debugpy", "pydevd", "_pydevd_bundle", "_pydev_bundle", "execnet", "jedi"),
    *("tensorboard", "wandb", "torch._inductor.compile_worker"),
    "torch.utils.data._utils.pin_memory",
)
"""Libraries, and parts of some, whose threads only wait, show, copy and talk."""


class Waiting(threading.Thread):
    """A thread of this package's own that waits for an answer, and may wait on when it is left.

    It neither draws nor trains, so that nobody has to take care of it.
    """

    def __init__(self, target: Callable[[], object]) -> None:
        super().__init__(target=target, daemon=True)


def alone() -> bool:
    """Whether no other thread is at work: none, or such as a notebook and a progress bar have.

    A thread that runs, or is about to run, anything else counts, also while it waits, unless it is
    `Waiting`.
    """
    others = set(threading.enumerate()) - {threading.current_thread()}
    waiting = {thread for thread in others if isinstance(thread, Waiting)}
    if not all(_helps(_home(thread)) for thread in others - waiting):
        return False
    idle = {threading.get_ident(), *(thread.ident for thread in waiting)}
    return all(_idles(f) for ident, f in sys._current_frames().items() if ident not in idle)


def _home(thread: threading.Thread) -> str:
    """The Python module of what a thread was started for."""
    own = type(thread).__module__
    target = getattr(thread, "_target", None)
    return own if own != "threading" or target is None else str(getattr(target, "__module__", ""))


def _idles(frame: FrameType | None) -> bool:
    while frame is not None:
        if not _helps(str(frame.f_globals.get("__name__", ""))):
            return False
        frame = frame.f_back
    return True


def _helps(module: str) -> bool:
    if module.partition(".")[0] in sys.stdlib_module_names:
        return True
    return any(module == name or module.startswith(f"{name}.") for name in _HELPERS)
