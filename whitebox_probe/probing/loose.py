"""The tensors that a network holds besides its parameters, in buffers, attributes and functions."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

from whitebox_probe.probing.closures import content

_DEPTH = 4
_ENTRIES = 4096  # a container of more is no cache of weights


def loose(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Each tensor that is held otherwise than as a parameter of a part, by the path of its holder.

    In attributes, containers, objects and functions, up to four of them within each other. Modules
    that are held there and are no parts give their parameters too.
    """
    parts = [*module.named_modules()]
    seen = {id(part) for _, part in parts}
    for path, part in parts:
        held = {k: each for k, each in vars(part).items() if k not in ("_parameters", "_modules")}
        for name, each in ({**held.pop("_buffers"), **held}).items():
            for tensor in _within(each, seen, _DEPTH):
                yield f"{path}.{name}".lstrip("."), tensor


def _within(value: Any, seen: set[int], depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
        return
    if depth == 0 or id(value) in seen:
        return
    seen.add(id(value))
    for each in _inside(value):
        yield from _within(each, seen, depth - 1)


def _inside(value: Any) -> Iterable[Any]:
    """What something holds; nothing of classes, packages and large containers."""
    if isinstance(value, Mapping | list | tuple | Set | deque):
        if len(value) > _ENTRIES:
            return ()
        return [*value.values()] if isinstance(value, Mapping) else [*value]
    if isinstance(value, FunctionType):
        cells = [content(cell) for cell in value.__closure__ or ()]
        return [*cells, value.__defaults__, value.__kwdefaults__, vars(value)]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, nn.Module):
        held = [*value._parameters.values(), *value._buffers.values(), *value._modules.values()]
        return [*held, vars(value)]
    if isinstance(value, type | ModuleType):
        return ()
    return [*getattr(value, "__dict__", {}).values()]
