"""What "float32" means: products of 24 bits, whatever the process has allowed.

On GPUs torch lets cuDNN take the convolutions of float32 tensors in TF32 (11 bits) unless told
otherwise, and `torch.set_float32_matmul_precision` does the same to products, and on some CPUs to
bfloat16. A pass says float32 and runs in it; the switches are put back as they were.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from whitebox_probe._core.process import Shared

FULL = "ieee"
_SWITCHES: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    torch.backends.mkldnn.conv,  # type: ignore[attr-defined]
)


@contextmanager
def full_float32() -> Iterator[None]:
    """Products and convolutions of float32 tensors in full precision, in all of the process."""
    with _FULL:
        yield


@contextmanager
def _full() -> Iterator[None]:
    with ExitStack() as stack:
        for switch in _SWITCHES:
            before = switch.fp32_precision
            if before != FULL:
                switch.fp32_precision = FULL
                stack.callback(_put_back, switch, before)
        yield


def _put_back(switch: Any, before: str) -> None:
    """As it was: following what stands above it, where that gives the same."""
    switch.fp32_precision = "none"
    if switch.fp32_precision != before:
        switch.fp32_precision = before


_FULL = Shared(_full)
