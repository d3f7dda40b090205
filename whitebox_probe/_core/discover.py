"""Find the pieces of a folder by importing its modules: no central list to keep.

A family, a measure, a figure, a command and a data set are each one file. A duplicate name raises;
an ImportError is never swallowed. What other packages add is found by their entry points.
"""

import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def modules(package: ModuleType) -> list[ModuleType]:
    """Every public module of a package, imported in sorted order (private ones start with `_`)."""
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return [importlib.import_module(f"{package.__name__}.{n}") for n in names if n[0] != "_"]


def module_names(package: ModuleType) -> list[str]:
    """The names of a package's public modules, without importing them."""
    return sorted(i.name for i in pkgutil.iter_modules(package.__path__) if i.name[0] != "_")


def unique(found: dict[str, T], name: str, thing: T) -> None:
    """Add `thing` under `name`; a second thing of that name is our own fault and raises."""
    if name in found:
        raise RuntimeError(f"two definitions of '{name}': {found[name]!r} and {thing!r}")
    found[name] = thing


def plugins(group: str) -> dict[str, list[EntryPoint]]:
    """What installed packages add under an entry-point group, by name; nothing is imported."""
    found: dict[str, list[EntryPoint]] = {}
    for each in sorted(entry_points(group=group), key=lambda e: (e.name, e.value)):
        found.setdefault(each.name, []).append(each)
    return found
