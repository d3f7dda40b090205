"""A measurement in the middle of a training, without a trace in what follows."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from whitebox_probe._core.randomness import seeded
from whitebox_probe.models.guest import unchanged


@contextmanager
def untouched(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Leave a module and the caller's state as they are, whatever runs inside.

    Put back are random states (torch's, NumPy's, Python's, and generators that the module holds),
    modes, what the parts hold, and the values of buffers. Autocast is off inside: a probe sets its
    own. Weights and gradients are not written to.
    """
    with ExitStack() as stack:
        stack.enter_context(seeded(module, 0, device))
        stack.enter_context(unchanged(module))
        for kind in {"cpu", device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        yield
