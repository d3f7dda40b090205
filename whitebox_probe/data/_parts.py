"""What a sample is: an input, alone or with its class, its mask or both, in either order.

A class is one whole number. A mask says which of n tokens are measured: n booleans, or 0 and 1 as
tokenizers give them. Any other row of numbers beside an input is refused: it would be a mask that
nobody heeds. So is whatever else stands in a tuple of three parts or more. Parts that have names
(a mapping, a named tuple, a dataclass) are found by them: `_keys`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whitebox_probe._core.arrays import native
from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _keys
from whitebox_probe.data._masks import mask_in, masks_of
from whitebox_probe.data.choices import Choices
from whitebox_probe.models.pictures import is_encoded

_FIRST_TOO_LARGE, _DIGITS = 1 << 63, 20


@dataclass(frozen=True)
class Parts:
    """What a sample or a loader's batch consists of.

    Attributes: inputs: as they were given. label: a sample's class, or those of a batch (B,).
        mask: which tokens are measured, (n,) or (B, n). attended: which of them are no padding,
            where that is known. why: what stands where a class would, and is none.
    """

    inputs: Any
    label: Any = None
    mask: Tensor | None = None
    attended: Tensor | None = None
    why: str = ""


def parts_of(
    whole: Any,
    axes: int,
    what: str,
    choices: Choices = Choices(),  # noqa: B008 (frozen)
    reads: str | None = None,
) -> Parts:
    """The parts of a sample (axes 1) or of a loader's batch (axes 2).

    What stands beside an input in a pair and is no row of numbers, such as a caption, is left
    alone: it says nothing of tokens. In a longer tuple every part has to be understood.

    Args: choices: of keys. reads: what the model takes: "images", "text", or not known.
    Raises: DataError for numbers that are neither a mask nor a class, and for a tuple of three
        parts or more that holds something else, or two of a kind; where keys may mean two things.
    """
    if isinstance(whole, Parts):
        return whole
    if (named := _keys.named_parts(whole)) is not None and not is_encoded(whole):
        return _by_name(named, axes, what, choices, reads)
    for name in ("column", "label", "mask"):
        if getattr(choices, name) is not None:
            raise DataError(
                f"{what} has no keys",
                f"it is a {type(whole).__name__}, and {name}='{getattr(choices, name)}' was given",
                f"Leave {name}= out",
            )
    if not isinstance(whole, tuple | list) or len(whole) == 0 or _is_row(whole, axes):
        return Parts(whole)
    inputs, *beside = whole
    _keys.expect_whole(inputs, what)
    labels, masks, others = [], [], []
    for part in beside:
        label = class_in(part, what) if axes == 1 else _classes_in(part, what)
        mask = None if label is not None else mask_in(part, inputs, axes, what, choices)
        if label is not None:
            labels.append(label)
        elif mask is not None:
            masks.append(mask)
        elif part is not None:
            others.append(part)
    if len(beside) > 1 and (others or len(labels) > 1 or len(masks) > 1):
        kind = "two classes" if len(labels) > 1 else "two masks"
        raise DataError(
            f"{what} is a tuple of {len(whole)} parts that are not understood",
            f"beside its input it holds {f'a {type(others[0]).__name__}' if others else kind}, and "
            "a class and a mask of its tokens are all that is read",
            "Give (input, class, mask), or a part of it",
        )
    why = no_class(others[0]) if others and not labels else ""
    if masks and not labels:
        why = "what stands beside its input is 0 and 1, which is a mask of tokens; of one-hot "
        why += "classes pass the numbers, as argmax gives them"
    return Parts(inputs, labels[0] if labels else None, masks[0] if masks else None, why=why)


def input_of(whole: Any, what: str, choices: Choices, reads: str | None) -> Any:
    """The input of a sample or of a batch, where it is not known which of both it is.

    Raises: DataError where keys may mean two things.
    """
    named = None if isinstance(whole, Parts) else _keys.named_parts(whole)
    if named is not None and not is_encoded(whole):
        _keys.expect_whole(named, what)
        return named[_keys.input_key(named, what, choices, reads)]
    is_parts = isinstance(whole, tuple | list) and len(whole) > 0 and not _is_row(whole, 2)
    return parts_of(whole, 2, what, choices, reads).inputs if not is_parts else whole[0]


def beside_one(whole: Any, what: str, choices: Choices) -> bool | None:
    """Whether what stands beside an input is of one sample: its class, or the row of its mask.

    None where neither tells.

    Raises: DataError for a class that is too large.
    """
    named = None if isinstance(whole, Parts) else _keys.named_parts(whole)
    if named is not None and not is_encoded(whole):
        masks = [named[key] for key in _keys.ATTENDED if named.get(key) is not None]
        if masks:
            return np.ndim(masks[0]) == 1
        at, _ = _keys.label_key(named, what, choices)
        beside = [] if at is None else [named[at]]
    else:
        beside = list(whole[1:]) if isinstance(whole, tuple | list) else []
    return True if any(class_in(each, what) is not None for each in beside) else None


def _by_name(
    named: Mapping[str, Any], axes: int, what: str, choices: Choices, reads: str | None
) -> Parts:
    """The parts of a sample or a batch by their keys."""
    _keys.expect_whole(named, what)
    key = _keys.input_key(named, what, choices, reads)
    inputs = named[key]
    beside = {name: value for name, value in named.items() if name != key}
    at, why = _keys.label_key(beside, what, choices)
    label: Any = None
    if at is not None and isinstance(named[at], bytes) and named[at].strip().isdigit():
        label = _of_digits(named[at].strip(), what)  # of a shard that was not decoded
    elif at is not None:
        label = class_in(named[at], what) if axes == 1 else _classes_in(named[at], what)
        why = no_class(named[at]) if label is None and named[at] is not None else ""
        if label is None and choices.label is not None and named[at] is not None:
            raise DataError(f"'{at}' of {what} is no class", why, "Choose another label")
    masks = masks_of(beside, inputs, axes, what, choices, _keys.kind_of(key) or reads)
    return Parts(inputs, label, *masks, why=why)


def _is_row(whole: Any, axes: int) -> bool:
    """Whether a list is one sample's numbers, or one batch's samples, and no tuple of parts."""
    if not isinstance(whole, list):
        return False
    first = whole[0]
    if axes == 1:
        return all(isinstance(each, int | float | np.number) for each in whole) or all(
            isinstance(each, list) for each in whole
        )
    pictures = (np.ndarray, Image.Image, bytes, str)
    samples = all(isinstance(each, pictures) for each in whole)
    # Two tensors are a pair of inputs and classes, as torch collates them.
    alike = isinstance(first, Tensor) and first.ndim > 0 and len(whole) > 2
    return samples or (
        alike and all(isinstance(each, Tensor) and each.ndim == first.ndim for each in whole)
    )


def no_class(part: Any) -> str:
    """Why what stands where a class would is none."""
    if isinstance(part, str) or (
        isinstance(part, list | tuple) and part and isinstance(part[0], str)
    ):
        text = part if isinstance(part, str) else part[0]
        return f"its class is a text ('{text[:40]}'), and a class is a whole number"
    marks = isinstance(part, Tensor) and part.is_floating_point() and part.ndim < 2
    marks = marks or (isinstance(part, np.ndarray) and part.dtype.kind == "f" and part.ndim < 2)
    if marks or isinstance(part, float | np.floating):
        return "its class is a fraction: make whole numbers of classes, by .astype(int) or .long()"
    if isinstance(part, Tensor | np.ndarray):
        kind = str(part.dtype).removeprefix("torch.")
        shape = tuple(part.shape)
        return f"its class is {kind} of shape {shape}, and a class is one whole number"
    return f"its class is a {type(part).__name__}, and a class is a whole number"


def _of_digits(text: bytes, what: str) -> int:
    """A class that is written in digits, of which Python reads only so many."""
    return _narrow(int(text) if len(text.lstrip(b"0")) <= _DIGITS else _FIRST_TOO_LARGE, what)


def _narrow(label: int, what: str) -> int:
    """A class, which torch and the results keep in 64 bits with a sign.

    Raises: DataError for one that needs more.
    """
    if not -_FIRST_TOO_LARGE <= label < _FIRST_TOO_LARGE:
        raise DataError(
            f"the class of {what} is a number of more than 63 bits",
            "classes are numbered, and none is that large",
            "Number them from 0, or leave the class out",
        )
    return label


def expect_unmasked(part: Any, what: str) -> None:
    """Refuse an array some of whose numbers are masked: what lies under a mask is no number.

    Raises: DataError.
    """
    if np.ma.isMaskedArray(part) and np.ma.is_masked(part):
        raise DataError(
            f"{what} holds a masked array with {np.ma.count_masked(part)} numbers masked",
            "a model is given every number, and would take what is masked for data",
            "Fill them (x.filled(...)), or leave those samples out",
        )


def class_in(part: Any, what: str) -> int | None:
    """A sample's class, if that is what a part of it is.

    Raises: DataError for one that is too large.
    """
    expect_unmasked(part, what)
    if isinstance(part, Tensor | np.ndarray) and part.ndim == 0:
        part = native(part) if isinstance(part, np.ndarray) else part
        whole = not torch.as_tensor(part).is_floating_point()
        return _narrow(int(part.item()), what) if whole else None  # int() has no 64 bits unsigned
    return _narrow(int(part), what) if isinstance(part, int | np.integer | np.bool_) else None


def _classes_in(part: Any, what: str) -> Tensor | None:
    """A batch's classes (B,), if that is what a part of it is.

    Raises: DataError for one that is too large.
    """
    expect_unmasked(part, what)
    if isinstance(part, list) and part and all(class_in(each, what) is not None for each in part):
        return torch.tensor([class_in(each, what) for each in part])
    if isinstance(part, np.ndarray) and part.dtype.kind in "biu":
        if part.dtype.kind == "u" and part.size:
            _narrow(int(part.max()), what)  # which NumPy would wrap to a number below 0
        part = torch.as_tensor(part.astype(np.int64))
    is_row = isinstance(part, Tensor) and part.ndim == 1 and not part.is_floating_point()
    if is_row and part.dtype == torch.uint64:
        return _classes_in(part.numpy(), what)
    return part if is_row else None
