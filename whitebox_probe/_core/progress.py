"""Progress bars: on a terminal, or in a notebook."""

import sys
import warnings
from collections.abc import Iterable
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
    if not in_notebook():
        from tqdm.std import tqdm

        return tqdm(iterable, disable=None if progress else True, **options)
    # Nothing is told to enable it: TQDM_DISABLE=1 has its way, as where notebooks are stored.
    options = {"delay": DELAY, **({} if progress else {"disable": True}), **options}
    if find_spec("ipywidgets") is None:
        from tqdm.std import tqdm

        return tqdm(iterable, **options)
    from tqdm.notebook import tqdm as widget

    return widget(iterable, **options)


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
