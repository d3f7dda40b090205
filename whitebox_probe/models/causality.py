"""Whether a model's attention looks ahead: tried, since configurations forget to say it.

The last token in front of the first layer is exchanged. Where attention is causal, what it makes of
the tokens before stays as it was; elsewhere it moves.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.anatomy import Layer, Tap
from whitebox_probe.models.hooks import attach_taps
from whitebox_probe.models.model import ProbeModel

_ROUNDING = 64


def expect_causality(
    model: ProbeModel,
    layers: Mapping[int, Layer],
    trial: Callable[[], object],
    before: Mapping[int, Tensor | None],
) -> None:
    """Check what the layers say of themselves.

    Args: trial: runs them once. before: layer -> its `attn_out` (1, n, d) in such a run.
    Raises: SiteError naming the layer.
    """
    entry = layers[1].taps.get("z_in")
    taps = [("attn_out", n, layers[n].taps["attn_out"]) for n, Z in before.items() if Z is not None]
    if entry is None or entry.transform is not None or not taps or before[taps[0][1]] is None:
        return
    after = _updates(model.module, trial, taps, entry)
    ahead = False  # whether some layer so far looks ahead
    looks = False  # whether a last token was seen to be exchanged
    for _, n, _ in taps:
        was, now = before[n], after.get(n)
        if was is None or now is None or was.shape != now.shape or was.shape[1] < 2:
            return
        moved = _moves(was[:, :-1], now[:, :-1])
        if moved and not ahead and layers[n].causal:
            if _moves(was, _updates(model.module, trial, taps, None).get(n, was)):
                return  # it draws: nothing can be told
            raise _other(model, n, "looks ahead, and is stated to be causal")
        ahead |= moved
        looks |= _moves(was[:, -1:], now[:, -1:])
    if looks and not ahead and not any(layer.causal for layer in layers.values()):
        raise _other(model, 1, "does not look ahead, and is not stated to be causal")


def _updates(
    module: nn.Module,
    trial: Callable[[], object],
    taps: list[tuple[str, int, Tap]],
    entry: Tap | None,
) -> dict[int, Tensor]:
    """The attention's updates in a run; with another last token at `entry`, if it is given."""
    found: dict[int, Tensor] = {}
    with ExitStack() as stack:
        if entry is not None:
            stack.enter_context(_exchanged(module, entry))
        stack.enter_context(attach_taps(module, taps, lambda _, n, Z: found.update({n: Z.clone()})))
        trial()
    return found


@contextmanager
def _exchanged(module: nn.Module, entry: Tap) -> Iterator[None]:
    """The last token at a tap is another one while this is open."""
    part, passes = module.get_submodule(entry.module), count()

    def mine() -> bool:
        """Whether it is the first layer's pass of the module, where layers share it."""
        return next(passes) % entry.turn[1] == entry.turn[0]

    if entry.side == "input":
        handle = part.register_forward_pre_hook(
            lambda _, args, named: _with_first(args, named) if mine() else None, with_kwargs=True
        )
    else:
        handle = part.register_forward_hook(
            lambda _, args, out: _other_last(out) if mine() else out
        )
    try:
        yield
    finally:
        handle.remove()


def _with_first(args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if args:
        return (_other_last(args[0]), *args[1:]), named
    name = next(iter(named), None)
    return args, named if name is None else named | {name: _other_last(named[name])}


def _other_last(given: Any) -> Any:
    """The same tokens (B, n, d), the last one another of the same size; else what is given."""
    if isinstance(given, tuple) and given:
        return (_other_last(given[0]), *given[1:])
    if not isinstance(given, Tensor) or given.ndim != 3:
        return given
    Z = given.clone()
    other = torch.sin(torch.arange(1, Z.shape[-1] + 1, device=Z.device) * 1.7).to(Z.dtype)
    size = Z[:, -1].norm(dim=-1, keepdim=True).clamp_min(1e-3)
    Z[:, -1] = other * size / other.norm()
    return Z


def _moves(was: Tensor, now: Tensor) -> bool:
    """Whether it is another one, by more than rounding; one that is not finite cannot be told."""
    apart, size = (now.double() - was.double()).norm(), was.double().norm()
    slack = _ROUNDING * torch.finfo(was.dtype).eps
    return bool(torch.isfinite(apart)) and bool(apart > slack * size)


def _other(model: ProbeModel, number: int, what: str) -> SiteError:
    return SiteError(
        f"layer {number} of {type(model.module).__name__} is not understood",
        f"its attention {what}",
        "Say as it is: in the configuration (is_decoder), or in what maps its modules (causal=)",
    )
