"""The process of the caller, left as it was found: one place for all that a call may disturb.

    @as_found()
    def probe(...): ...

Put back are random states, modes, settings and global hooks of torch, settings of NumPy, pandas,
Pillow, matplotlib and the decimal context, what shows warnings and which, levels of loggers, the
environment, the working directory, handlers of signals, Python's streams, arguments and limits, by
whatever they were changed: this package, a library, the user's own model or data set, or an
exception in the middle of one. What belongs to a model is put back in `models/guest.py`.

torch's own default device holds for what the caller's model makes in a pass (`callers_device`), and
for nothing that this package makes: its tensors are where it says. One that a pass sets, and the
folder that it goes to, are put back behind it.

While other threads are at work, what is theirs as well is left alone: it may be they who changed
it. This package itself changes none of it for the whole process then, but for what is locked; what
draws random numbers has a stream of its own (`_core/randomness.py`).
"""

import gc
import importlib
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from typing import Any

from whitebox_probe._core.threads import alone

ONE_AT_A_TIME = threading.RLock()
"""Held where settings of the whole process are changed for a block: filters, figures' styles."""


class Shared:
    """A setting of the whole process that several threads want for a while, each for its own.

    The first one in makes it and the last one out takes it back, in whatever order they leave.

    Args: make: what sets it for a block.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._inside = 0
        self._open: AbstractContextManager[Any] | None = None

    def __enter__(self) -> None:
        """Set it, unless it is set."""
        with self._lock:
            if self._inside == 0:
                opened = self._make()
                opened.__enter__()
                self._open = opened
            self._inside += 1

    def __exit__(self, *error: Any) -> None:
        """Take it back, once nobody wants it."""
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._open is not None:
                opened, self._open = self._open, None
                opened.__exit__(None, None, None)


State = tuple[Callable[[], Any], Callable[[Any], Any]]
_inside = threading.local()


@contextmanager
def as_found() -> Iterator[None]:
    """Leave the process as it is now, however the block ends; also a decorator: `@as_found()`."""
    if getattr(_inside, "now", False):  # a call within a call
        yield
        return
    is_alone = alone()
    with ExitStack() as stack:
        stack.callback(setattr, _inside, "now", False)
        _inside.now, _inside.alone = True, is_alone
        stack.enter_context(_default_device_aside())
        states = {**_of_thread(), **(_of_process() if is_alone else {})}
        for read, write in states.values():
            with suppress(RuntimeError):  # torch refuses to say some settings of mixed versions
                stack.callback(_put_back, read, write, read())
        if is_alone and sys.modules.get("torch") is not None:
            # Not imported by name: figures and tables are to run without torch.
            stack.enter_context(importlib.import_module("whitebox_probe._core.randomness").kept())
        elif is_alone:
            stack.callback(_put_back, random.getstate, random.setstate, random.getstate())
        stack.enter_context(_deaths_told_by_loaders())
        yield


@contextmanager
def _default_device_aside() -> Iterator[None]:
    torch: Any = sys.modules.get("torch")
    callers = None if torch is None else torch.get_default_device()
    if callers is None or callers.type == "cpu":  # the usual: torch's calls cost no more by it
        yield
        return
    _inside.device = callers
    try:
        with own_device():
            yield
    finally:
        _inside.device = None


@contextmanager
def callers_device() -> Iterator[None]:
    """What the caller's model makes is on the caller's default device, here as outside the call.

    A default device that it sets itself, and the folder that it goes to, are put back behind it.
    """
    device = getattr(_inside, "device", None)
    with same_folder(), nullcontext() if device is None else device:
        before = _default_device()
        try:
            yield
        finally:
            if _default_device() is not before:
                _set_default_device(before)


def own_device() -> AbstractContextManager[Any]:
    """What this package makes is on the CPU again, in the midst of a pass of the caller's model.

    Whoever set another device: the caller before it, or the model within it.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return nullcontext()
    theirs = getattr(_inside, "device", None) or torch.get_default_device()
    return nullcontext() if theirs.type == "cpu" else torch.device("cpu")


@contextmanager
def same_folder() -> Iterator[None]:
    """Leave the working folder as it is: the caller's code runs inside, and paths are relative.

    Beside other threads, which share it, it is left alone.
    """
    before = _directory() if getattr(_inside, "alone", False) else None
    try:
        yield
    finally:
        if before is not None and _directory() != before:
            _go_back(before)


def _default_device() -> Any:
    """What `torch.set_default_device` has set in this thread; None for nothing."""
    torch: Any = sys.modules.get("torch")
    return getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)


def _set_default_device(was: Any) -> None:
    torch: Any = sys.modules["torch"]
    torch.set_default_device(None if was is None else was.device)


def _put_back(read: Callable[[], Any], write: Callable[[Any], Any], before: Any) -> None:
    with suppress(RuntimeError):  # as above
        if read() != before:
            write(before)


def _of_thread() -> dict[str, State]:
    """What is of this thread alone."""
    torch: Any = sys.modules.get("torch")
    found: dict[str, State] = {}
    if (decimal := sys.modules.get("decimal")) is not None:
        found["decimal"] = (partial(_decimal, decimal), partial(_set_decimal, decimal))
    if torch is None:
        return found
    found |= {
        # Before the default device, and so put back after it, which is a mode as well.
        "modes": (torch._C._len_torch_function_stack, partial(_leave_modes, torch)),
        "grad": (torch.is_grad_enabled, torch._C._set_grad_enabled),
        "autocast cache": (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
        "default device": (_default_device, _set_default_device),
        "threads of autograd": (
            torch._C._is_multithreading_enabled,
            torch._C._set_multithreading_enabled,
        ),
    }
    for kind in ("cpu", "cuda"):
        found[f"autocast {kind}"] = (partial(_autocast, torch, kind), partial(_set, torch, kind))
    return found


def _autocast(torch: Any, kind: str) -> tuple[bool, Any]:
    return torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)


def _set(torch: Any, kind: str, was: tuple[bool, Any]) -> None:
    torch.set_autocast_enabled(kind, was[0])
    torch.set_autocast_dtype(kind, was[1])


def _of_process() -> dict[str, State]:
    """What all threads share."""
    found: dict[str, State] = {
        "directory": (_directory, _go_back),
        "environment": (lambda: dict(os.environ), _set_environment),
        "filters": (lambda: list(warnings.filters), _set_filters),
        "loggers": (_levels, _set_levels),
        "path": _list_of(sys, "path"),
        "arguments": _list_of(sys, "argv"),
        "depth": (sys.getrecursionlimit, sys.setrecursionlimit),
        "garbage": (lambda: (gc.isenabled(), gc.get_threshold()), _set_garbage),
        "shown warnings": _attributes(
            (warnings, "showwarning"), (logging, "_warnings_showwarning")
        ),
        "streams": _attributes(
            *((sys, name) for name in ("stdin", "stdout", "stderr", "excepthook", "displayhook"))
        ),
    }
    if threading.current_thread() is threading.main_thread():
        found["signals"] = (_handlers, _set_handlers)
    for library, states in (
        ("torch", _of_torch),
        ("numpy", _of_numpy),
        ("pandas", _of_pandas),
        ("PIL.Image", _of_pillow),
        ("PIL.ImageFile", _of_its_files),
        ("matplotlib", _of_matplotlib),
    ):
        if (module := sys.modules.get(library)) is not None:
            found |= states(module)
    return found


def _of_torch(torch: Any) -> dict[str, State]:
    backends = torch.backends
    found: dict[str, State] = {
        "threads": (torch.get_num_threads, torch.set_num_threads),
        "type": (torch.get_default_dtype, torch.set_default_dtype),
        "determinism": (
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            # Not use_deterministic_algorithms, which imports a compiler.
            lambda was: torch._C._set_deterministic_algorithms(was[0], warn_only=was[1]),
        ),
        "always warned": (torch.is_warn_always_enabled, torch.set_warn_always),
        "filled memory": (
            torch._C._get_deterministic_fill_uninitialized_memory,
            torch._C._set_deterministic_fill_uninitialized_memory,
        ),
        "global hooks": (partial(_global_hooks, torch), partial(_set_global_hooks, torch)),
        "print": (
            lambda: dict(vars(torch._tensor_str.PRINT_OPTS)),
            lambda was: vars(torch._tensor_str.PRINT_OPTS).update(was),
        ),
        "anomalies": (
            lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
            lambda was: torch.set_anomaly_enabled(*was),
        ),
        "fast attention": (backends.mha.get_fastpath_enabled, backends.mha.set_fastpath_enabled),
        "oneDNN": (torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled),
        "cuDNN": (torch._C._get_cudnn_enabled, torch._C._set_cudnn_enabled),
        "benchmark": (torch._C._get_cudnn_benchmark, torch._C._set_cudnn_benchmark),
        "cuDNN's determinism": (
            torch._C._get_cudnn_deterministic,
            torch._C._set_cudnn_deterministic,
        ),
        "TF32 of cuDNN": (
            _unwarned(torch._C._get_cudnn_allow_tf32),
            torch._C._set_cudnn_allow_tf32,
        ),
        "TF32 of products": (
            _unwarned(torch._C._get_cublas_allow_tf32),
            torch._C._set_cublas_allow_tf32,
        ),
    }
    for kind in ("flash", "mem_efficient", "math", "cudnn"):
        found[f"attention {kind}"] = (
            getattr(backends.cuda, f"{kind}_sdp_enabled"),
            getattr(backends.cuda, f"enable_{kind}_sdp"),
        )
    # The last one, and so the first to be put back: it sets some of the others.
    found["precision"] = (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
    return found


def _list_of(module: Any, name: str) -> State:
    """A list of a module and what it holds, also where another thing was put in its place."""

    def read() -> tuple[Any, Any]:
        held = getattr(module, name, None)
        return held, list(held) if isinstance(held, list) else None

    def write(was: tuple[Any, Any]) -> None:
        setattr(module, name, was[0])
        if was[1] is not None:
            was[0][:] = was[1]

    return read, write


def _unwarned(read: Callable[[], Any]) -> Callable[[], Any]:
    """The same, without torch 2.9's warning that its name will change."""

    def reading() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()

    return reading


def _of_numpy(numpy: Any) -> dict[str, State]:
    return {
        "errors": (numpy.geterr, lambda was: numpy.seterr(**was)),
        "called at errors": (numpy.geterrcall, numpy.seterrcall),
        "print of NumPy": (numpy.get_printoptions, lambda was: numpy.set_printoptions(**was)),
    }


def _of_pandas(pandas: Any) -> dict[str, State]:
    def read() -> dict[str, Any]:
        return dict(_flat(vars(pandas.options).get("d", {})))

    def write(was: dict[str, Any]) -> None:
        now = read()
        for name, value in was.items():
            if now.get(name) != value:
                pandas.set_option(name, value)

    return {"pandas": (read, write)}


def _flat(options: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Options of mappings in mappings, by dotted names."""
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _of_pillow(image: Any) -> dict[str, State]:
    return {"Pillow": _attributes((image, "MAX_IMAGE_PIXELS"))}


def _of_its_files(reading: Any) -> dict[str, State]:
    return {"Pillow's files": _attributes((reading, "LOAD_TRUNCATED_IMAGES"))}


def _attributes(*places: tuple[Any, str]) -> State:
    """What stands under names of modules."""

    def write(was: tuple[Any, ...]) -> None:
        for (module, name), value in zip(places, was, strict=True):
            setattr(module, name, value)

    return lambda: tuple(getattr(module, name, None) for module, name in places), write


_DECIMAL = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")


def _decimal(decimal: Any) -> tuple[Any, ...]:
    context = decimal.getcontext()
    values = tuple(getattr(context, name) for name in _DECIMAL)
    return values, dict(context.traps), dict(context.flags)


def _set_decimal(decimal: Any, was: tuple[Any, ...]) -> None:
    context = decimal.getcontext()
    for name, value in zip(_DECIMAL, was[0], strict=True):
        setattr(context, name, value)
    context.traps.update(was[1])
    context.flags.update(was[2])


def _leave_modes(torch: Any, count: int) -> None:
    """Leave what was entered and not left; the outermost stay."""
    while torch._C._len_torch_function_stack() > count:
        torch._C._pop_torch_function_stack()


def _global_hooks(torch: Any) -> dict[str, dict[Any, Any]]:
    """Hooks of all modules, by the kind."""
    held = vars(torch.nn.modules.module)
    return {n: {**v} for n, v in held.items() if n.startswith("_global_") and isinstance(v, dict)}


def _set_global_hooks(torch: Any, was: dict[str, dict[Any, Any]]) -> None:
    held = vars(torch.nn.modules.module)
    for name, hooks in was.items():
        held[name].clear()
        held[name].update(hooks)


def _set_garbage(was: tuple[bool, tuple[int, ...]]) -> None:
    (gc.enable if was[0] else gc.disable)()
    gc.set_threshold(*was[1])


def _of_matplotlib(matplotlib: Any) -> dict[str, State]:
    settings = matplotlib.rcParams

    def read() -> dict[str, Any]:  # as they are kept: asking for the backend would choose one
        return {key: dict.__getitem__(settings, key) for key in dict.keys(settings) - {"backend"}}

    return {"rcParams": (read, lambda was: dict.update(settings, was))}


def _directory() -> str | None:
    with suppress(OSError):  # it may have been removed
        return os.getcwd()
    return None


def _go_back(was: str | None) -> None:
    if was is not None:
        os.chdir(was)


def _set_environment(was: Mapping[str, str]) -> None:
    for name in os.environ.keys() - was.keys():
        del os.environ[name]
    os.environ.update({k: v for k, v in was.items() if os.environ.get(k) != v})


def _set_filters(was: list[Any]) -> None:
    warnings.filters[:] = was  # type: ignore[index]  # a list, which its stub calls a sequence
    warnings._filters_mutated()  # type: ignore[attr-defined]  # what catch_warnings calls


def _levels() -> dict[str | None, Any]:
    root = logging.root
    found: dict[str | None, Any] = {None: (root.level, root.manager.disable, list(root.handlers))}
    known = list(root.manager.loggerDict.items())
    return found | {name: each.level for name, each in known if isinstance(each, logging.Logger)}


def _set_levels(was: Mapping[str | None, Any]) -> None:
    level, disabled, handlers = was[None]
    logging.root.setLevel(level)
    logging.root.handlers[:] = handlers
    logging.disable(disabled)
    for name, level in was.items():
        if name is not None and logging.getLogger(name).level != level:
            logging.getLogger(name).setLevel(level)


_DYING = "torch.utils.data._utils.signal_handling"
"""What answers a reader of samples that dies; a DataLoader sets it once, for good."""


@contextmanager
def _deaths_told_by_loaders() -> Iterator[None]:
    """A reader of samples that dies is told by the loader that waits for it, and nowhere else.

    torch's answer to SIGCHLD raises its error wherever this process happens to be: in the model's
    own code, say, whose fault it would be taken for. A loader finds a death by itself in seconds.
    """
    dying: Any = sys.modules.get(_DYING)
    in_main = threading.current_thread() is threading.main_thread()
    was = signal.getsignal(signal.SIGCHLD) if in_main and hasattr(signal, "SIGCHLD") else None
    is_set = getattr(dying, "_SIGCHLD_handler_set", None)
    if dying is None or was is None or is_set is None:  # not Python's; a torch that has it not
        yield
        return
    if is_set and callable(was):
        signal.signal(signal.SIGCHLD, partial(_quietly, was))
    dying._SIGCHLD_handler_set = True  # so that no loader of the block sets it
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, was)
        dying._SIGCHLD_handler_set = is_set  # the caller's own DataLoader sets it again


def _quietly(answer: Callable[[int, Any], object], number: int, frame: Any) -> None:
    with suppress(RuntimeError):
        answer(number, frame)


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def _set_handlers(was: Mapping[int, Any]) -> None:
    for number, handler in was.items():
        if handler is not None and signal.getsignal(number) is not handler:  # None: not Python's
            signal.signal(number, handler)
