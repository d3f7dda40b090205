"""Settings of matplotlib: the user's where they are set, or else the package's style."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe._core.process import ONE_AT_A_TIME

_NOT_LOOKS = ("backend", "webagg", "interactive", "toolbar", "tk.", "savefig.directory")
"""Settings of a program, which a style sheet has no say in."""


@cache
def _own() -> dict[str, Any]:
    """The package's settings."""
    import matplotlib as mpl

    file = Path(__file__).with_name("whitebox.mplstyle")
    found: Any = mpl.rc_params_from_file(file, use_default_template=False)
    return dict(found)


def expect_backend() -> None:
    """Check what the environment says of matplotlib, which cannot be imported else.

    Raises: ProbeError.
    """
    try:
        import matplotlib  # noqa: F401 - to see whether it can be
    except ValueError as error:
        named = os.environ.get("MPLBACKEND")
        raise ProbeError(
            "figures cannot be drawn" + (f" with MPLBACKEND={named}" if named else ""),
            (str(error).splitlines() or ["matplotlib refuses its settings"])[0],
            "Unset that variable, or name a backend of matplotlib (agg, say)",
        ) from error


_ASKED: ContextVar[frozenset[str]] = ContextVar("asked", default=frozenset())
"""Settings of a style sheet in force, which are the user's even where they are the default's."""


@contextmanager
def using(sheet: str | None) -> Iterator[None]:
    """A style sheet for the block: a file's, or one of matplotlib's by its name; or none.

    Raises: ProbeError for one that there is not, or that cannot be read.
    """
    expect_backend()
    import matplotlib as mpl

    settings = _of_sheet(sheet) if sheet else {}
    token = _ASKED.set(_ASKED.get() | settings.keys())
    try:
        with ONE_AT_A_TIME, mpl.rc_context(settings):
            yield
    finally:
        _ASKED.reset(token)


def _of_sheet(sheet: str) -> dict[Any, Any]:
    import matplotlib as mpl
    from matplotlib import style

    if sheet in style.library:
        return dict(style.library[sheet])
    try:
        if not Path(sheet).is_file():
            raise ProbeError(
                f"there is no style sheet '{sheet}'",
                "it is no file, and none of matplotlib's",
                nearest(sheet, style.available),
            )
        with _told_as_errors():
            found: Any = mpl.rc_params_from_file(sheet, use_default_template=False)
    except (OSError, ValueError, KeyError) as error:
        first = str(error).strip().splitlines()[0].partition(" You ")[0]
        raise ProbeError(
            f"the style sheet {sheet} cannot be read", first, "Write it as matplotlib's are"
        ) from error
    return {key: value for key, value in found.items() if not key.startswith(_NOT_LOOKS)}


@contextmanager
def _told_as_errors() -> Iterator[None]:
    """ValueError for a line of a style sheet that matplotlib leaves out, with words in its log."""
    log = logging.getLogger("matplotlib")

    class Refusing(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.levelno >= logging.WARNING:
                raise ValueError(" ".join(record.getMessage().split()))
            return True

    refusing = Refusing()
    loggers = [log, logging.getLogger("matplotlib.rcsetup")]
    # Many silence matplotlib's log, which is where alone it says what it leaves out.
    before = [(each, each.level, each.disabled) for each in loggers], logging.root.manager.disable
    for each in loggers:
        each.addFilter(refusing)
        each.setLevel(logging.WARNING)
        each.disabled = False
    logging.disable(logging.NOTSET)
    try:
        yield
    finally:
        logging.disable(before[1])
        for each, level, disabled in before[0]:
            each.removeFilter(refusing)
            each.setLevel(level)
            each.disabled = disabled


@contextmanager
def styled() -> Iterator[None]:
    """The package's style for the block, where the user has set nothing; as before afterwards.

    A setting counts as the user's when it is not matplotlib's default: from a style sheet, a
    matplotlibrc or `plt.rcParams`.
    """
    import matplotlib as mpl

    with ONE_AT_A_TIME:
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
    return name in _ASKED.get() or bool(now != default)


def _settings(name: str) -> tuple[Any, Any]:
    """A setting as it is, and its default."""
    import matplotlib as mpl

    now: Any = mpl.rcParams  # whose stubs know names only one by one
    default: Any = mpl.rcParamsDefault
    return now[name], default[name]
