"""Modules of the official code of CRATE and of what follows it, read as this package's own.

They are known by their structure, since the releases are no packages that could be imported. What
they compute is tried when a model is made.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from whitebox_probe.models.families._steps import SubspaceAttention
from whitebox_probe.models.offloaded import fetched
from whitebox_probe.models.weights import tokens


class OfficialMSSA(SubspaceAttention):
    """Reads an attention of the release; it computes nothing of the network itself."""

    def __init__(self, attention: Any) -> None:
        inner = int(attention.qkv.out_features)
        super().__init__(int(attention.heads), inner // int(attention.heads))
        self.qkv = attention.qkv


class OfficialISTA:
    """Reads an ISTA step of the release."""

    def __init__(self, step: Any) -> None:
        self._step = step

    def operators(self) -> dict[str, Tensor | float]:
        """The dictionary D (d, d), the sparsity weight, the step size."""
        step = self._step
        return {
            "D": fetched(step, "weight").detach(),
            "lam": float(step.lambd),
            "eta": float(step.step_size),
        }


def is_official(module: nn.Module, is_attention: Callable[[Any], bool]) -> bool:
    """Whether a module has the structure of the official code: pairs of steps behind norms.

    Args: is_attention: whether a first step is of the kind that is asked for.
    """
    layers: Any = getattr(getattr(module, "transformer", None), "layers", None)
    if not isinstance(layers, nn.ModuleList) or len(layers) == 0:
        return False
    if not isinstance(getattr(module, "pos_embedding", None), Tensor):
        return False
    return all(
        isinstance(pair, nn.ModuleList) and _is_pair(pair) and is_attention(pair[0].fn)
        for pair in layers
    )


def is_mssa(attention: Any) -> bool:
    """Whether an attention has the parts of the official MSSA; CBT's has another projection."""
    parts = all(hasattr(attention, name) for name in ("qkv", "heads", "to_out"))
    return parts and not isinstance(attention.qkv, nn.Identity)


def _is_pair(pair: Any) -> bool:
    if len(pair) != 2 or not all(hasattr(step, "norm") and hasattr(step, "fn") for step in pair):
        return False
    step = pair[1].fn
    weight = getattr(step, "weight", None)
    square = isinstance(weight, Tensor) and weight.ndim == 2 and weight.shape[0] == weight.shape[1]
    return square and hasattr(step, "step_size") and hasattr(step, "lambd")


def trial(module: Any) -> Callable[[], object]:
    """The layers alone, on random tokens: a class token and four patches."""
    return partial(_run, module)


def _run(module: Any) -> None:
    module.transformer(tokens(module, module.pos_embedding.shape[-1], 5))
