"""Weights that accelerate keeps on the host or the disk, and brings for each pass of their part.

Such a parameter is on the meta device, and a hook of its own part (`_hf_hook`) knows where it is
kept. The library is not imported: a model that has such hooks was made by it.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


def hook_of(part: nn.Module) -> Any:
    """The hook that brings a part's own weights; None where they stay where they are."""
    found = vars(part).get("_hf_hook")
    hooks = (found, *getattr(found, "hooks", ()))  # several may be one behind the other
    kept = (h for h in hooks if getattr(h, "offload", False))
    return next((h for h in kept if getattr(h, "weights_map", None) is not None), None)


def is_brought(part: nn.Module) -> bool:
    """Whether a part's own forward is what runs, behind a hook that brings its weights."""
    before = getattr(vars(part).get("_old_forward"), "__func__", None)
    return hook_of(part) is not None and before is type(part).forward


def is_offloaded(module: nn.Module) -> bool:
    """Whether some weights of a module are kept elsewhere than where it runs."""
    return any(hook_of(part) is not None for part in module.modules())


def fetched(part: nn.Module, name: str) -> Any:
    """What a part has under a name; a tensor that is kept elsewhere as it is in a pass."""
    found = getattr(part, name)
    hook = hook_of(part) if isinstance(found, Tensor) and found.is_meta else None
    if hook is None or name not in part._parameters.keys() | part._buffers.keys():
        return found
    return hook.weights_map[name].to(device=hook.execution_device, dtype=found.dtype)


def named_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by their names, each once, one that is kept elsewhere fetched."""
    seen: set[int] = set()
    for path, part in module.named_modules():
        for name, tensor in chain(part._parameters.items(), part._buffers.items()):
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield f"{path}.{name}" if path else name, fetched(part, name)


def without_weights(module: nn.Module) -> list[str]:
    """The parameters that are on the meta device, and that no hook of their part brings."""
    return [
        f"{path}.{name}" if path else name
        for path, part in module.named_modules()
        for name, tensor in part._parameters.items()
        if tensor is not None and tensor.is_meta and hook_of(part) is None
    ]


def device_of(module: nn.Module) -> torch.device:
    """Where a module's first tensor is in a pass; the CPU if it has none."""
    for part in module.modules():
        for tensor in chain(part._parameters.values(), part._buffers.values()):
            if tensor is not None:
                hook = hook_of(part) if tensor.is_meta else None
                return tensor.device if hook is None else torch.device(hook.execution_device)
    return torch.device("cpu")


def copied(part: Any) -> Any:
    """A copy of a part without parts, which has its weights and no hooks."""
    twin = object.__new__(type(part))
    held = twin.__dict__
    held.update({name: value for name, value in vars(part).items() if name != "_hf_hook"})
    for name in [key for key in held if key.endswith("_hooks") and isinstance(held[key], dict)]:
        held[name] = type(held[name])()
    for kept in ("_parameters", "_buffers"):
        held[kept] = {
            name: tensor if tensor is None else _like(tensor, fetched(part, name))
            for name, tensor in held[kept].items()
        }
    before = held.pop("_old_forward", None)
    if before is not None:
        held["forward"] = before.__func__.__get__(twin)
    return twin


def _like(old: Tensor, new: Tensor) -> Tensor:
    return nn.Parameter(new, requires_grad=False) if isinstance(old, nn.Parameter) else new
