"""Hooks in, hooks out: the one place where hooks are set.

Hooks only read: the model's output is the same bit for bit, fused attention stays on, and every
hook is removed even after an exception. They read the passes of the thread that set them, and not
those that another thread makes of the same module.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from itertools import takewhile
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import InternalError, ProbeError
from whitebox_probe._core.memory import is_lack
from whitebox_probe._core.onednn import unrouted
from whitebox_probe._core.process import own_device
from whitebox_probe._core.randomness import measuring
from whitebox_probe.models.anatomy import Tap
from whitebox_probe.models.model import ProbeModel, read_once
from whitebox_probe.models.offloaded import hook_of
from whitebox_probe.models.weights import devices_of
from whitebox_probe.models.wrappers import as_written

Sink = Callable[[str, int, Tensor], None]


def attach(
    model: ProbeModel, sites: Iterable[str], layers: Iterable[int], sink: Sink
) -> AbstractContextManager[None]:
    """Call `sink(site, layer, tensor)` for every named site while the block runs.

    Raises: SiteError for a site or a layer that the model does not have; what `attach_taps` does.
    """
    wanted = list(dict.fromkeys(sites))
    with read_once():
        taps = [(site, n, model.tap(site, n)) for n in layers for site in wanted]
    return attach_taps(model.module, taps, sink)


@contextmanager
def attach_taps(
    module: nn.Module, taps: Iterable[tuple[str, int, Tap]], sink: Sink
) -> Iterator[None]:
    """Call `sink(name, layer, tensor)` for each (name, layer, tap) while the block runs.

    The tensor is the model's own (detached, no copy): a sink that keeps it must clone it, since a
    later in-place operation may overwrite it. Of a model on several devices all are handed on at
    the first one. What is compiled runs as it is written meanwhile.

    Raises: InternalError, from the forward pass, where the sink fails; ProbeError at the end where
        offloaded weights were used and not brought.
    """
    taps = list(taps)
    places = devices_of(module)
    if len(places) > 1:  # layers' tensors are compared and put together
        sink = partial(_handed_on, sink, places[0])
    mine = get_ident()
    with ExitStack() as stack:
        shapes: dict[str, torch.Size] = {}
        stack.enter_context(as_written(module))
        stack.enter_context(_all_brought(module, [tap.module for _, _, tap in taps]))
        for name, layer, tap in taps:
            part = module.get_submodule(tap.module)
            passes = [0]
            hook = partial(_read, mine, tap, sink, name, layer, shapes, passes)
            if tap.turn != (0, 1):
                again = partial(_begin, mine, passes)
                stack.callback(module.register_forward_pre_hook(again).remove)
            if tap.like:
                like = module.get_submodule(tap.like)
                note = partial(_note, mine, shapes, tap.like)
                stack.callback(like.register_forward_pre_hook(note, with_kwargs=True).remove)
            handle = (
                part.register_forward_pre_hook(hook, with_kwargs=True)
                if tap.side == "input"
                else part.register_forward_hook(hook)
            )
            stack.callback(handle.remove)
        yield


@contextmanager
def _all_brought(module: nn.Module, paths: Iterable[str]) -> Iterator[None]:
    """See that each part whose weights are offloaded is called, in the lists that are tapped.

    Weights are brought for the call of their part alone. Used without one, as by a function that is
    given `self.qkv.weight`, they are on the meta device, where torch may compute with anything.

    Raises: ProbeError.
    """
    lists = {".".join(takewhile(lambda name: not name.isdigit(), p.split("."))) for p in paths}
    kept = {
        f"{path}.{name}" if name else path: part
        for path in lists
        for name, part in module.get_submodule(path).named_modules()
        if hook_of(part) is not None and [*part.parameters(recurse=False)]
    }
    missed = dict(kept)
    with ExitStack() as stack:
        for path, part in kept.items():
            hook = partial(_called, missed, path)
            stack.callback(part.register_forward_pre_hook(hook).remove)
        yield
    if 0 < len(missed) < len(kept):  # none is called where nothing was run
        raise ProbeError(
            f"a {type(module).__name__} cannot be read while its weights are offloaded",
            f"'{next(iter(missed))}' is not called, and its weights are brought by no one else",
            "Load it whole, or with a device map that keeps its layers on a device",
        )


def _called(missed: dict[str, nn.Module], path: str, module: nn.Module, args: Any) -> None:
    missed.pop(path, None)


def _handed_on(sink: Sink, place: torch.device, name: str, layer: int, tensor: Tensor) -> None:
    sink(name, layer, tensor.to(place))


def is_ours(hook: Any) -> bool:
    """Whether a hook is one of those that read sites: it changes nothing."""
    return isinstance(hook, partial) and hook.func in (_read, _note, _begin, _called)


def _begin(mine: int, passes: list[int], module: nn.Module, args: Any) -> None:
    """Another forward pass of the whole: the last one may have ended in the middle."""
    if get_ident() == mine:
        passes[0] = 0


def _note(
    mine: int, shapes: dict[str, torch.Size], path: str, module: nn.Module, args: Any, kw: Any
) -> None:
    """Keep the shape (B, n) of the tokens that a module is given."""
    if get_ident() == mine:
        shapes[path] = Tap(path, "input").read(args, kw).shape[:2]


def _read(
    mine: int,
    tap: Tap,
    sink: Sink,
    name: str,
    layer: int,
    shapes: dict[str, torch.Size],
    passes: list[int],
    module: nn.Module,
    args: Any,
    last: Any,
) -> None:
    """Hand the tapped tensor on; `last` is the module's output, or its keyword arguments.

    What fails here fails inside the model's forward pass, and is told apart from an input that the
    model cannot take.
    """
    if get_ident() != mine:
        return
    turn, turns = tap.turn
    now, passes[0] = passes[0] % turns, passes[0] + 1
    if now != turn:
        return
    try:
        with unrouted():
            tensor = tap.read(args, last)
            if tap.like and tensor.ndim == 2:
                tensor = tensor.unflatten(0, shapes[tap.like])
            with measuring(), own_device():
                sink(name, layer, tensor)
    except ProbeError:
        raise
    except Exception as error:
        if is_lack(error):
            raise
        raise InternalError(
            f"'{name}' of layer {layer} could not be read or measured: "
            f"{type(error).__name__}: {error}"
        ) from error
