"""Settings of matplotlib: the user's where they are set, or else the package's style."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any


@cache
def _own() -> dict[str, Any]:
    """The package's settings."""
    import matplotlib as mpl

    file = Path(__file__).with_name("whitebox.mplstyle")
    found: Any = mpl.rc_params_from_file(file, use_default_template=False)
    return dict(found)


@contextmanager
def styled() -> Iterator[None]:
    """The package's style for the block, where the user has set nothing; as before afterwards.

    A setting counts as the user's when it is not matplotlib's default: from a style sheet, a
    matplotlibrc or `plt.rcParams`.
    """
    import matplotlib as mpl

    ours: Any = {key: setting(key) for key in _own()}
    with mpl.rc_context(ours):
        yield


def setting(name: str) -> Any:
    """A setting of matplotlib: the user's, or else the package's, or else the default."""
    now, _ = _settings(name)
    return now if is_set(name) else _own().get(name, now)


def is_set(name: str) -> bool:
    """Whether the user has set it: it is not matplotlib's default."""
    now, default = _settings(name)
    return bool(now != default)


def _settings(name: str) -> tuple[Any, Any]:
    """A setting as it is, and its default."""
    import matplotlib as mpl

    now: Any = mpl.rcParams  # whose stubs know names only one by one
    default: Any = mpl.rcParamsDefault
    return now[name], default[name]
