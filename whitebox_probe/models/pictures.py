"""Whatever holds an image, as a picture: arrays, tensors, files and bytes.

Of an array the axis of 1, 3 or 4 entries counts the channels, whether it is the first or the last;
but for a model of greys, where a first axis counts pictures.
"""

import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from whitebox_probe._core.arrays import native
from whitebox_probe._core.errors import DataError
from whitebox_probe._core.gate import size_of
from whitebox_probe.models.images import Transform, eight_bits

CHANNELS = (1, 3, 4)
_WHITE = 255
_WHITE_OF_16 = 65535


def is_encoded(item: Any) -> bool:
    """Whether it is what a Hugging Face dataset gives for an image that it does not decode."""
    return isinstance(item, Mapping) and set(item) == {"bytes", "path"}


def white_of(whole: Any) -> int | None:
    """What white is in fractions that are all known: 255 where one is above 1, else 1.

    A picture alone does not tell: a dark one of a set from 0 to 255 may have nothing above 1.

    Args: whole: an array or a tensor, or a list of nothing else.
    Returns: None where there are no fractions, or not all are known.
    """
    if isinstance(whole, list | tuple):
        each = [white_of(one) if isinstance(one, np.ndarray | Tensor) else None for one in whole]
        known = [white for white in each if white is not None]
        return max(known) if known and len(known) == len(each) else None
    array = whole if isinstance(whole, np.ndarray) else _array_of(whole)  # no copy of a file
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or not array.size:
        return None
    return _WHITE if np.fmax.reduce(array, axis=None) > 1 else 1


def is_black(whole: Any) -> bool:
    """Whether it is fractions that are all 0, which are black whatever white is, and tell none.

    Args: whole: as for `white_of`.
    """
    if isinstance(whole, list | tuple):
        return all(map(is_black, whole))
    array = _array_of(whole)
    return isinstance(array, np.ndarray) and array.dtype.kind == "f" and not array.any()


def _array_of(item: Any) -> Any:
    """A tensor as an array, and an array in this machine's order of bytes; others as they are."""
    if isinstance(item, Tensor):
        return (item.float() if item.dtype == torch.bfloat16 else item).numpy(force=True)
    return native(item) if isinstance(item, np.ndarray) and item.dtype.kind in "uif" else item


def picture_of(item: Any, what: str, white: int | None = None) -> Image.Image:
    """The picture with 8 bits a channel, as it would be read from a file.

    Args:
        item: a PIL image; a path or the bytes of a file; an array or a tensor (H, W), (H, W, C) or
            (C, H, W): whole numbers from 0 to 255, 16 bits, or fractions from 0 to 1.
        what: names it in errors. white: of fractions, where all that belong to it are known.
    Raises: DataError for what is no image, or whose white is not known.
    """
    if isinstance(item, Image.Image):
        return eight_bits(item, what)
    if is_encoded(item):
        item = item["path"] if item["bytes"] is None else item["bytes"]
    if isinstance(item, str | Path):
        return _opened(Path(item), str(item))
    if isinstance(item, bytes | bytearray):
        return _opened(io.BytesIO(item), what)
    item = _array_of(item)
    if isinstance(item, np.ndarray) and item.dtype.kind in "uif":
        return Image.fromarray(_bytes(_channels_last(item, what), what, white))
    told = "an array of truth values" if isinstance(item, np.ndarray) else type(item).__name__
    raise DataError(
        f"{what} holds no image" if item is None else f"{what} is no image",
        f"it is {'None' if item is None else told}",
        "Give a PIL image, a path, or an array of whole numbers from 0 to 255",
    )


def prepared(images: Any, transform: Transform, *, greys: bool) -> Tensor:
    """Images of any sizes as one batch (N, C, H, W), each prepared as one of a file.

    Args: images: one, or several: a list, or an array or tensor of four axes (of three, where no
        axis at either end counts channels: greys). greys: whether the model takes one channel.
    Raises: DataError for none, and for what is no image.
    """
    several = [images] if _is_one(images, greys=greys) else list(images)
    white = white_of(several)
    if not several:
        raise DataError(
            "there is no image to prepare", "the list is empty", "Pass one image or more"
        )
    pictures = (picture_of(each, f"image {n}", white) for n, each in enumerate(several))
    return torch.stack([transform(picture) for picture in pictures])


def _is_one(images: Any, *, greys: bool) -> bool:
    if isinstance(images, np.ndarray | Tensor):
        first = (1,) if greys else CHANNELS  # a model of greys has no colours to be first
        ends = images.ndim == 3 and (images.shape[0] in first or images.shape[-1] in CHANNELS)
        return images.ndim < 3 or ends
    return (
        isinstance(images, Image.Image | str | bytes | bytearray | Path | Mapping)
        or images is None
        or not isinstance(images, Iterable | Sequence)
    )


_PROGRAMS = ("EPS",)  # which Pillow hands to Ghostscript


@cache
def formats() -> tuple[str, ...]:
    """The formats that are read: those that Pillow knows, but for what another program draws."""
    Image.init()
    return tuple(name for name in Image.OPEN if name not in _PROGRAMS)


@contextmanager
def decoded(file: Path | io.BytesIO) -> Iterator[Image.Image]:
    """A file as Pillow opens it; what it would print of a broken one our own line tells.

    Raises: whatever decoders do.
    """
    log, handler = logging.getLogger("PIL"), logging.NullHandler()
    log.addHandler(handler)
    try:
        with Image.open(file, formats=formats()) as image:
            yield image
    finally:
        log.removeHandler(handler)


def _opened(file: Path | io.BytesIO, what: str) -> Image.Image:
    try:
        if isinstance(file, Path) and file.exists():
            size_of(file)  # a pipe would be waited for
        with decoded(file) as image:
            image.load()
            return eight_bits(image, what)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever a broken file leads them to
        raise unreadable(what, error) from error


def unreadable(what: str, error: Exception) -> DataError:
    """That a file is no image, or not a whole one."""
    told = str(error) or type(error).__name__
    if "cannot identify image file" in told:
        told = "no format of images is recognised in it"
    return DataError(f"{what} is not a readable image", told, "Remove the file or replace it")


def _channels_last(array: NDArray[Any], what: str) -> NDArray[Any]:
    """The array as (H, W), or (H, W, C) with more than one channel."""
    if array.size == 0:
        raise DataError(f"{what} is empty", f"its shape is {array.shape}", "Leave it out")
    if array.ndim == 2:
        return array
    first, last = (array.ndim == 3 and array.shape[at] in CHANNELS for at in (0, -1))
    if first == last:
        why = "its channels may be the first axis or the last" if first else "it has no channels"
        raise DataError(
            f"{what} of shape {array.shape} is no image",
            f"{why}: one of its three axes has to have 1, 3 or 4 entries, or it has two",
            "Pass (H, W), (H, W, C), (C, H, W) or a PIL image",
        )
    whole = array.transpose(1, 2, 0) if first else array
    return whole[..., 0] if whole.shape[-1] == 1 else whole


def _bytes(array: NDArray[Any], what: str, white: int | None) -> NDArray[np.uint8]:
    """Pixels from 0 to 255, of whole numbers or of fractions from 0 to 1.

    Args: white: of fractions, None where these alone are to tell it.
    Raises: DataError where neither fits, or both do.
    """
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.uint16:
        return np.rint(array.astype(np.float64) * (_WHITE / _WHITE_OF_16)).astype(np.uint8)
    if array.dtype.kind in "ui":
        white = _WHITE
    elif white is None:
        white = white_of(array) or _WHITE
    low, high = float(array.min()), float(array.max())
    if low >= 0 and high <= white == 1:
        return np.rint(array.astype(np.float64) * _WHITE).astype(np.uint8)
    if low >= 0 and high <= white == _WHITE and not (array % 1).any():
        return array.astype(np.uint8)
    others = ", those of others further" if high <= 1 < white else ""
    others = ", those before it to 1" if white == 1 < high <= _WHITE else others
    raise _no_white(what, f"its numbers go from {low:g} to {high:g}{others}")


def _no_white(what: str, why: str) -> DataError:
    return DataError(
        f"the white of {what} is not known",
        why,
        "Pass whole numbers from 0 to 255 (uint8), 16 bits (uint16), or fractions from 0 to 1; of "
        "these all in one array",
    )
