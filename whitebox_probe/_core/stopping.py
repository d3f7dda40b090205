"""Ctrl-C and SIGTERM: both raise, so that what is open is closed and what is begun is removed."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)
_asked: list[int] = []
_again: list[threading.Timer] = []
_sent: list[int] = []
_answer = threading.Event()
"""Set once a stop is answered: nothing raises any more, and nothing is sent."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, answered as Ctrl-C is."""


def kind(number: int) -> type[KeyboardInterrupt]:
    """What a signal raises."""
    return Terminated if number == signal.SIGTERM else KeyboardInterrupt


def status(stop: BaseException) -> int:
    """The exit status of a command that was stopped: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


def note(number: int) -> None:
    """Keep that a signal came: a library may lose what it raises, or raise something else."""
    _asked.append(number)


def asked() -> int | None:
    """The signal that came since `answered` began, if any."""
    return _asked[-1] if _asked else None


def heard() -> None:
    """Answer a stop: another one, late or sent once more, has nothing to add to it."""
    _answer.set()


@contextmanager
def answered() -> Iterator[None]:
    """Answer both signals by raising, where nobody else answers them, and keep that they came."""
    _asked.clear()
    _answer.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {n: signal.getsignal(n) for n in NUMBERS if signal.getsignal(n) in usual}
    for number in before:
        signal.signal(number, _raise)
    hook = sys.unraisablehook
    sys.unraisablehook = partial(_unraised, hook)
    try:
        yield
    finally:
        heard()
        sys.unraisablehook = hook
        _end_timers()
        for number, handler in before.items():
            signal.signal(number, handler)


def _unraised(usual: Callable[[Any], Any], told: Any) -> None:
    """Where nothing can be raised: a stop comes once more, and what follows on one is noise."""
    if not _asked:
        usual(told)
    elif isinstance(told.exc_value, KeyboardInterrupt):
        timer = threading.Timer(0.1, _send, (_asked[-1],))
        _again.append(timer)
        timer.start()


def _send(number: int) -> None:
    if not _answer.is_set():
        _sent.append(number)
        os.kill(os.getpid(), number)


def _end_timers() -> None:
    """See to it that no signal of ours comes when nobody answers it: it would end the process."""
    for timer in _again:
        timer.cancel()
        timer.join()
    if _sent:  # the last one may not have come yet
        time.sleep(0.05)
    _again.clear()
    _sent.clear()


def _raise(number: int, frame: FrameType | None) -> Any:
    note(number)
    if not _answer.is_set():
        raise kind(number)


def _in_child() -> None:
    """When a reader of samples stops is its parent's to decide, who ends it by SIGTERM."""
    for number, handler in ((signal.SIGINT, signal.SIG_IGN), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is _raise:
            signal.signal(number, handler)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
