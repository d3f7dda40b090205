"""Samples and batches by name: which key of a mapping is the input, the class, the mask.

The names are those that transformers, datasets, webdataset and torch code use. Where two fit, or
none does, that is told, with the option that chooses: nothing is guessed.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from whitebox_probe._core.errors import DataError, nearest
from whitebox_probe.data.choices import Choices

IMAGES = ("pixel_values", "image", "images", "img", "imgs", "picture", "pixels")
FILES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "image_bytes")
IDS = ("input_ids", "ids", "token_ids", "tokens", "idx")
TEXTS = ("text", "txt")
ANY = ("inputs", "input", "x", "data", "features")
LABELS = ("label", "labels", "class", "classes", "target", "targets", "y", "cls", "cls.txt")
_KNOWN = frozenset({*IMAGES, *FILES, *IDS, *TEXTS, *ANY, *LABELS})
HIDDEN = ("key_padding_mask", "src_key_padding_mask")
"""Torch's own masks: True is padding."""
ATTENDED = ("attention_mask", *HIDDEN)
_PATCHES = ("patch_coord", "patch_valid", "spatial_shapes", "image_grid_thw")
"""Beside images that were cut into patches, of which some are padding."""


def by_rows(column: Any) -> Any:
    """A column whose items are its rows: one of pandas gives them by its labels instead.

    A DataFrame among columns is rows of numbers, as masks are.
    """
    if not hasattr(column, "iloc") or not hasattr(column, "to_numpy"):
        return column
    return column.tolist() if column.ndim == 1 else [*column.to_numpy()]


def named_parts(whole: Any) -> Mapping[str, Any] | None:
    """A sample or a batch whose parts have names, as a mapping; None for any other."""
    if isinstance(whole, Mapping):  # wids' keys begin with a point, as ends of names do
        return {str(key).removeprefix("."): value for key, value in whole.items()}
    if isinstance(whole, tuple) and hasattr(whole, "_fields"):
        found = dict(zip(whole._fields, whole, strict=True))
        return found if found.keys() & _KNOWN.union(ATTENDED) else None  # else by their places
    if dataclasses.is_dataclass(whole) and not isinstance(whole, type):
        return {each.name: getattr(whole, each.name) for each in dataclasses.fields(whole)}
    return None


def kind_of(key: str) -> str | None:
    """What an input is by its key: "images" or "text"; None where that does not tell."""
    if key.lower() in (*IMAGES, *FILES):
        return "images"
    return "text" if key.lower() in (*IDS, *TEXTS) else None


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
    own = choices.input_name
    if own in keys and own not in ANY:  # such a name says nothing beside one that does
        return own
    pictures, texts = (*IMAGES, *FILES), (*IDS, *TEXTS)
    groups = {"images": (pictures, ANY), "text": (texts, ANY)}.get(
        reads or "", ((*pictures, *texts), ANY)
    )
    for group in (*groups, FILES):
        fitting = [key for key in keys if key.lower() in group]
        if group == FILES and reads != "text":  # of a shard: `left.jpg`
            fitting = [key for key in keys if key.lower().rpartition(".")[2] in group]
        if own in fitting or len(fitting) == 1:
            return own if own in fitting else fitting[0]
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
