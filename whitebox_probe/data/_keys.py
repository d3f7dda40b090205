"""Samples and batches by name: which key of a mapping is the input, the class, the mask.

The names are those that transformers, datasets, webdataset and torch code use. Where two fit, or
none does, that is told, with the option that chooses: nothing is guessed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whitebox_probe._core.arrays import native
from whitebox_probe._core.errors import DataError, nearest
from whitebox_probe.data.choices import Choices

IMAGES = ("pixel_values", "image", "images", "img", "imgs", "picture", "pixels")
FILES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "image_bytes")
IDS = ("input_ids", "ids", "token_ids", "tokens", "idx")
TEXTS = ("text", "txt")
ANY = ("inputs", "input", "x", "data", "features")
LABELS = ("label", "labels", "class", "classes", "target", "targets", "y", "cls", "cls.txt")
HIDDEN = ("key_padding_mask", "src_key_padding_mask")
"""Torch's own masks: True is padding."""
_KNOWN = frozenset({*IMAGES, *FILES, *IDS, *TEXTS, *ANY, *LABELS})
_PATCHES = ("patch_coord", "patch_valid", "spatial_shapes", "image_grid_thw")
"""Beside images that were cut into patches, of which some are padding."""
_SEGMENTS, _POSITIONS = "token_type_ids", "position_ids"
_HEEDED = ("attention_mask", "special_tokens_mask", "mask", *HIDDEN)


def named_parts(whole: Any) -> Mapping[str, Any] | None:
    """A sample or a batch whose parts have names, as a mapping; None for any other."""
    if isinstance(whole, Mapping):  # wids' keys begin with a point, as ends of names do
        return {str(key).removeprefix("."): value for key, value in whole.items()}
    if isinstance(whole, tuple) and hasattr(whole, "_fields"):
        found = dict(zip(whole._fields, whole, strict=True))
        return found if found.keys() & _KNOWN else None  # else by their places
    if dataclasses.is_dataclass(whole) and not isinstance(whole, type):
        return {each.name: getattr(whole, each.name) for each in dataclasses.fields(whole)}
    return None


def expect_whole(parts: Any, what: str) -> None:
    """Refuse images that were cut into patches (NaFlex), of which some are padding.

    Raises: DataError.
    """
    found = [key for key in _PATCHES if isinstance(parts, Mapping) and key in parts]
    if found:
        raise DataError(
            f"{what} holds patches of images, not images ('{found[0]}')",
            "a model is given images of one size, which it cuts into patches itself: with patches "
            "comes padding, which measures would take for tokens",
            "Pass the images, of one size (N, C, H, W): a NaFlexViT takes them as they are",
        )


def input_key(parts: Mapping[str, Any], what: str, choices: Choices, reads: str | None) -> str:
    """The key of the input.

    Args: reads: what the model takes: "images", "text" or not known.
    Raises: DataError where none or several can be meant.
    """
    keys = [key for key in parts if key and not key.startswith("__")]
    if choices.column is not None:
        return expect_key(choices.column, keys, what, "column")
    if choices.input_name in (*IMAGES, *IDS) and choices.input_name in keys:
        return choices.input_name
    pictures, texts = (*IMAGES, *FILES), (*IDS, *TEXTS)
    groups = {"images": (pictures, ANY), "text": (texts, ANY)}.get(
        reads or "", ((*pictures, *texts), ANY)
    )
    for group in (*groups, FILES):
        fitting = [key for key in keys if key.lower() in group]
        if group == FILES and reads != "text":  # of a shard: `left.jpg`
            fitting = [key for key in keys if key.lower().rpartition(".")[2] in group]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise DataError(
                f"{what} holds {' and '.join(repr(key) for key in fitting)}",
                "each may be the model's input",
                f"Choose one: wp.data(..., column='{fitting[0]}')",
            )
    other = [key for key in keys if key.lower() in (texts if reads == "images" else pictures)]
    if reads is not None and other:
        is_text = reads == "images"
        raise DataError(
            f"'{other[0]}' of {what} {'is text' if is_text else 'holds images'}",
            f"the model reads {reads}",
            f"Pass {'images, such as fashion-mnist' if is_text else 'a text, such as kjv'}, or "
            f"choose another key with wp.data(..., column=...): it has {', '.join(keys)}",
        )
    raise DataError(
        f"which part of {what} is the model's input is not known",
        f"its keys are {', '.join(keys) or 'none'}",
        f"Choose one: wp.data(..., column='{keys[0]}')"
        if keys
        else "Name its keys, such as images",
    )


def label_key(parts: Mapping[str, Any], what: str, choices: Choices) -> tuple[str | None, str]:
    """The key of the class, and what is to be said where several may be it.

    Raises: DataError for a chosen one that is not there.
    """
    if choices.label is not None:
        return expect_key(choices.label, list(parts), what, "label"), ""
    fitting = [key for key in parts if key.lower() in LABELS and key != choices.column]
    if not fitting:
        fitting = [key for key in parts if key.lower().endswith(("_label", "_labels", "_class"))]
    if len(fitting) > 1:
        told = " and ".join(repr(key) for key in fitting)
        return None, f"{told} may each be the class: choose one with wp.data(..., label=...)"
    return (fitting[0], "") if fitting else (None, "")


def expect_key(key: str, keys: list[str], what: str, option: str) -> str:
    """A key that was chosen.

    Raises: DataError if it is not there.
    """
    if key not in keys:
        raise DataError(f"{what} has no '{key}'", f"{option}='{key}' was given", nearest(key, keys))
    return key


def masks_of(
    parts: Mapping[str, Any], ids: Any, axes: int, what: str, choices: Choices
) -> tuple[Tensor | None, Tensor | None]:
    """Which tokens of ids are measured, and which are attended to.

    Raises: DataError for a mask that nobody would heed, or that may mean two things.
    """
    shape = _shape(ids)

    def row(key: str) -> Tensor:
        return _truths(parts[key], shape, axes, f"'{key}' of {what}")

    attended = row("attention_mask") if parts.get("attention_mask") is not None else None
    for key in HIDDEN:
        if parts.get(key) is not None:
            attended = ~row(key) if attended is None else attended & ~row(key)
    measured = attended
    if parts.get("special_tokens_mask") is not None:
        plain = ~row("special_tokens_mask")
        measured = plain if measured is None else measured & plain
    own = choices.mask or ("mask" if parts.get("mask") is not None else None)
    if own is not None and own not in ("attention_mask", "special_tokens_mask", *HIDDEN):
        expect_key(own, list(parts), what, "mask")
        measured = row(own) if measured is None else measured & row(own)
    for key, value in parts.items():
        if "mask" in key and key not in (*_HEEDED, own) and value is not None:
            raise DataError(
                f"{what} holds '{key}'",
                "whether it is True for padding or for what is measured is not known",
                f"Call it attention_mask (1: text), or wp.data(..., mask='{key}') if it is True "
                "for what is measured, or leave it out",
            )
    _expect_plain(parts, what)
    return measured, attended


def _expect_plain(parts: Mapping[str, Any], what: str) -> None:
    """Refuse second segments and positions of one's own, which the model would not be given."""
    segments = parts.get(_SEGMENTS)
    if segments is not None and bool(np.asarray(segments).any()):
        raise DataError(
            f"{what} holds a second segment ('{_SEGMENTS}')",
            "the model is given ids and their padding alone",
            f"Pass single texts, or leave '{_SEGMENTS}' out",
        )
    if parts.get(_POSITIONS) is not None:
        at = np.asarray(parts[_POSITIONS])
        if not bool((at == np.arange(at.shape[-1])).all()):
            raise DataError(
                f"{what} holds '{_POSITIONS}' of its own",
                "the model counts positions from the first token that is no padding",
                f"Leave '{_POSITIONS}' out",
            )


def _shape(ids: Any) -> tuple[int, ...]:
    try:
        return tuple(np.shape(ids))
    except ValueError:  # rows of several lengths, told when they are stacked
        return ()


def _truths(value: Any, shape: tuple[int, ...], axes: int, what: str) -> Tensor:
    """A mask of 0 and 1, one a token.

    Raises: DataError.
    """
    try:
        found = torch.as_tensor(native(np.asarray(value)))
    except (TypeError, ValueError):
        found = torch.zeros(())
    is_whole = not (found.is_floating_point() or found.is_complex())
    fits = found.ndim == axes and (not shape or tuple(found.shape) == shape)
    if not fits or not is_whole or not bool(((found == 0) | (found == 1)).all()):
        raise DataError(
            f"{what} is no mask of the tokens",
            f"it has the shape {tuple(found.shape)}, and the ids {shape}"
            if not fits
            else "a mask is 0 and 1, or True and False",
            "Give one number a token",
        )
    return found.bool()
