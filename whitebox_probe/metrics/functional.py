"""Every measure as a pure function on tensors, gathered from the files of this folder.

Each looks at its arguments first: a ShapeError for what is no tensor of real numbers of a shape
that fits, a SettingError for a number or a choice that cannot be.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from whitebox_probe import metrics
from whitebox_probe._core import discover
from whitebox_probe.metrics._arguments import checked
from whitebox_probe.metrics.catalogue import ADAPTER


@cache
def _held(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one of the files as it is had here, one and the same each time."""
    held = checked(function)
    held.__module__ = __name__  # where it is looked for when it is unpickled
    return held


def _gather() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in discover.modules(metrics, skip=(ADAPTER,)):
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not isinstance(thing, type):
                discover.unique(found, name, _held(thing))
    return found


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    found = _gather()
    if name not in found:
        raise AttributeError(f"no measure '{name}'; there are: {', '.join(sorted(found))}")
    return found[name]


def __dir__() -> list[str]:
    return sorted(_gather())
