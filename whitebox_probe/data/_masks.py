"""Masks beside an input: which of its tokens are measured, and which are no padding.

Tokens of ids are the ids, and of vectors (n, d) the vectors. Of anything else, such as an image,
how many there are is known to the model alone. A mask has one number a token, and a name that says
what it means; one that does not is refused, and none is passed over. Beside an image stands what is
no mask of tokens: a segmentation, or the masks of a caption's ids.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _keys
from whitebox_probe.data._keys import ATTENDED, HIDDEN
from whitebox_probe.data._numbers import numbers
from whitebox_probe.data.choices import Choices

TAKEN = {"attention_mask": False, **dict.fromkeys((*HIDDEN, "padding_mask"), True), "mask": False}
"""What a model's forward calls the mask of its padding, the surest first: whether True is it."""
_KNOWN = (*ATTENDED, "special_tokens_mask")
MASKS = frozenset({*_KNOWN, *TAKEN})
"""What masks of tokens are called."""
_NAMED = ("mask", "pad")
"""What names of masks hold, their meaning known or not."""
_SEGMENTS, _POSITIONS = _BESIDE = "token_type_ids", "position_ids"


def is_vectors(inputs: Any) -> bool:
    """Whether an input is of fractions: no ids, whatever the model calls what it takes."""
    return _kind(inputs) == "f"


def masks_of(
    parts: Mapping[str, Any], inputs: Any, axes: int, what: str, choices: Choices, of: str | None
) -> tuple[Tensor | None, Tensor | None]:
    """Which tokens are measured, and which are attended to.

    Args: parts: all beside the input. axes: 1 of a sample, 2 of a batch. of: "text" or "images",
        as far as its key and the model tell.
    Raises: DataError for a mask that nobody would heed, or that may mean two things.
    """
    if choices.mask is None and not any(map(_may_matter, parts)):
        return None, None
    shape = _places(inputs, axes, of)
    text = shape is not None and not is_vectors(inputs)
    # Masks of a caption's ids that stand beside an image are theirs.
    found = {k: v for k, v in parts.items() if v is not None and not _of_ids(v, parts, shape, text)}

    def row(key: str) -> Tensor:
        return _truths(found[key], shape or (), axes, f"'{key}' of {what}")

    rows = [row(key) if key not in HIDDEN else ~row(key) for key in ATTENDED if key in found]
    attended = _both(rows)
    if "special_tokens_mask" in found:
        rows.append(~row("special_tokens_mask"))
    own = choices.mask or "mask"
    if choices.mask is not None:
        _keys.expect_key(own, list(parts), what, "mask")
    chosen = text or choices.mask is not None
    if own in found and own not in _KNOWN and (chosen or _may_mask(found[own], shape, axes)):
        rows.append(row(own))
    for key, value in found.items():
        if key not in (*_KNOWN, "mask", own) and _is_unknown(key, value, shape, axes, of, text):
            raise DataError(
                f"{what} holds '{key}'",
                "whether it is True for padding or for what is measured is not known",
                "Call it attention_mask (1: no padding), key_padding_mask (True: padding) or mask "
                f"(True: measured, as wp.data(..., mask='{key}') says), or leave it out",
            )
    if text:
        _expect_plain(parts, what)
    return _both(rows), attended


def mask_in(part: Any, inputs: Any, axes: int, what: str, choices: Choices) -> Tensor | None:
    """Which tokens are measured, if a part beside the inputs that has no name says so.

    Args: axes: 1 for a sample, whose mask is (n,); 2 for a batch, whose masks are (B, n).
    Raises: DataError for numbers that are neither a mask nor a class, and for a mask that a model
        with one of its own may take to say the reverse, or would have to be given.
    """
    beside = f"what stands beside the input of {what}"
    second = _as_tensor(part, beside)
    # More axes beside an image are its segmentation, say; a text has nothing of that kind.
    reads_ids = isinstance(inputs, Tensor) and not inputs.is_floating_point()
    if second is None or second.ndim < axes or (second.ndim > axes and not reads_ids):
        return None
    given = getattr(part, "dtype", second.dtype)
    second = numbers(second, beside)
    is_whole = not (second.is_floating_point() or second.is_complex())
    is_mask = second.ndim == axes and (second.dtype == torch.bool or second.shape[-1] > 1)
    if not is_mask or not is_whole or not bool(((second == 0) | (second == 1)).all()):
        raise DataError(
            f"{what} has {tuple(second.shape)} numbers of "
            f"{str(given).removeprefix('torch.')} beside its input",
            "they are neither a mask (booleans, or whole numbers that are 0 or 1, one a token) nor "
            "a class (one whole number)",
            "Give the mask of the tokens that are measured, or the class, or the input alone",
        )
    _expect_told(second.bool(), inputs, what, choices)
    return second.bool()


def _expect_told(mask: Tensor, inputs: Any, what: str, choices: Choices) -> None:
    """Refuse a mask without a name where a model with a mask of its own has to know its meaning.

    Of ids, padding is told by the ids; a mask of True for padding would measure it all the same.

    Raises: DataError.
    """
    own = choices.mask_name
    of_ids = len(_shape(inputs)) == mask.ndim and not is_vectors(inputs)
    if own is None or not (TAKEN[own] or (not of_ids and not bool(mask.all()))):
        return
    raise DataError(
        f"{what} has a mask without a name beside its input",
        f"whether it is True for padding is not known, and the model takes a mask ('{own}')",
        "Give {'inputs': ..., 'attention_mask': mask} if it is 1 for what is no padding, "
        "'key_padding_mask' if it is True for padding, or 'mask' if it is True for what is "
        "measured and the model is to attend to all",
    )


def _both(rows: list[Tensor]) -> Tensor | None:
    return torch.stack(rows).all(dim=0) if rows else None


def _kind(inputs: Any) -> str:
    """Of what numbers an input is: "f" of fractions, "i" of whole ones; "" where it is no array."""
    while isinstance(inputs, list) and inputs:
        inputs = inputs[0]
    if isinstance(inputs, Tensor):
        return "f" if inputs.is_floating_point() else "i"
    if isinstance(inputs, int | float):
        return "f" if isinstance(inputs, float) else "i"
    kind = inputs.dtype.kind if isinstance(inputs, np.ndarray | np.generic) else ""
    return {"f": "f", "i": "i", "u": "i", "b": "i"}.get(kind, "")


def _places(inputs: Any, axes: int, of: str | None) -> tuple[int, ...] | None:
    """The places of an input's tokens, (n,) or (B, n); None where the model alone knows them.

    Those of ids are () where their rows are of several lengths.
    """
    kind = _kind(inputs)
    if of == "images" or (of is None and not kind):
        return None
    shape = _shape(inputs)
    if kind == "f":
        return shape[:axes] if len(shape) == axes + 1 else None
    return shape if of == "text" or len(shape) == axes else None


def _of_ids(
    value: Any, parts: Mapping[str, Any], shape: tuple[int, ...] | None, text: bool
) -> bool:
    """Whether a mask is of ids that stand beside an input which is none."""
    ids = [] if text else [each for key, each in parts.items() if key.lower() in _keys.IDS]
    return any(_shape(value) == _shape(each) != () for each in ids) and _shape(value) != shape


def _may_matter(key: str) -> bool:
    """Whether a key may be of what tells tokens apart."""
    return key in _BESIDE or any(word in key.lower() for word in _NAMED)


def _is_unknown(
    key: str, value: Any, shape: tuple[int, ...] | None, axes: int, of: str | None, text: bool
) -> bool:
    """Whether a part is a mask of tokens by its name and numbers, and what it means is not said."""
    if text and "mask" in key.lower():
        return True
    if of == "images":  # beside which there are segmentations, and the masks of captions
        return key.lower().endswith("mask") and _may_mask(value, shape, axes)
    named = any(word in key.lower() for word in _NAMED)
    # Beside tokens whose places are known it may have axes more, and still be of them.
    several = len(_shape(value)) >= axes if shape else True
    return named and several and _may_mask(value, shape, axes)


def _may_mask(value: Any, shape: tuple[int, ...] | None, axes: int) -> bool:
    """Whether a part may be a mask of tokens: beside an image one row, and no segmentation."""
    if not isinstance(value, Tensor | np.ndarray | list | tuple) or not _kind(value):
        return False
    found = _shape(value)
    return shape is not None or (len(found) == axes and found[-1] > 1)


def _expect_plain(parts: Mapping[str, Any], what: str) -> None:
    """Refuse second segments and positions of one's own, which the model would not be given."""

    def rows(key: str) -> list[Tensor]:
        found = parts.get(key)
        each = [] if found is None else [found]
        if isinstance(found, list | tuple) and len({_shape(row) for row in found}) > 1:
            each = [*found]  # of several lengths
        return [numbers(row, f"'{key}' of {what}") for row in each]

    if any(bool((row != 0).any()) for row in rows(_SEGMENTS)):
        raise DataError(
            f"{what} holds a second segment ('{_SEGMENTS}')",
            "the model is given ids and their padding alone",
            f"Pass single texts, or leave '{_SEGMENTS}' out",
        )
    if not all(row.ndim and bool((row == _count(row)).all()) for row in rows(_POSITIONS)):
        raise DataError(
            f"{what} holds '{_POSITIONS}' of its own",
            "the model counts positions from the first token that is no padding",
            f"Leave '{_POSITIONS}' out",
        )


def _count(row: Tensor) -> Tensor:
    """0, 1, ... along the last axis."""
    return torch.arange(row.shape[-1], device=row.device)


def _shape(ids: Any) -> tuple[int, ...]:
    try:
        return tuple(np.shape(ids))
    except Exception:  # of several lengths, say: told when they are stacked
        return ()


def _truths(value: Any, shape: tuple[int, ...], axes: int, what: str) -> Tensor:
    """A mask of 0 and 1, one a token.

    Raises: DataError.
    """
    found = numbers(value, what).cpu()
    is_whole = not (found.is_floating_point() or found.is_complex())
    fits = found.ndim == axes and (not shape or tuple(found.shape) == shape)
    is_binary = bool(((found == 0) | (found == 1)).all())
    if fits and is_whole and is_binary:
        return found.bool()
    if not fits:
        why = f"it has the shape {tuple(found.shape)}, and the tokens {shape}"
        fix = "Give one number a token, or leave it out"
    elif is_binary:
        why = "its 0 and 1 are fractions, and a mask is of whole numbers, or of True and False"
        fix = "Give it as whole numbers (.astype('int64') of NumPy, .long() of torch)"
    else:
        why = "a mask is 0 and 1, or True and False"
        fix = "Give whole numbers that are 0 or 1 as its name says, or leave it out"
    raise DataError(f"{what} is no mask of the tokens", why, fix)


def _as_tensor(second: Any, what: str) -> Tensor | None:
    """A tensor, an array of numbers or a list of numbers, as a tensor; None for anything else.

    Raises: DataError for numbers that no tensor holds.
    """
    if isinstance(second, Tensor):
        return second
    if isinstance(second, np.ndarray):
        return numbers(second, what) if second.dtype.kind in "biuf" else None
    is_list = isinstance(second, tuple | list) and len(second) > 0
    is_row = is_list and all(isinstance(each, int | float | np.number) for each in second)
    return numbers(second, what) if is_row else None
