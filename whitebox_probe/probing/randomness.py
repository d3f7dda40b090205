"""What a model draws in its forward pass: seeded, noticed, and put back as it was.

Torch's, NumPy's and Python's global generators, and those that the model's parts hold, are seeded
for each pass. What else gives other numbers each time is found by running one sample twice.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from whitebox_probe._core.hashing import seed_of
from whitebox_probe.models.hooks import attach
from whitebox_probe.models.model import ProbeModel

Draws = Literal["nothing", "seeded", "unseeded"]
Owned = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
_SLACK = 64


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
    """The generators that a module's parts hold, in lists and mappings too, each once."""
    found: dict[int, Owned] = {}
    for part in module.modules():
        for value in vars(part).values():
            for each in _inside(value):
                found.setdefault(id(each), each)
    return list(found.values())


def _inside(value: Any, depth: int = 2) -> Iterator[Owned]:
    if isinstance(value, Owned):
        yield value
    elif depth and isinstance(value, list | tuple):
        for each in value:
            yield from _inside(each, depth - 1)
    elif depth and isinstance(value, Mapping):
        for each in value.values():
            yield from _inside(each, depth - 1)


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


def repeats(model: ProbeModel, run: Callable[[], object], sites: Sequence[str]) -> bool:
    """Whether two runs give the same numbers at the sites of every layer, but for rounding."""
    found: list[dict[tuple[str, int], Tensor]] = []
    for _ in range(2):
        here: dict[tuple[str, int], Tensor] = {}

        def keep(site: str, layer: int, tensor: Tensor, into: dict[Any, Tensor] = here) -> None:
            into[site, layer] = tensor.clone()

        with attach(model, sites, range(1, model.layers + 1), keep):
            run()
        found.append(here)
    one, two = found
    return one.keys() == two.keys() and all(_same(Z, two[at]) for at, Z in one.items())


def _same(one: Tensor, two: Tensor) -> bool:
    if one.shape != two.shape:
        return False
    if not one.is_floating_point():
        return torch.equal(one, two)
    one, two, eps = one.double(), two.double(), torch.finfo(one.dtype).eps
    apart = (one - two).nan_to_num(0.0, 0.0, 0.0).norm()
    finite = bool(torch.equal(one.isfinite(), two.isfinite()))
    return finite and bool(apart <= _SLACK * eps * one.nan_to_num(0.0, 0.0, 0.0).norm())
