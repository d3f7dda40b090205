"""Figures: each file holds one function of its name, from Results to a matplotlib Figure.

    wp.plots.compression(result)
    wp.plots.save(figure, "compression")

A figure never computes: it draws what the table holds. matplotlib is loaded by the first one drawn.
"""

import sys
from typing import Any

from whitebox_probe._core import discover
from whitebox_probe.plots.style import save as save

figures: dict[str, Any] = {
    module.__name__.rpartition(".")[2]: getattr(module, module.__name__.rpartition(".")[2])
    for module in discover.modules(sys.modules[__name__])
    if not module.__name__.endswith(".style")
}
# All at once: a file imported later on its own would put the module where its function stands.
globals().update(figures)


def __getattr__(name: str) -> Any:
    raise AttributeError(f"there is no figure '{name}'; there are: {', '.join(figures)}")


def __dir__() -> list[str]:
    return sorted([*figures, "figures", "save"])
