"""Layers that share a module (ALBERT's): in which of its passes each of them is read."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import nn

from whitebox_probe.models.anatomy import Anatomy, Layer, Tap

Turns = Mapping[tuple[str, int], tuple[int, int]]
"""Name of a tap and layer -> which pass of its module it reads (from 0), and of how many."""
SECOND, CONTEXT = "second", "context"


def turns_of(anatomy: Anatomy, module: nn.Module, layers: int) -> Turns:
    """The turns of all layers, where several read one module; empty where none do."""
    found: dict[tuple[str, int], list[int]] = {}
    for number in range(1, layers + 1):
        for name, tap in _taps(anatomy.layer(module, number)):
            part = module.get_submodule(tap.module)
            found.setdefault((f"{name}:{tap.side}", id(part)), []).append(number)
    return {
        (key.partition(":")[0], number): (turn, len(numbers))
        for (key, _), numbers in found.items()
        if len(numbers) > 1
        for turn, number in enumerate(numbers)
    }


def in_turn(layer: Layer, turns: Turns) -> Layer:
    """A layer whose taps know their turns."""
    if not turns:
        return layer

    def turned(name: str, tap: Tap) -> Tap:
        tap = copy.copy(tap)  # it may be a kind of its own
        object.__setattr__(tap, "turn", turns.get((name, layer.number), (0, 1)))
        return tap

    return replace(
        layer,
        taps={name: turned(name, tap) for name, tap in layer.taps.items()},
        second=None if layer.second is None else turned(SECOND, layer.second),
        context=None if layer.context is None else turned(CONTEXT, layer.context),
    )


def _taps(layer: Layer) -> Iterator[tuple[str, Tap]]:
    yield from layer.taps.items()
    if layer.second is not None:
        yield SECOND, layer.second
    if layer.context is not None:
        yield CONTEXT, layer.context
