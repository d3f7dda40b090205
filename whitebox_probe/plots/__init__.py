"""Figures, from what was measured to a matplotlib Figure; each file holds those of one kind.

    wp.plots.compression(result)
    wp.plots.save(figure, "compression")
    wp.plots.run_of("compression.pdf")

A figure never measures: it draws what a result or a view holds. matplotlib is loaded by the first
one drawn.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from whitebox_probe._core import discover
from whitebox_probe.plots.kind import Draw, kind_of
from whitebox_probe.plots.saving import run_of as run_of
from whitebox_probe.plots.saving import save as save
from whitebox_probe.plots.text import text_html as text_html

GROUP = "whitebox_probe.figures"


class _Figures(Mapping[str, Draw]):
    """Every figure by its name: those of this folder, then those that other packages add."""

    def __getitem__(self, name: str) -> Draw:
        return self._found()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found())

    def __len__(self) -> int:
        return len(self._found())

    @staticmethod
    def _found() -> dict[str, Draw]:
        own = _own(tuple(discover.module_names(sys.modules[__name__])))
        return own | _added(tuple(own))


@cache
def _own(modules: tuple[str, ...]) -> dict[str, Draw]:
    """The figures of some files of this folder; looked for again when there is another file."""
    found: dict[str, Draw] = {}
    for name in modules:
        module = importlib.import_module(f"{__name__}.{name}")
        for thing in vars(module).values():
            if kind_of(thing) and thing.__module__ == module.__name__:
                discover.unique(found, thing.__name__, thing)
    found = dict(sorted(found.items()))
    # All at once: a file imported later on its own would put the module where its function stands.
    globals().update(found)
    return found


@cache
def _added(own: tuple[str, ...]) -> dict[str, Draw]:
    """What other packages add; PluginError for what cannot be had, or has a name that is taken."""
    taken: dict[str, Any] = dict.fromkeys(own)
    return discover.added(
        GROUP,
        taken,
        _made,
        "a function of that name, decorated with whitebox_probe.plots.kind.figure",
    )


def _made(name: str, thing: Any) -> Any:
    if kind_of(thing) is None or thing.__name__ != name:
        raise discover.Unfit(f"it gives a {type(thing).__name__}")
    return thing


figures: Mapping[str, Draw] = _Figures()
_own(tuple(discover.module_names(sys.modules[__name__])))


def __getattr__(name: str) -> Any:
    if name.startswith("__") or name not in figures:
        raise AttributeError(f"there is no figure '{name}'; there are: {', '.join(figures)}")
    return figures[name]


def __dir__() -> list[str]:
    return sorted([*figures, "figures", "run_of", "save", "text_html"])
