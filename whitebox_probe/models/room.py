"""How much memory a network takes: counted while it is built, before its numbers are drawn."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as hooks

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.memory import available, is_lack
from whitebox_probe._core.process import Shared

PARTS = 1 << 17
"""Parameters and buffers of a network, at most: whatever has more is built for minutes."""
_LARGE = 1 << 31
"""Bytes that a network may have by a rough estimate, to be built without a trial."""
_PATCH, _WIDTH = 4, 1024
"""Of a network of images: smaller patches and a larger width than most have, where none is told."""
_APART = ("vocab", "position", "class", "label", "image", "img", "_id", "length", "seed", "block")


@contextmanager
def _in_float32() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


IN_FLOAT32 = Shared(_in_float32)
"""Networks have the type that their family is published in, whatever the caller's default is."""


class TooLarge(Exception):  # noqa: N818 - a reason, which `expect_room` puts into an error
    """A network that does not fit into the memory of this machine."""


@contextmanager
def counted() -> Iterator[None]:
    """Stop the making of a network, in this thread, that takes more memory than there is.

    Raises: TooLarge.
    """
    mine, most = threading.get_ident(), available() * 9 // 10  # it is counted once it is taken
    taken = [0, 0]

    def count(_: nn.Module, name: str, tensor: torch.Tensor | None) -> None:
        if tensor is None or threading.get_ident() != mine:
            return
        taken[0] += 1
        taken[1] += tensor.numel() * tensor.element_size()
        if taken[0] > PARTS:
            raise TooLarge(f"it has more than {PARTS:,} tensors")
        if taken[1] > most:
            raise TooLarge(f"it has more than {most / 1e9:.0f} GB of weights, the memory there is")

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def made(make: Callable[[], nn.Module], told: Mapping[str, Any], *, source: str) -> nn.Module:
    """A network, after a trial without memory where its arguments say that it may be large.

    Raises: CheckpointError for one that does not fit into memory.
    """
    try:
        with counted(), IN_FLOAT32:
            if estimate(told) > _LARGE:
                _tried(make)
            return make()
    except (TooLarge, MemoryError, RuntimeError) as why:
        if not isinstance(why, TooLarge) and not is_lack(why):
            raise
        said = str(why) if isinstance(why, TooLarge) else "it does not fit into memory"
        raise CheckpointError(
            f"the architecture of {source} cannot be built",
            said,
            "Check its sizes, or use a machine with more memory",
        ) from why


def _tried(make: Callable[[], nn.Module]) -> None:
    """Build it without memory; some compute with numbers while they are made, and cannot."""
    try:
        with torch.device("meta"):
            make()
    except RuntimeError:
        return  # told when it is really made


def estimate(told: Mapping[str, Any]) -> int:
    """Bytes of a network by its arguments, far more than most have: layers times width squared."""
    layers, width, apart = 1, 1, 1
    for name, value in told.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            continue
        if "layer" in name or "depth" in name or "experts" in name:
            layers *= value if layers * value < 1 << 62 else 1
        elif "patch" in name:
            apart = max(apart, value**2)
        elif "image" in name or "img" in name:
            apart = max(apart, (value // _PATCH) ** 2)
            width = max(width, _WIDTH)
        elif any(part in name for part in _APART):
            apart = max(apart, value)
        else:
            width = max(width, value)
    return 4 * width * (8 * layers * width + apart)
