"""Find the pieces of a folder by importing its modules: no central list to keep.

A family, a measure, a figure, a command and a data set are each one file. A duplicate name raises;
an ImportError is never swallowed. What other packages add is found by their entry points.
"""

import importlib
import pkgutil
from collections.abc import Callable, Container
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any, TypeGuard, TypeVar

from whitebox_probe._core.errors import PluginError

T = TypeVar("T")


def modules(package: ModuleType, *, skip: Container[str] = ()) -> list[ModuleType]:
    """Every public module of a package, imported in sorted order (private ones start with `_`)."""
    names = [name for name in module_names(package) if name not in skip]
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


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


def subclasses(package: ModuleType, base: type[T], *, named_by: str = "name") -> dict[str, type[T]]:
    """The subclasses of `base` that a package's modules define, by their own name.

    Args: named_by: the class attribute that holds it; a class without one is a shared base.
    """
    found: dict[str, type[T]] = {}
    for module in modules(package):
        for thing in vars(module).values():
            is_own = is_class_of(thing, base) and thing.__module__ == module.__name__
            if is_own and hasattr(thing, named_by):
                unique(found, getattr(thing, named_by), thing)
    return found


def is_class_of(thing: Any, base: type[T] | tuple[type[T], ...]) -> TypeGuard[type[T]]:
    """Whether it is a class, and one of these or below them."""
    # Not isinstance, which Python 3.10 answers for annotations such as list[int], too.
    return issubclass(type(thing), type) and issubclass(thing, base)


class Unfit(Exception):  # noqa: N818 - a reason, and no error by itself
    """Why a thing that another package adds cannot be used."""


def added(
    group: str, own: Container[str], made: Callable[[str, Any], Any], what: str
) -> dict[str, Any]:
    """What other packages add under an entry-point group, loaded, by name.

    Args: own: names of this package's own things, which are taken. made: what is used of a loaded
        thing and its name; it raises `Unfit` for one that cannot be. what: names, in an error, what
        the entry point should give.
    Raises: PluginError that names the package.
    """
    return {name: loaded(group, name, own, made, what) for name in plugins(group)}


def loaded(
    group: str, name: str, own: Container[str], made: Callable[[str, Any], Any], what: str
) -> Any:
    """One of the things that `added` gives; no other package is imported.

    Raises: PluginError that names the package.
    """
    entries = plugins(group)[name]
    who = [f"{e.dist.name if e.dist else 'a package'} ({e.value})" for e in entries]
    taken = ["whitebox-probe"] * (name in own) + who[:-1]
    if taken:
        raise PluginError(
            f"'{name}' of {who[-1]} cannot be added",
            f"{taken[0]} has one of that name",
            "Rename it, or uninstall one of the packages",
        )
    try:
        return made(name, entries[0].load())
    except Unfit as why:
        raise PluginError(f"'{name}' of {who[0]} cannot be used", str(why), f"Name {what}") from why
    except Exception as error:  # whatever another package's code raises
        told = (str(error).splitlines() or [""])[0]
        raise PluginError(
            f"'{name}' of {who[0]} cannot be loaded",
            f"{type(error).__name__}: {told}",
            "Mend or uninstall that package",
        ) from error


def one_of(base: type, name: str, thing: Any) -> Any:
    """A class, if it is a subclass of `base` with that name.

    Raises: Unfit.
    """
    if not is_class_of(thing, base) or getattr(thing, "name", None) != name:
        kind = thing.__name__ if isinstance(thing, type) else type(thing).__name__
        raise Unfit(f"it gives {kind} '{getattr(thing, 'name', '')}'")
    return thing
