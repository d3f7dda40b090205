"""Every measure as a pure function on tensors, gathered from the files of this folder."""

from typing import Any

from whitebox_probe import metrics
from whitebox_probe._core import discover
from whitebox_probe.metrics.catalogue import ADAPTER


def _gather() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module in discover.modules(metrics, skip=(ADAPTER,)):
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if not isinstance(thing, type):
                discover.unique(found, name, thing)
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
