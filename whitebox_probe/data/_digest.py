"""Short hashes of arrays and tensors: the fingerprints of what is held in memory."""

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def of_tensor(tensor: Tensor) -> str:
    """Hash of a tensor's shape, type and values."""
    plain = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor  # NumPy has none
    return of_array(plain.numpy(force=True))


def of_array(array: NDArray[Any]) -> str:
    """Hash of an array's shape, type and values."""
    digest = hashlib.sha256(str((array.shape, array.dtype)).encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
