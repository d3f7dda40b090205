"""Trying a module without a trace: what it holds, and whether that has changed since."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe.models.hooks import is_ours
from whitebox_probe.models.offloaded import device_of
from whitebox_probe.models.wrappers import as_written


@contextmanager
def guest(module: nn.Module) -> Iterator[None]:
    """In evaluation mode, without gradients; what the module holds and random states are put back.

    Loose tensors stay as the trial made them: weights that hooks make in front of a pass are such.
    """
    modes = [(part, part.training) for part in module.modules()]
    device = device_of(module)
    module.eval()
    _renew(module)
    before = _contents(module)
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            with torch.inference_mode(), as_written(module):
                yield
    finally:
        _put_back(before)
        for part, training in modes:
            part.training = training


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """All that the parts hold is put back: loose tensors too, and what buffers are written over."""
    before = _contents(module)
    values = [(b, None if b.is_inference() else b._version, b.clone()) for b in module.buffers()]
    try:
        yield
    finally:
        _put_back(before, tensors=True)
        with torch.no_grad():
            for buffer, version, value in values:
                if version is not None and buffer._version != version:
                    buffer.copy_(value)


def _renew(module: nn.Module) -> None:
    """Make weights anew that torch's hooks make of others in front of a pass (`torch.nn.utils`).

    `weight_norm`, `spectral_norm` and pruning: after a change of what they are made of, as by
    `load_state_dict`, the attribute `weight` is still the old one.
    """
    with torch.no_grad():
        for part in module.modules():
            for hook in list(part._forward_pre_hooks.values()):
                if type(hook).__module__.startswith("torch.nn.utils."):
                    hook(part, ())


Held = list[tuple[Any, dict[str, Any], dict[str, Any]]]


def _contents(module: nn.Module) -> Held:
    """Of each part and its configuration: itself, its attributes, the contents of containers."""
    owners: dict[int, Any] = {}
    for part in module.modules():
        owners[id(part)] = part
        config = vars(part).get("config")
        if hasattr(config, "__dict__"):
            owners[id(config)] = config
    found = []
    for owner in owners.values():
        mine = dict(vars(owner))
        inside = {name: _copied(value) for name, value in mine.items()}
        found.append((owner, mine, {k: v for k, v in inside.items() if v is not None}))
    return found


def _copied(value: Any) -> Any:
    """A copy of a mapping or a list, not of what is in it; None of anything else."""
    if isinstance(value, MutableMapping):
        return dict(value)
    return list(value) if isinstance(value, list) else None


def _put_back(before: Held, *, tensors: bool = False) -> None:
    """Give the parts what they held, where a pass has changed it; loose tensors only if asked."""
    for owner, mine, inside in before:
        now: dict[str, Any] = owner.__dict__
        for name in [*now]:
            if name not in mine and (tensors or not isinstance(now[name], Tensor)):
                del now[name]
        for name, value in mine.items():
            is_tensor = isinstance(value, Tensor) or isinstance(now.get(name), Tensor)
            if (tensors or not is_tensor) and now.get(name, before) is not value:
                now[name] = value
        for name, content in inside.items():
            value = mine[name]
            if isinstance(value, list):
                if list(map(id, value)) != list(map(id, content)):
                    value[:] = content
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
        for tensor in (*part._parameters.values(), *part._buffers.values()):
            if tensor is not None:
                version = None if tensor.is_inference() else tensor._version
                found.append((id(tensor), _place(tensor), version))
    return found


def _place(tensor: Tensor) -> int | None:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # a wrapper of other tensors has no memory of its own
        return None
