"""What a model draws in its forward pass: seeded, noticed, and put back as it was.

Torch's, NumPy's and Python's global generators, and those that the model's parts hold, are seeded
for each pass. One that nothing of the model leads to, such as a global of the user's own, is not
found.

While other threads are at work their numbers are not to be disturbed, and they share the global
generators. Torch's operations then draw from a stream of this thread's own (`Stream`); NumPy's and
Python's global generators, which no thread can have for itself, are neither seeded nor put back.
"""

import os
import random
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from enum import IntFlag
from functools import partial
from types import FunctionType, MethodType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from whitebox_probe._core.hashing import seed_of
from whitebox_probe._core.process import same_folder
from whitebox_probe._core.threads import alone

Owned = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
_DEPTH = 6
Item = TypeVar("Item")


class Draws(IntFlag):
    """What random numbers were drawn while a model was run."""

    NONE = 0
    SEEDED = 1
    UNSEEDED = 2
    """NumPy's or Python's, beside other threads: by the model, or by one of these."""


@contextmanager
def seeded(module: nn.Module, seed: int, device: torch.device) -> Iterator[Callable[[], Draws]]:
    """All generators that are known, seeded and put back afterwards; gives what was drawn."""
    own = owned(module)
    held = [_state(each) for each in own]
    with ExitStack() as stack:
        stack.callback(_all_back, own, held)
        stream = None if alone() else stack.enter_context(Stream(seed))
        if stream is None:
            stack.enter_context(kept())
            seed_torch(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002
        for number, each in enumerate(own):
            _seed(each, seed_of(seed, number))
        before = _everything(own, device, shared=stream is None)
        theirs = "" if stream is None else _unowned()

        def drew() -> Draws:
            if stream is None:
                return Draws(before != _everything(own, device, shared=True))
            found = Draws(stream.drew or before != _everything(own, device, shared=False))
            return found | (Draws.NONE if theirs == _unowned() else Draws.UNSEEDED)

        yield drew


@contextmanager
def kept() -> Iterator[None]:
    """Put the global generators back, or draw from a stream beside them where they are shared."""
    if not alone():
        with Stream(None):
            yield
        return
    cpu, cuda = torch.get_rng_state(), _cuda()
    numpy, python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(cpu)
        for number, state in enumerate(cuda):
            torch.cuda.set_rng_state(state, number)
        np.random.set_state(numpy)  # noqa: NPY002
        random.setstate(python)


def undisturbed() -> AbstractContextManager[Any]:
    """Leave everybody's numbers as they are; a stream that is open already does."""
    return nullcontext() if getattr(_listening, "now", 0) else kept()


def beside() -> AbstractContextManager[Any]:
    """Draw from a stream beside the global generators, where other threads share them."""
    return nullcontext() if alone() else Stream(None)


def apart(given: Iterable[Item]) -> Generator[Item, None, None]:
    """What is given one after the other, by code of the user's that draws `beside`.

    Workers of a loader end as it is closed, which whoever reads it does (`contextlib.closing`): an
    error that is kept, as notebooks do, would keep them.
    """
    stream = beside()
    with stream:
        iterator = iter(given)
    try:
        while True:
            with stream, same_folder():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
    finally:
        shut = getattr(iterator, "_shutdown_workers", None)  # torch has no other way
        if shut is not None and not getattr(given, "persistent_workers", False):
            shut()


def measuring() -> AbstractContextManager[Any]:
    """Run operations inside a pass as outside it: some round otherwise while they are listened to.

    Nothing that is run so may draw.
    """
    return _disable_current_modes() if getattr(_listening, "now", 0) else nullcontext()


@contextmanager
def drawn_by(seed: int) -> Iterator[None]:
    """Torch draws by a seed inside the block, and nobody's numbers are others for it."""
    if not alone():
        with Stream(seed):
            yield
        return
    with kept():
        seed_torch(seed)
        yield


def seed_torch(seed: int) -> None:
    """Seed torch's generators of the devices in use.

    `torch.manual_seed` also leaves a seed behind for a CUDA that is not in use yet.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def _cuda() -> list[Tensor]:
    """The state of each CUDA device, if any has been used."""
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []


_SWAP = threading.RLock()
_swapping = threading.local()
_listening = threading.local()


class Stream(TorchDispatchMode):
    """Random operations of this thread draw from a stream of their own.

    They draw what they would from the global generators in the same state.

    Args: seed: of the stream; None goes on from where the global generators are.
    Attributes: drew: whether anything was drawn from it.
    """

    def __init__(self, seed: int | None) -> None:
        super().__init__()
        self.drew = False
        self._seed = seed
        self._process = os.getpid()
        self._of: dict[torch.device, torch.Generator] = {}
        if seed is None:
            self._generator(torch.device("cpu"))  # as it is now

    def __enter__(self) -> Any:
        """Listen to this thread's operations."""
        _listening.now = getattr(_listening, "now", 0) + 1
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """Listen no more."""
        _listening.now -= 1
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation; one that draws with a generator of this stream."""
        kwargs = dict(kwargs or {})
        draws = torch.Tag.nondeterministic_seeded in func.tags
        # A process that was forked inside has the global generators for itself.
        mine = self._process == os.getpid() and not getattr(_swapping, "now", False)
        if not (draws and mine) or _still(func, args, kwargs):
            return func(*args, **kwargs)
        named = [argument.name for argument in func._schema.arguments]
        given = kwargs.get("generator")
        if given is None and "generator" in named[: len(args)]:
            given = args[named.index("generator")]
        if given is not None:
            return func(*args, **kwargs)
        if func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd):
            with self:
                return func.decompose(*args, **kwargs)
        device = _device(args, kwargs)
        if device.type == "meta":  # shapes alone: no number is drawn
            return func(*args, **kwargs)
        self.drew = True
        generator = self._generator(device)
        taking = func if "generator" in named else _taking(func)
        if taking is None:
            return self._swapped(generator, func, args, kwargs)
        if "generator" in named[: len(args)]:
            args = args[: named.index("generator")]
        return taking(*args, **kwargs | {"generator": generator})

    def _generator(self, device: torch.device) -> torch.Generator:
        found = self._of.get(device)
        if found is None:
            found = self._of[device] = torch.Generator(device)
            if self._seed is not None:
                found.manual_seed(self._seed)
            else:
                found.set_state(_shared(device).get_state())
        return found

    def _swapped(self, generator: torch.Generator, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation that takes no generator, with the global one in this one's state."""
        shared = _shared(generator.device)
        with _SWAP:
            before = shared.get_state()
            shared.set_state(generator.get_state())
            _swapping.now = True
            try:
                return func(*args, **kwargs)
            finally:
                _swapping.now = False
                generator.set_state(shared.get_state())
                shared.set_state(before)


def _shared(device: torch.device) -> torch.Generator:
    """The global generator of a device."""
    if device.type == "cuda":
        return torch.cuda.default_generators[device.index or 0]
    return torch.default_generator


def _still(func: Any, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation that may draw is told not to: no share is dropped, or none in use."""
    names = [argument.name for argument in func._schema.arguments]
    defaults = {a.name: a.default_value for a in func._schema.arguments if a.has_default_value()}
    given = defaults | dict(zip(names, args, strict=False)) | dict(kwargs)
    if given.get("train") is False or given.get("training") is False:
        return True
    shares = [given[name] for name in ("dropout_p", "dropout") if name in given]
    return bool(shares) and not any(shares)


def _taking(func: Any) -> Any:
    """The overload of an operation that takes a generator too, if there is one."""
    own = [argument.name for argument in func._schema.arguments]
    packet = func._overloadpacket
    for each in (getattr(packet, name) for name in packet.overloads()):
        more = [argument.name for argument in each._schema.arguments]
        if "generator" in more and sorted(own) == sorted(set(more) - {"generator"}):
            return each
    return None


def _device(args: Any, kwargs: Mapping[str, Any]) -> torch.device:
    """Where an operation draws."""
    for each in (*args, *kwargs.values()):
        if isinstance(each, Tensor):
            return each.device
    return torch.device(kwargs.get("device") or "cpu")


def _all_back(own: Sequence["Owned"], held: Sequence[Any]) -> None:
    for each, state in zip(own, held, strict=True):
        _put_back(each, state)


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


def _everything(own: Sequence[Owned], device: torch.device, *, shared: bool) -> str:
    """The states of all generators, as they can be compared; of the global ones if these count."""
    mine = [_plain(_state(each)) for each in own]
    if not shared:
        return repr(mine)
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    told = [_plain(state) for state in (torch.get_rng_state(), *cuda)]
    return _unowned() + repr([*told, *mine])


def _unowned() -> str:
    """The states of the generators that no thread can have for itself."""
    return repr([random.getstate(), _plain(np.random.get_state())])  # noqa: NPY002


def _plain(state: Any) -> Any:
    if isinstance(state, Tensor | np.ndarray):
        return bytes(state.tobytes() if isinstance(state, np.ndarray) else state.numpy().tobytes())
    if isinstance(state, Mapping):
        return {key: _plain(value) for key, value in state.items()}
    return tuple(map(_plain, state)) if isinstance(state, tuple) else state
