"""A module as a guest finds it: what it holds is put back, and whether that has changed since.

One module is measured by one thread at a time: its modes are of all threads. Others wait.
"""

import threading
from collections import deque
from collections.abc import Iterator, MutableMapping, MutableSet
from contextlib import ExitStack, contextmanager
from types import FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from whitebox_probe._core.randomness import kept
from whitebox_probe.models.hooks import is_ours
from whitebox_probe.models.wrappers import as_written

_locks: "WeakKeyDictionary[nn.Module, threading.RLock]" = WeakKeyDictionary()
_making = threading.Lock()


@contextmanager
def guest(module: nn.Module) -> Iterator[None]:
    """In evaluation mode, without gradients; what the module holds and random states are put back.

    Weights that hooks make in front of a pass are made first, and are put back as these.
    """
    # Not inference mode: what a module may keep of it could not be trained with.
    with held_alone(module), evaluated(module), kept(), torch.no_grad():
        renew(module)
        with unchanged(module), as_written(module):
            yield


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """All that the parts hold is put back: loose tensors too, and what buffers are written over.

    A gradient that a part gets inside is taken away again.
    """
    before = _contents(module)
    values = [(buffer, buffer.clone(), _version(buffer)) for buffer in module.buffers()]
    gradients = [(p, p.grad, p.requires_grad) for p in module.parameters()]
    try:
        yield
    finally:
        _put_back(before)
        with torch.no_grad():
            for buffer, value, version in values:
                same = _equal(buffer, value)
                if same is None:
                    same = _version(buffer) == version
                if not same and not buffer.is_inference():
                    buffer.copy_(value)
        for parameter, gradient, required in gradients:
            if parameter.grad is not gradient:
                parameter.grad = gradient
            if parameter.requires_grad != required:
                parameter.requires_grad_(required)


def _equal(one: Tensor, other: Tensor) -> bool | None:
    """Whether two hold the same; None where torch cannot say: sparse, nested, or on meta."""
    try:
        return torch.equal(one, other)
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return None


def _version(tensor: Tensor) -> int | None:
    """How often a tensor was written to, where torch counts it."""
    return None if tensor.is_inference() else tensor._version


@contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """In evaluation mode; each part in its own mode again afterwards.

    By their flags, not by `eval()`: a class of its own may write to weights there, as adapters do
    that are merged, and would not be undone.
    """
    modes = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in modes:
            part.training = False
        yield
    finally:
        for part, training in modes:
            part.training = training


@contextmanager
def held_alone(*modules: nn.Module) -> Iterator[None]:
    """Keep other threads' calls from these modules meanwhile."""
    with _making:
        locks = {id(each): _locks.setdefault(each, threading.RLock()) for each in modules}
    with ExitStack() as stack:
        for key in sorted(locks):  # in one order, so that no two wait for each other
            stack.enter_context(locks[key])
        yield


def renew(module: nn.Module) -> None:
    """Make weights anew that torch's hooks make of others in front of a pass (`torch.nn.utils`).

    `weight_norm`, `spectral_norm` and pruning: after a change of what they are made of, as by
    `load_state_dict`, the attribute `weight` is still the old one.
    """
    with torch.no_grad():
        for part in module.modules():
            for hook in list(part._forward_pre_hooks.values()):
                if type(hook).__module__.startswith("torch.nn.utils."):
                    before = dict(vars(part))
                    hook(part, ())
                    _keep_equal(part, before)


def _keep_equal(part: nn.Module, before: dict[str, Any]) -> None:
    """Leave a part the tensors that it had, where those that were made are the same."""
    for name, new in [*vars(part).items()]:
        old = before.get(name)
        if isinstance(new, Tensor) and isinstance(old, Tensor) and _equal(old, new):
            part.__dict__[name] = old


Held = list[tuple[Any, bool, dict[str, Any], list[tuple[Any, Any]]]]
_PLAIN = 2  # how deep objects that are no modules are looked into
_INSIDE = 4  # how deep containers are, and in those of no more entries than this:
_ENTRIES = 4096


def _contents(module: nn.Module) -> Held:
    """Of each part and its configuration: itself, its attributes, containers and their contents.

    So of plain objects that a part holds, such as a cache of tables.
    """
    owners: dict[int, Any] = {}
    for part in module.modules():
        owners[id(part)] = part
        _add_plain(owners, vars(part), _PLAIN)
    configs = {id(vars(part).get("config")) for part in module.modules()}
    found = []
    for key, owner in owners.items():
        whole = isinstance(owner, nn.Module) or key in configs
        mine = dict(vars(owner))
        inside: dict[int, tuple[Any, Any]] = {}
        for value in mine.values():
            _add_containers(inside, value, _INSIDE)
        found.append((owner, whole, mine, list(inside.values())))
    return found


def _add_containers(inside: dict[int, tuple[Any, Any]], value: Any, depth: int) -> None:
    """A container with what is in it, and those within it, each once."""
    if id(value) in inside:
        return
    content = _copied(value)
    if content is not None:
        inside[id(value)] = value, content
    within = value if isinstance(value, tuple) else content
    if not within or depth == 0 or len(within) > _ENTRIES:
        return
    for each in list(within.values()) if isinstance(within, dict) else within:
        if isinstance(each, dict | list | set | deque | tuple):
            _add_containers(inside, each, depth - 1)


def _add_plain(owners: dict[int, Any], held: dict[str, Any], depth: int) -> None:
    for value in held.values() if depth else ():
        if id(value) not in owners and _is_plain(value):
            owners[id(value)] = value
            _add_plain(owners, vars(value), depth - 1)


def _is_plain(value: Any) -> bool:
    others = (nn.Module, Tensor, type, FunctionType, ModuleType, MutableMapping, list)
    return hasattr(value, "__dict__") and not isinstance(value, others)


def _copied(value: Any) -> Any:
    """A copy of a mapping, a list, a queue or a set, not of what is in it; None of others."""
    if isinstance(value, MutableMapping):
        return dict(value)
    if isinstance(value, MutableSet):
        return set(value)
    return list(value) if isinstance(value, list | deque) else None


def _put_back(before: Held) -> None:
    """Give the parts what they held, where a pass has changed it.

    Of plain objects the tensors alone: what else they count or log may be another thread's.
    """
    for owner, whole, mine, inside in before:
        now: dict[str, Any] = owner.__dict__
        for name in [*now]:
            if name not in mine and (whole or _holds(now[name])):
                del now[name]
        for name, value in mine.items():
            changed = now.get(name, before) is not value
            if changed and (whole or _holds(value) or _holds(now.get(name))):
                now[name] = value
        for container, content in inside:
            if whole or _holds(container) or _holds(content):
                _refill(container, content)


def _holds(value: Any) -> bool:
    """Whether it is a tensor, or a container with one in it."""
    if isinstance(value, MutableMapping):
        value = list(value.values())
    if isinstance(value, list | set | tuple | deque):
        return any(isinstance(each, Tensor) for each in value)
    return isinstance(value, Tensor)


def _refill(value: Any, content: Any) -> None:
    """Give a container what was in it, if it holds something else."""
    if isinstance(value, list | deque):
        if list(map(id, value)) != list(map(id, content)):
            value.clear()
            value += content
    elif isinstance(value, MutableSet):
        if value != content:
            value.clear()
            value |= content
    elif {k: id(v) for k, v in value.items()} != {k: id(v) for k, v in content.items()}:
        value.clear()
        value.update(content)


def state(module: nn.Module) -> object:
    """What a module computes depends on, cheaply: equal as long as nothing was exchanged or set.

    Of each part: its plain values, functions and hooks, and which tensors it has, in which version.
    Hooks that only read for this package do not count, nor do those of the whole: no layer computes
    otherwise by them.
    """
    found: list[object] = []
    for path, part in module.named_modules():
        hooks = (*part._forward_pre_hooks.values(), *part._forward_hooks.values())
        found.append((path, id(part), [id(hook) for hook in hooks if path and not is_ours(hook)]))
        for name, value in vars(part).items():
            if isinstance(value, str | int | float) and name != "training":
                found.append((name, value))
            elif callable(value) and not isinstance(value, Tensor):
                found.append((name, id(value)))
        tensors = (*part._parameters.values(), *part._buffers.values())
        found += [(id(t), _place(t), _version(t)) for t in tensors if t is not None]
    return found


def _place(tensor: Tensor) -> int | None:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # a wrapper of other tensors has no memory of its own
        return None
