"""Linear maps on the CPU through oneDNN, which torch has with it but does not use for them.

Torch gives float32 products to MKL. On AMD's processors MKL does not use the wide registers: there
oneDNN takes half the time (benchmarks/RESULTS.md). It is reached by a 1 x 1 convolution, the one
public function of torch that leads to it without a change of the tensors' format.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import (
    TorchFunctionMode,
    _get_current_function_mode,
    _pop_mode_temporarily,
)

_AVAILABLE = torch.backends.mkldnn.is_available()


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X W^T + b: by oneDNN where it can, as `torch.nn.functional.linear` does it elsewhere.

    Both round as float32 products do, each in its own order.

    Shapes: input (B, n, d), weight (m, d), bias (m) -> (B, n, m).
    """
    if not _fits(input, weight, bias):
        return F.linear(input, weight, bias)
    # A picture of B rows and n columns; its channels lie last, so that nothing is copied.
    picture = input.contiguous()[None].permute(0, 3, 1, 2)  # (1, d, B, n)
    out = F.conv2d(picture, weight[:, :, None, None], bias)  # (1, m, B, n)
    return out[0].permute(1, 2, 0).contiguous()


def _fits(*tensors: Tensor | None) -> bool:
    input, weight, bias = tensors
    there = [t for t in tensors if t is not None]
    plain = all(
        t.dtype == torch.float32
        and t.device.type == "cpu"
        and t.layout == torch.strided
        and not t.is_nested
        for t in there
    )
    if input is None or weight is None or not (_AVAILABLE and plain):
        return False
    ordinary = weight.ndim == 2 and (bias is None or bias.shape == weight.shape[:1])
    return ordinary and input.ndim == 3 and input.numel() > 0 and len(weight) > 0


class _Routed(TorchFunctionMode):
    """While it is on, `torch.nn.functional.linear` of plain tensors goes through oneDNN."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        # What is being compiled keeps its own graph.
        routed = func is F.linear and not types and not torch.compiler.is_compiling()
        call = linear if routed else func
        return call(*args, **(kwargs or {}))


def routed(module: nn.Module) -> AbstractContextManager[Any]:
    """Run a module's linear maps through oneDNN inside the block; its outputs move by rounding.

    A module compiled in whole or in part, and one under autocast, runs as it is.
    """
    compiled = any(
        hasattr(part, "_orig_mod") or getattr(part, "_compiled_call_impl", None) is not None
        for part in module.modules()
    )
    return nullcontext() if compiled or torch.is_autocast_enabled("cpu") else _Routed()


def unrouted() -> AbstractContextManager[Any]:
    """Run what reads a pass as outside of it: the routing costs a call for each operation."""
    ours = type(_get_current_function_mode()) is _Routed
    return _pop_mode_temporarily() if ours else nullcontext()
