"""Progress bars: on a terminal, or in a notebook."""

import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from typing import Any

DELAY = 1.0  # seconds: a notebook keeps what it shows, and a short wait needs no bar


def bar(iterable: Iterable[Any] | None = None, *, progress: bool, **options: Any) -> Any:
    """A bar of tqdm: as a widget in a notebook, in text on a terminal, and none where neither is.

    A notebook without ipywidgets has the bar in text.

    Args: progress: whether one is wanted. options: of tqdm.
    """
    quiet_imports()
    # Even a bar that is switched off would leave something behind, so that none is made.
    if not progress or not (in_notebook() or _on_terminal()):
        return _None(iterable)
    if not in_notebook():
        from tqdm.std import tqdm

        return _kind(tqdm)(iterable, miniters=1, **options)
    # Nothing is told to enable it: TQDM_DISABLE=1 has its way, as where notebooks are stored.
    options = {"delay": DELAY, "miniters": 1, **options}
    if find_spec("ipywidgets") is None:
        from tqdm.std import tqdm

        return _kind(tqdm)(iterable, **options)
    from tqdm.notebook import tqdm as widget

    return _kind(widget)(iterable, **options)


class _None:
    """What is counted, without a bar."""

    def __init__(self, iterable: Iterable[Any] | None) -> None:
        self._iterable = iterable

    def __iter__(self) -> Iterator[Any]:
        return iter(() if self._iterable is None else self._iterable)

    def __enter__(self) -> "_None":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def update(self, n: float = 1) -> None:
        """Nothing is shown."""


@cache
def _kind(of: Any) -> Any:
    """Bars that leave the process as it was.

    tqdm's own lock fixes how processes of Python's are started, and its monitor is a thread that
    never ends; `miniters=1` does what it is for.
    """
    return type(of.__name__, (of,), {"_lock": threading.RLock(), "monitor_interval": 0})


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def in_notebook() -> bool:
    """Whether the code runs in a Jupyter kernel; IPython is not loaded to tell."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and "IPKernelApp" in shell.config


@cache
def quiet_imports() -> None:
    """Load `tqdm.auto` without its warning that ipywidgets is missing.

    Libraries of models load it in their turn: in a notebook the first one would print a warning
    of three lines, about a bar that is shown all the same.
    """
    if in_notebook():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tqdm.auto  # noqa: F401 - for its side effect
