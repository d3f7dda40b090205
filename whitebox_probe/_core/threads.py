"""Which other threads of the process run a user's code, or a library's that may draw or train."""

import sys
import threading
from types import FrameType

_HELPERS = frozenset(
    {
        *("tqdm", "zmq", "tornado", "traitlets", "ipykernel", "IPython", "jupyter_client"),
        *("debugpy", "pydevd", "_pydevd_bundle", "_pydev_bundle", "execnet"),
    }
)
"""Libraries whose threads only wait, show and talk."""


def alone() -> bool:
    """Whether no other thread is at work: none, or such as a notebook and a progress bar have.

    A thread that runs, or is about to run, anything else counts, also while it waits.
    """
    me = threading.get_ident()
    others = [thread for thread in threading.enumerate() if thread.ident != me]
    if not all(_helps(_home(thread)) for thread in others):
        return False
    return all(_idles(frame) for ident, frame in sys._current_frames().items() if ident != me)


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
    root = module.partition(".")[0]
    return root in sys.stdlib_module_names or root in _HELPERS
