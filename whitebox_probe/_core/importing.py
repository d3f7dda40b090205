"""What a library's failed import means: too little memory, or a library that is not whole."""

import errno
import sys
import traceback
from importlib.metadata import packages_distributions
from types import FrameType

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.lines import shown

_OURS = "whitebox_probe"
_OF_MEMORY = ("failed to map segment", "cannot allocate memory", "out of memory")
"""What the system's loader says of a library for which there was no room."""


def as_told(error: BaseException) -> ProbeError | None:
    """The failed import of a library in one line; None for any other error.

    >>> str(as_told(ImportError("libtorch_cpu.so: failed to map segment", name="torch")))[:46]
    'torch cannot be loaded: there is too little me'
    >>> as_told(ImportError("no such name", name="whitebox_probe.cli")), as_told(ValueError("no"))
    (None, None)
    """
    library = _library(error)
    if library is None:
        return None
    said = shown(" ".join(str(error).split()) or type(error).__name__, 200)
    what = f"{library} cannot be loaded"
    lacks_room = isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM
    if lacks_room or any(sign in said.lower() for sign in _OF_MEMORY):
        why = f"there is too little memory for it ({said})"
        return ProbeError(what, why, "Raise the limit (ulimit -v), or run where there is more")
    package = packages_distributions().get(library, [library])[0]
    fix = f"Install it anew: {sys.executable} -m pip install --force-reinstall {package}"
    return ProbeError(what, f"it is not installed properly ({said})", fix)


def _library(error: BaseException) -> str | None:
    """The library whose import failed: named by the error, or the last whose code was at it."""
    if not isinstance(error, ImportError | OSError | MemoryError):
        return None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    found = [each for each in map(_imported, frames) if each and each != _OURS]
    if isinstance(error, ImportError) and error.name:
        named = error.name.partition(".")[0]  # of a library in C its last part alone
        if named == _OURS or not found or isinstance(error, ModuleNotFoundError):
            found.append(named)
    return found[-1] if found and found[-1] != _OURS else None


def _imported(frame: FrameType) -> str | None:
    """The library whose file a frame is running as it is imported."""
    name = str(frame.f_globals.get("__name__", ""))
    at_import = frame.f_code.co_name == "<module>" and name != "__main__"
    return name.partition(".")[0] if at_import else None
