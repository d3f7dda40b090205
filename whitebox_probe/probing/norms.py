"""A layer's attention norm as a function of tokens: in its own precision, and in float64.

Rates are taken after the norm as the model has it. A difference of two rates is not: each of them
is off by float32 rounding, about 5e-7 nats, which is all that is left of a small update's change.
"""

import torch
from torch import Tensor, nn

from whitebox_probe._core.memory import is_lack
from whitebox_probe.metrics._linalg import upcast
from whitebox_probe.metrics.tokens import Norm
from whitebox_probe.models.offloaded import copied, hook_of
from whitebox_probe.models.weights import at_home
from whitebox_probe.probing import copying

_SAME = 1e-3  # of the largest value: how far float32's rounding may take a norm from its copy


def norms_of(norm: nn.Module) -> tuple[Norm, Norm]:
    """A norm as a function of float32 tokens, and as one of float64 tokens."""
    own = _in_its_precision(norm)
    return own, _InFloat64(norm, own)


def _in_its_precision(norm: nn.Module) -> Norm:
    """A norm as a function of float32 tokens: of a half-precision model a copy in float32.

    It is also followed backwards, which parameters made under `torch.inference_mode` do not allow.
    """
    norm = copied(norm) if hook_of(norm) is not None else norm
    tensors = [*norm.parameters(), *norm.buffers()]
    own = next((parameter.dtype for parameter in norm.parameters()), None)
    half = own in (torch.bfloat16, torch.float16)
    if half or any(tensor.is_inference() for tensor in tensors):
        with torch.inference_mode(False):
            norm = copying.copied(norm)
            norm, own = (norm.float(), torch.float32) if half else (norm, own)
    # forward, not the module itself: its hooks may be ours, and would call themselves.
    return lambda Z: at_home(norm, Z if own is None else Z.to(own))


class _InFloat64:
    """A norm as a function of float64 tokens, by a copy of it that is made at the first call.

    A norm that float64 cannot pass (a fused kernel, a forward bound to its own weights) is taken in
    its own precision, and one that computes in float32 inside does so here as well: the same tokens
    give the same to the bit, and small differences of them are rounded.

    Args: own: the same norm by `_in_its_precision`.
    """

    def __init__(self, norm: nn.Module, own: Norm) -> None:
        self._norm, self._own = norm, own
        self._exact: Norm | None = None

    def __call__(self, Z: Tensor) -> Tensor:
        """Shapes: (B, n, d) -> (B, n, d), float64."""
        if self._exact is None:
            self._exact = self._made(Z)
        return upcast(self._exact(Z))

    def _made(self, Z: Tensor) -> Norm:
        """The copy, if it is the norm: tried on other tokens, so that no sample decides it."""
        random = torch.Generator().manual_seed(0)
        shape = (1, *Z.shape[1:])
        X = torch.randn(shape, generator=random, dtype=torch.float64, device="cpu").to(Z.device)
        with torch.inference_mode(False), torch.no_grad():
            try:
                twin = _twin(self._norm)
                got, want = at_home(twin, X), upcast(self._own(X.float()))
            except (RuntimeError, TypeError, ValueError, AttributeError) as error:
                if is_lack(error):
                    raise
                return self._rounded
        close = got.shape == want.shape and (got - want).abs().max() <= _SAME * want.abs().max()
        return (lambda Z: at_home(twin, Z)) if bool(close) else self._rounded

    def _rounded(self, Z: Tensor) -> Tensor:
        # What has no parameters is given its tokens as they come: in float32.
        return self._own(Z if any(True for _ in self._norm.parameters()) else Z.float())


def _twin(part: nn.Module) -> nn.Module:
    """A part and the parts in it once more, in float64 and without hooks, which may hold anything.

    What is given to `copy.deepcopy` instead would take with it all that its hooks hold.
    """
    twin: nn.Module = copied(part)
    held = twin.__dict__
    for kept in ("_parameters", "_buffers"):
        held[kept] = {name: _exact(tensor) for name, tensor in held[kept].items()}
    held["_modules"] = {
        name: None if child is None else _twin(child) for name, child in part._modules.items()
    }
    return twin


def _exact(tensor: Tensor | None) -> Tensor | None:
    if tensor is None or not tensor.is_floating_point():
        return tensor
    values = tensor.detach().to(torch.float64, copy=True)
    return nn.Parameter(values, requires_grad=False) if isinstance(tensor, nn.Parameter) else values
