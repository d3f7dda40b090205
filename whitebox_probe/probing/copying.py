"""A copy of a network that computes with its own weights alone.

`copy.deepcopy` gives a function as it is: a `forward` that was set on a part, or a hook, goes on
to call the part that it was made for, and a copy would compute with the original's weights.
"""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

from torch import Tensor, nn

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.lines import short
from whitebox_probe.probing.closures import FUNCTIONS, content, known, words
from whitebox_probe.probing.provenance import Watch


def copied(module: nn.Module) -> nn.Module:
    """The module once more; what its functions and hooks hold of the original is the copy's.

    Raises: whatever the parts raise that cannot be copied.
    """
    twins: dict[int, Any] = {}
    twin = copy.deepcopy(module, twins)
    rebinding = _Rebinding(twins)
    for part in twin.modules():
        held = part.__dict__
        for name, value in [*held.items()]:
            if isinstance(value, FUNCTIONS):
                held[name] = rebinding.of(value)
            elif name.endswith("_hooks") and isinstance(value, dict):
                value.update({key: rebinding.of(hook) for key, hook in value.items()})
    return twin


@contextmanager
def without(module: nn.Module, name: str, twin: nn.Module | None) -> Iterator[None]:
    """A block in which nothing is computed with a module's weights, as a copy of it is measured.

    What holds them in a way that `copied` does not follow (a weak reference, an object, a cache)
    is seen by what it computes; so are weights that the copy has as no parameters, and whose
    entries stay where they were: buffers, and what an earlier pass has cached.

    Args: twin: the copy, whose passes are followed; None to look for weights of the module alone.
    Raises: ProbeError at the end of a block in which something was.
    """
    watch = Watch(module, twin)
    with watch:
        yield
    if watch.found:
        raise ProbeError(
            f"a copy of {name} computes with the weights of {name} itself",
            "a function or an object that a part of it calls holds them",
            "Have its parts reach weights by their own attributes, or measure no null (null=False)",
        )
    if watch.kept is not None:
        raise ProbeError(
            f"the weights of {name} cannot all be permuted",
            f"its tokens are multiplied by '{short(watch.kept)}', which is no parameter (a buffer, "
            "what an earlier pass has cached, or a hook's)",
            "Make it a parameter, empty the cache or take the hook off; or give models without "
            "training (untrained=), or measure no null (null=False)",
        )


class _Rebinding:
    """Functions as they are for a copy.

    Args: twins: the address of each part and tensor of the original -> that of the copy.
    """

    def __init__(self, twins: Mapping[int, Any]) -> None:
        self._twins = twins
        self._made: dict[int, FunctionType] = {}

    def of(self, value: Any) -> Any:
        """A value that a function holds; itself where it has nothing of the original."""
        if isinstance(value, nn.Module | Tensor):
            return self._twins.get(id(value), value)
        if isinstance(value, FunctionType):
            if id(value) not in self._made:
                self._made[id(value)] = value  # one that calls itself is followed once
                self._made[id(value)] = self._function(value)
            return self._made[id(value)]
        if isinstance(value, MethodType):
            function, owner = self.of(value.__func__), self.of(value.__self__)
            same = function is value.__func__ and owner is value.__self__
            return value if same else MethodType(function, owner)
        if isinstance(value, partial):
            args, keywords = self.of(value.args), self.of(value.keywords)
            return partial(self.of(value.func), *args, **keywords)
        if type(value) in (tuple, list):
            found = [self.of(each) for each in value]
            return value if _same(found, value) else type(value)(found)
        if type(value) is dict:
            held = {key: self.of(each) for key, each in value.items()}
            return value if _same(held.values(), value.values()) else held
        return value

    def _function(self, function: FunctionType) -> FunctionType:
        """A function with what it takes from elsewhere than its arguments; a package's as it is."""
        cells = tuple(self._cell(cell) for cell in function.__closure__ or ())
        given = function.__defaults__, function.__kwdefaults__
        defaults, keywords = self.of(given[0]), self.of(given[1])
        outside = {} if known(function) else self._outside(function)
        same = _same(cells, function.__closure__ or ()) and _same((defaults, keywords), given)
        if same and not outside:
            return function
        scope = {**function.__globals__, **outside} if outside else function.__globals__
        made = FunctionType(function.__code__, scope, function.__name__, defaults, cells)
        made.__kwdefaults__ = keywords
        made.__dict__.update(function.__dict__)
        return made

    def _outside(self, function: FunctionType) -> dict[str, Any]:
        """The names of its file, or notebook, that are another for the copy."""
        scope = function.__globals__
        held = {word: scope[word] for word in words(function.__code__) if word in scope}
        found = {word: self.of(value) for word, value in held.items()}
        return {word: value for word, value in found.items() if value is not held[word]}

    def _cell(self, cell: CellType) -> CellType:
        held = content(cell)
        found = self.of(held)
        return cell if found is held else CellType(found)


def _same(found: Any, given: Any) -> bool:
    return all(one is other for one, other in zip(found, given, strict=True))
