"""Find the pieces of a folder by importing its modules: no central list to keep.

A family, a measure, a figure, a command and a data set are each one file. A duplicate name raises;
an ImportError is never swallowed. What other packages add is found by their entry points.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeVar

from whitebox_probe._core.errors import PluginError

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


def added(
    group: str, own: Mapping[str, T], fits: Callable[[str, Any], bool], what: str
) -> dict[str, T]:
    """What other packages add under an entry-point group, loaded, by name.

    Args: own: things of this package, whose names are taken. fits: whether a loaded thing may be
        used under its name. what: names, in an error, what the entry point should give.
    Raises: PluginError that names the package.
    """
    found: dict[str, T] = {}
    for name, entries in plugins(group).items():
        who = [f"{e.dist.name if e.dist else 'a package'} ({e.value})" for e in entries]
        taken = ["whitebox-probe"] * (name in own) + who[:-1]
        if taken:
            raise PluginError(
                f"'{name}' of {who[-1]} cannot be added",
                f"{taken[0]} has one of that name",
                "Rename it, or uninstall one of the packages",
            )
        try:
            thing = entries[0].load()
        except Exception as error:  # whatever another package's code raises
            told = (str(error).splitlines() or [""])[0]
            raise PluginError(
                f"'{name}' of {who[0]} cannot be loaded",
                f"{type(error).__name__}: {told}",
                "Mend or uninstall that package",
            ) from error
        if not fits(name, thing):
            raise PluginError(
                f"'{name}' of {who[0]} cannot be used",
                f"it is a {type(thing).__name__}",
                f"Name {what}",
            )
        found[name] = thing
    return found
