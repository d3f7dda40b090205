"""What a linear layer computes, as a weight and a bias: adapters and hooks in its forward included.

A plain layer's own weight is what it computes. Any other one (an adapter's, a quantised one, one
whose forward was replaced) is asked: run on the unit vectors, it gives its map.
"""

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.offloaded import device_of, fetched, is_brought


def is_transposed(linear: nn.Module) -> bool:
    """Whether a layer keeps its weight as (in, out): transformers' Conv1D, parametrised or not."""
    return any(
        kind.__name__ == "Conv1D" and type(linear).forward is vars(kind).get("forward")
        for kind in type(linear).__mro__
    )


def is_plain(linear: nn.Module) -> bool:
    """Whether a layer's own weight and bias are all that it computes; parametrised ones are."""
    if "forward" in vars(linear) and not is_brought(linear):  # replaced in this one layer
        return False
    return type(linear).forward is nn.Linear.forward or is_transposed(linear)


def shape_of(linear: Any) -> tuple[int, int]:
    """How many features leave a linear layer, and how many enter it."""
    out, into = (getattr(linear, name, None) for name in ("out_features", "in_features"))
    if isinstance(out, int) and isinstance(into, int):
        return out, into
    weight = getattr(linear, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise SiteError(
            f"a {type(linear).__name__} is no linear layer",
            "it does not say how many features it takes and gives",
            "Use a model whose heads are projected by linear layers",
        )
    rows, columns = weight.mT.shape if is_transposed(linear) else weight.shape
    return int(rows), int(columns)


def affine(linear: Any) -> tuple[Tensor, Tensor | None]:
    """Weight (out, in) and bias (out) of what a layer computes; None where it adds nothing."""
    if is_plain(linear):
        weight, bias = (fetched(linear, name) for name in ("weight", "bias"))
        return weight.mT if is_transposed(linear) else weight, bias
    _, columns = shape_of(linear)
    floating = [p for p in linear.parameters() if p.is_floating_point()]
    dtype = floating[0].dtype if floating else torch.float32
    device = next((p.device for p in linear.parameters() if not p.is_meta), torch.device("cpu"))
    modes = [(part, part.training) for part in linear.modules()]
    try:
        for part, _ in modes:  # an adapter's dropout is no part of its map
            part.training = False
        with torch.no_grad():
            units = torch.eye(columns, device=device, dtype=dtype)
            bias = linear.forward(torch.zeros_like(units[:1]))[0].detach()
            weight = (linear.forward(units).detach() - bias).mT
    finally:
        for part, training in modes:
            part.training = training
    return weight, bias if bool(bias.any()) else None


def applied(linear: Any, x: Tensor) -> Tensor:
    """A layer's output, without the hooks that are set on it."""
    if is_plain(linear) and not is_transposed(linear) and not is_brought(linear):
        return nn.functional.linear(x, linear.weight, linear.bias)
    out: Tensor = linear.forward(x)
    return out


def devices_of(module: nn.Module) -> list[torch.device]:
    """The devices that a module's tensors lie on, the first parameter's first; `meta` is none."""
    tensors = chain(module.parameters(), module.buffers())
    found = dict.fromkeys(tensor.device for tensor in tensors)
    return [device for device in found if device.type != "meta"]


def at_home(part: nn.Module, x: Tensor) -> Tensor:
    """What a part makes of a tensor, without its hooks; both may lie on other devices."""
    here = devices_of(part) or [x.device]
    out: Tensor = part.forward(x.to(here[0]))
    return out.to(x.device)


def tokens(module: nn.Module, dim: int, count: int = 4) -> Tensor:
    """Random tokens of the module's kind and device, always the same: (1, count, d)."""
    like = next((p for p in module.parameters() if p.is_floating_point()), None)
    random = torch.Generator().manual_seed(0)
    # On the generator's device, and not of the caller's default type.
    x = torch.randn(1, count, dim, generator=random, dtype=torch.float32, device="cpu")
    return x.to(device_of(module), torch.float32 if like is None else like.dtype)
