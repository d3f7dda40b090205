"""Tensors and raw values into a running hash, whatever form they are kept in."""

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

RAW = (np.ndarray, np.generic, bytes, bytearray, io.BytesIO)


def update(found: Any, name: str, raw: str | bytes | bytearray) -> None:
    """Hash a name and what it stands for."""
    found.update(name.encode())
    found.update(raw.encode(errors="surrogatepass") if isinstance(raw, str) else raw)


def add_raw(found: Any, name: str, value: Any) -> None:
    """Hash an array, a number of NumPy or bytes: one of `RAW`."""
    if isinstance(value, np.ndarray | np.generic):
        raw = repr(value.tolist()) if value.dtype.hasobject else value.tobytes()
        update(found, f"{name} {value.shape} {value.dtype}", raw)
    else:
        update(found, name, value.getvalue() if isinstance(value, io.BytesIO) else value)


def add_tensor(found: Any, name: str, tensor: Tensor) -> None:
    """Hash a tensor's name, kind and values."""
    tensor = tensor.detach()
    found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is not None:
        parts, context = flatten()
        found.update(repr(context).encode())
        for part in parts:
            add_tensor(found, f"{name}.{part}", getattr(tensor, part))
        return
    if tensor.is_meta:
        return
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    raw = tensor.cpu().resolve_conj().resolve_neg().contiguous().reshape(-1).view(torch.uint8)
    found.update(raw.numpy().data)
