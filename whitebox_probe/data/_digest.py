"""Short hashes of arrays, tensors and samples: what tells data apart.

A sample is known by 64 bits of the hash of what it is before it is prepared for a model (a file's
bytes, an array's pixels), so that models of different preprocessing read the same samples; where
nothing else is known, of the tensor that the model is given.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from whitebox_probe.models.images import scale


def of_tensor(tensor: Tensor) -> str:
    """Hash of a tensor's shape, type and values."""
    return of_array(as_numpy(tensor))


def as_numpy(tensor: Tensor) -> NDArray[Any]:
    """Its numbers; where NumPy has no such type bits (bfloat16), or what is read of it (float8)."""
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.int16)
    elif tensor.is_floating_point() and tensor.itemsize == 1:
        tensor = tensor.float()
    return tensor.numpy(force=True)


def of_array(array: NDArray[Any], told: str = "") -> str:
    """Hash of an array's shape, type and values, and of what is told of them."""
    return _hashed(array, told).hexdigest()[:16]


def _hashed(array: NDArray[Any], told: str) -> Any:
    digest = hashlib.sha256(str((array.shape, array.dtype)).encode())
    digest.update(np.ascontiguousarray(array).data)
    digest.update(told.encode())
    return digest


def of_bytes(content: bytes) -> int:
    """The identity of a sample with this content, a signed number of 64 bits."""
    return _number(hashlib.sha256(content))


def of_sample(item: Tensor | NDArray[Any], mask: Tensor | None = None, *, told: str = "") -> int:
    """The identity of a sample: shape, type and values, and which tokens its mask leaves out.

    Args: told: what its values stand for, where that is not usual.
    """
    if isinstance(item, Tensor):
        item = as_numpy(item)
    digest = _hashed(item, told)
    if mask is not None and not bool(mask.all()):
        digest.update(np.ascontiguousarray(mask.numpy(force=True)).data)
    return _number(digest)


def of_picture(picture: Image.Image) -> int:
    """The identity of a picture: its numbers, and what they stand for where that is not usual.

    Raises: whatever decoders do.
    """
    array, told = pixels(picture)
    return of_sample(array, told=told)


def pixels(picture: Image.Image) -> tuple[NDArray[Any], str]:
    """A picture's numbers, with a palette in place, and what they stand for; "" if it is usual.

    Raises: whatever decoders do.
    """
    plain = picture.convert("RGBA") if picture.mode in ("P", "PA") else picture
    return np.asarray(plain), _meaning(plain)


_USUAL = ("1", "L", "LA", "RGB", "RGBA")
_OF_16 = (2**16 - 1, False)


def _meaning(picture: Image.Image) -> str:
    """What a picture's numbers stand for, where their type and their channels do not tell it."""
    if picture.mode in _USUAL:
        return ""
    if picture.mode.startswith("I"):
        found = scale(picture)
        return "" if found == _OF_16 else f"{found[0]} {found[1]}"
    return picture.mode


def of_rows(columns: Iterable[Any], numbers: Sequence[int]) -> str:
    """Hash of these rows of columns: tensors, arrays, and lists of what `_told` knows.

    What else a list holds has no bytes that are known, and is passed over.
    """
    digest = hashlib.sha256()
    for column in columns:
        for start in range(0, len(numbers), step := _rows_at_once(column)):
            some = list(numbers[start : start + step])
            digest.update(_plain(column, some))
    return digest.hexdigest()[:16]


_AT_ONCE = 1 << 24
"""Bytes of rows that are hashed in one go: of an array on the disk so many are in memory."""


def _rows_at_once(column: Any) -> int:
    if isinstance(column, Tensor | np.ndarray):
        size = int(np.prod(column.shape[1:])) * column.dtype.itemsize
        return max(1, _AT_ONCE // max(1, size))
    return 1000


def _plain(column: Any, numbers: list[int]) -> bytes | memoryview:
    """The rows of a column as bytes."""
    if isinstance(column, Tensor):
        with suppress(RuntimeError, TypeError, NotImplementedError):  # sparse, on meta, of bits
            return _bytes_of(as_numpy(column[numbers]))
        return type(column).__name__.encode()
    if isinstance(column, np.ndarray) and not column.dtype.hasobject:
        first, last = numbers[0], numbers[-1] + 1
        together = numbers == list(range(first, last))  # a slice copies nothing
        return _bytes_of(column[first:last] if together else column[numbers])
    told = [_known(column, number) for number in numbers]
    return repr(told).encode(errors="surrogatepass")


def _known(column: Any, number: int) -> object:
    """What is told of a value; nothing where it holds itself, or the user's own code fails."""
    try:
        return _told(column[number])
    except Exception:  # the pass tells it, if it reads the column
        return None


def _told(value: Any) -> object:
    """A value, or what stands for it, whose `repr` tells it from others.

    Of plain values, arrays, tensors and pictures, and of lists and mappings of these.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value if abs(value) >> 64 == 0 else hex(value)  # as decimals it may have no end
    if value is None or isinstance(value, str | bytes | bool | float):
        return value
    if isinstance(value, np.void):
        return _told(value.item())  # a tuple of its fields
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bytearray):
        return bytes(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return _told(value.tolist())
    if isinstance(value, list | tuple):
        return [*map(_told, value)]
    if isinstance(value, Mapping):
        return [(str(key), _told(each)) for key, each in value.items()]
    if isinstance(value, Path):
        return str(value)
    try:
        return _told_of_numbers(value)
    except (OSError, ValueError, SyntaxError, RuntimeError, TypeError):
        return type(value).__name__  # cut short, sparse: the reader tells which sample it is


def _told_of_numbers(value: Any) -> object:
    if isinstance(value, Image.Image):
        return value.mode, value.size, of_picture(value)
    return of_sample(value) if isinstance(value, Tensor | np.ndarray) else type(value).__name__


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def combined(ids: NDArray[np.int64], identities: NDArray[np.int64]) -> str:
    """The fingerprint of samples, in whichever order they come; of none, ""."""
    if len(ids) == 0:
        return ""
    order = np.argsort(ids, kind="stable")
    rows = np.stack([ids[order], identities[order]]).astype("<i8")
    return hashlib.sha256(rows.tobytes()).hexdigest()[:16]


def _number(digest: Any) -> int:
    return int.from_bytes(digest.digest()[:8], "little", signed=True)
