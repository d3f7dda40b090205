"""Every family by its name: those of `families/`, and those that other packages add.

Another installed package names a subclass of `Family` under the entry-point group
`whitebox_probe.families`; it is imported when its family is needed.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint
from typing import Any

from torch import nn

from whitebox_probe._core import discover
from whitebox_probe._core.errors import CheckpointError, ProbeError, nearest
from whitebox_probe._core.gate import reason
from whitebox_probe._core.lines import shown
from whitebox_probe._core.randomness import undisturbed
from whitebox_probe.models import families as rooms
from whitebox_probe.models.arguments import expect_arguments
from whitebox_probe.models.family import Family
from whitebox_probe.models.room import made

GROUP = "whitebox_probe.families"


@cache
def families() -> dict[str, Family]:
    """Every family, by name: those of this folder, then those that other packages add.

    Raises: PluginError for a package whose family cannot be had, or has a name that is taken.
    """
    return _own() | {name: _added(name) for name in _entries()}


@cache
def _own() -> dict[str, Family]:
    found = discover.subclasses(rooms, Family)  # type: ignore[type-abstract]
    return {name: family() for name, family in found.items()}


@cache
def _entries() -> dict[str, list[EntryPoint]]:
    """Who adds a family of which name; nothing of theirs is imported."""
    return discover.plugins(GROUP)


@cache
def _added(name: str) -> Family:
    """The family that another package adds under a name."""
    what = f"a subclass of Family whose name is '{name}'"
    family: Family = discover.loaded(GROUP, name, _own(), _made, what)
    return family


def _made(name: str, thing: Any) -> Family:
    family: Family = discover.one_of(Family, name, thing)()
    if not hasattr(family, "reads"):
        raise discover.Unfit("it does not say how its modules are read (`reads`, an Anatomy)")
    return family


def is_own(family: Family) -> bool:
    """Whether a family is of this package, and not of another one that adds it."""
    return _own().get(family.name) is family


def family_named(name: str) -> Family:
    """The family of that name; other packages are imported only if it is theirs.

    Raises: ProbeError with the nearest name; PluginError.
    """
    if name in _entries():
        return _added(name)
    if name not in _own():
        raise ProbeError(
            f"unknown model family '{name}'",
            "neither this package nor another one installed has it",
            nearest(name, [*_own(), *_entries()]),
        )
    return _own()[name]


def family_of_timm(name: str) -> str:
    """The family of a timm model, by the file of timm that it is in; `timm_vit` for any other."""
    from timm.models import is_model_in_modules

    def known() -> Iterator[Family]:  # another package is asked only where no family here fits
        yield from _own().values()
        yield from (_added(other) for other in _entries())

    fitting = (f.name for f in known() if is_model_in_modules(name, f.timm_modules))
    return next(fitting, "timm_vit")


def build(family: str, arch: Mapping[str, Any], *, source: str) -> nn.Module:
    """Build a family's network; a wrong argument is the user's error, named with its source.

    Raises: CheckpointError.
    """
    of = family_named(family)
    expect_arguments(arch, of.arguments(), family=family, source=source)
    try:
        with undisturbed():  # what it draws first is of no use to anyone
            return made(lambda: of.build(arch), arch, source=source).eval()
    except ProbeError:
        raise
    except Exception as error:  # what a library raises over arguments that contradict each other
        of_file = {"model", "revision"}  # what stands there is not of its arguments
        several = [(key, value) for key, value in arch.items() if key not in of_file][:12]
        told = ", ".join(f"{key}={shown(value, 40)}" for key, value in several)
        raise CheckpointError(
            f"the architecture of {source} cannot be built",
            f"its library has nothing called {error}"  # as an activation
            if isinstance(error, KeyError)
            else reason(error),
            f"Check the arguments {told}" if told else "Check its config.json",
        ) from error
