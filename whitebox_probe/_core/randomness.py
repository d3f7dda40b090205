"""What a model draws in its forward pass: seeded, noticed, and put back as it was.

Torch's, NumPy's and Python's global generators, and those that the model's parts hold, are seeded
for each pass. One that nothing of the model leads to, such as a global of the user's own, is not
found.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whitebox_probe._core.hashing import seed_of

Owned = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
_DEPTH = 6


@contextmanager
def seeded(module: nn.Module, seed: int, device: torch.device) -> Iterator[Callable[[], bool]]:
    """All generators that are known, seeded and put back afterwards; gives whether one was used."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    own = owned(module)
    held = [_state(each) for each in own]
    with ExitStack() as stack:
        stack.callback(random.setstate, python)
        stack.callback(np.random.set_state, numpy)
        for each, state in zip(own, held, strict=True):
            stack.callback(_put_back, each, state)
        cuda = [device] if device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=cuda))
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        for number, each in enumerate(own):
            _seed(each, seed_of(seed, number))
        before = _everything(own, device)
        yield lambda: before != _everything(own, device)


def owned(module: nn.Module) -> list[Owned]:
    """The generators that a module's parts and hooks hold, each once.

    Those in attributes, in lists and mappings there, and in what hooks and functions in attributes
    close over, are bound to or have as defaults.
    """
    found: dict[int, Owned] = {}
    for part in module.modules():
        hooks = (*part._forward_hooks.values(), *part._forward_pre_hooks.values())
        for value in (*vars(part).values(), *hooks):
            for each in _inside(value, _DEPTH):
                found.setdefault(id(each), each)
    return list(found.values())


def _inside(value: Any, depth: int) -> Iterator[Owned]:
    if isinstance(value, Owned):
        yield value
    elif depth and not isinstance(value, nn.Module | Tensor | str | type):
        for each in _held(value):
            yield from _inside(each, depth - 1)


def _held(value: Any) -> list[Any]:
    """What a container, a function, a partial or an object that is called holds."""
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        return [*cells, *(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    return list(vars(value).values()) if callable(value) and hasattr(value, "__dict__") else []


def _filled(cell: Any) -> bool:
    try:
        _ = cell.cell_contents
    except ValueError:
        return False
    return True


def _state(generator: Owned) -> Any:
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, np.random.RandomState):
        return generator.get_state()
    return generator.getstate()


def _put_back(generator: Owned, state: Any) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    elif isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.setstate(state)


def _seed(generator: Owned, seed: int) -> None:
    if isinstance(generator, torch.Generator):
        generator.manual_seed(seed)
    elif isinstance(generator, np.random.Generator):
        kind: Any = type(generator.bit_generator)
        generator.bit_generator.state = kind(seed).state
    elif isinstance(generator, np.random.RandomState):
        generator.seed(seed % 2**32)
    else:
        generator.seed(seed)


def _everything(own: Sequence[Owned], device: torch.device) -> str:
    """The states of all generators, as they can be compared."""
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    mine = [torch.get_rng_state(), *cuda, *map(_state, own)]
    return repr([random.getstate(), _plain(np.random.get_state()), *map(_plain, mine)])  # noqa: NPY002


def _plain(state: Any) -> Any:
    if isinstance(state, Tensor | np.ndarray):
        return bytes(state.tobytes() if isinstance(state, np.ndarray) else state.numpy().tobytes())
    if isinstance(state, Mapping):
        return {key: _plain(value) for key, value in state.items()}
    return tuple(map(_plain, state)) if isinstance(state, tuple) else state
