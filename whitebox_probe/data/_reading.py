"""From what data give, a sample or a loader's batch, to the tensor that a model takes.

Fractions are a model's inputs as they are, as are the ids of tokens. Whatever holds pixels (a PIL
image, the path or the bytes of a file, whole numbers of two axes or three) is prepared as an image
of a file is.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whitebox_probe._core.arrays import native
from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _digest, _keys, _prepared
from whitebox_probe.data._masks import is_vectors
from whitebox_probe.data._parts import Parts, beside_one, expect_unmasked, input_of, parts_of
from whitebox_probe.data.choices import Choices
from whitebox_probe.data.images import Transform
from whitebox_probe.data.text import TextReader
from whitebox_probe.models.pictures import CHANNELS, is_black, is_encoded, picture_of, white_of

_PIXELS, _WHITE_OF_16 = 32, 65535
"""Numbers of this size are pixels, unless the model's own preprocessing makes such of white."""
_MARGIN = 4


@dataclass(frozen=True)
class Reading:
    """How samples are read for one model.

    Attributes: transform: makes its input of an image, or of a text; None if that is not known.
        choices: of the user, and what is known of the model's input. seen: what white was in the
        fractions of the first samples that were read, where not all are known beforehand.
    """

    transform: Transform | TextReader | None = None
    choices: Choices = Choices()
    seen: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def reads(self) -> str | None:
        """What the model takes: "images", "text", or not known."""
        if self.transform is not None:
            return "text" if isinstance(self.transform, TextReader) else "images"
        name = self.choices.input_name
        return "images" if name in _keys.IMAGES else "text" if name in _keys.IDS else None

    def parts(self, whole: Any, axes: int, what: str) -> Parts:
        """The parts of a sample (axes 1) or of a batch (axes 2), the input as it was given."""
        return parts_of(whole, axes, what, self.choices, self.reads)

    def sample(
        self, whole: Any, what: str, *, identify: bool = True, copy: bool = False
    ) -> tuple[Parts, int]:
        """A sample, its input as a tensor, and what tells it apart (0 if not asked).

        Args: copy: of tensors that are the data's own, which these may write the next one into.
        Raises: DataError.
        """
        parts = self.parts(whole, 1, what)
        made = self._one(parts.inputs, what)
        if copy:
            made = made.clone() if made is parts.inputs else made
            masks = (parts.mask, parts.attended)
            mask, attended = (None if each is None else each.clone() for each in masks)
            parts = replace(parts, mask=mask, attended=attended)
        known = self._identity(parts.inputs, made, parts.mask, parts.attended) if identify else 0
        return replace(parts, inputs=made), known

    def batch(self, whole: Any, what: str, room: int | None) -> tuple[Parts, list[int]]:
        """At most `room` samples of a loader's batch, and what tells each apart.

        Raises: DataError.
        """
        parts = self.parts(whole, 2, what)
        given = parts.inputs
        expect_plain(given, what)
        if isinstance(given, np.ndarray):
            given = self.cast(given)
        raw = isinstance(given, list) or (
            isinstance(given, Tensor) and self._holds_pixels(given, axes=2)
        )
        if not raw and (not isinstance(given, Tensor) or given.ndim == 0):
            raise DataError(
                f"{what} is a {type(given).__name__}",
                "the model takes tensors",
                "Let it give tensors (B, ...), or pairs of them and classes (B,) or masks (B, n)",
            )
        _expect_as_many(parts, len(given), what)
        items = list(given[:room])
        nothing = [None] * len(items)
        masks, attended = (
            nothing if each is None else list(each[:room]) for each in (parts.mask, parts.attended)
        )
        if raw:
            self._white_of(items)
            made = [self._one(item, f"image {n} of {what}") for n, item in enumerate(items)]
            inputs = _stacked(made, what) if made else torch.empty(0)
        else:
            assert isinstance(given, Tensor)
            inputs = self._as_it_is(given[:room], what, axes=given.ndim - 1)
            made = list(inputs)
        known = [self._identity(*each) for each in zip(items, made, masks, attended, strict=True)]
        cut: dict[str, Any] = {
            name: None if (value := getattr(parts, name)) is None else value[:room]
            for name in ("label", "mask", "attended")
        }
        return replace(parts, inputs=inputs, **cut), known

    def is_single(self, whole: Any, *, usual: bool = False) -> bool:
        """Whether what a stream, or a loader without a batch size, gives is one sample.

        Whole numbers for a model of texts are ids (n,), images (C, H, W); other samples have the
        axes of the example that the model was tried on.

        Args: usual: whether it is one where that is not known, nor told by what stands beside it.
        """
        what = "what the loader gives"
        given = input_of(whole, what, self.choices, self.reads)
        if isinstance(given, list) and not all(isinstance(each, int) for each in given):
            return False
        if not isinstance(given, np.ndarray | Tensor):
            return True
        axes = self.choices.sample_axes
        if self.reads == "text" and not is_vectors(given):
            axes = 1
        elif self.reads == "images":
            axes = 3
        if axes is not None:
            return bool(given.ndim <= axes)
        told = beside_one(whole, what, self.choices)
        return told if told is not None else usual

    def _may_be_image(self, item: Any) -> bool:
        """Whether what is no tensor may be an image; of a text that is only known of the model."""
        if isinstance(item, str | Path):
            return self.transform is not None
        return isinstance(item, Image.Image | bytes | bytearray | None) or is_encoded(item)

    def _holds_pixels(self, item: Tensor, axes: int = 1) -> bool:
        """Whether an image (axes 1), or a batch of them (2), is of pixels to be prepared."""
        if item.is_floating_point():
            return self.choices.pixels and item.ndim > axes
        of_text = self.reads == "text" or (self.reads is None and item.dtype == torch.int64)
        return not of_text and item.ndim > axes and item.dtype != torch.bool

    def _one(self, item: Any, what: str) -> Tensor:
        """The input of one sample."""
        given = item
        expect_plain(item, what)
        if isinstance(item, np.ndarray) and item.dtype.kind in "biuf":
            given = self.cast(item)
        elif isinstance(item, list) and item:
            given = _of_list(item, what)
        if isinstance(given, Tensor):
            if not self._holds_pixels(given):
                return self._as_it_is(given, what, axes=given.ndim)
            item = given if isinstance(item, list) else item
        elif not self._may_be_image(item):
            raise DataError(
                f"{what} is a {type(item).__name__}",
                "the model takes tensors",
                "Give the Dataset a transform that makes a tensor",
            )
        if isinstance(item, str) and self.reads == "text":
            raise DataError(
                f"{what} is a text",
                "texts are cut into windows before they are put into batches",
                "Pass the texts themselves: a list, a Dataset, a column or a stream of them",
            )
        if isinstance(item, str) and not os.path.exists(item):
            raise DataError(
                f"{what} is a text, and no path of a file ('{item[:60]}')",
                "the model reads images",
                "Pass images or their paths, or use a language model",
            )
        if item is None:
            raise DataError(f"{what} is None", "it holds no input", "Leave it out")
        transform = _prepared.for_images(self.transform, what)
        return transform(picture_of(item, what, self._white_of(item)))

    def _white_of(self, items: Any) -> int | None:
        """What white is in fractions: that of all, or of the first samples that were read.

        Black ones tell none, and are the same with any: those behind them do.
        A later one that is brighter is refused: those before were taken for others than they are.
        """
        if self.choices.white is not None or not self.choices.pixels:
            return self.choices.white
        if "white" not in self.seen and not is_black(items):
            found = white_of(items)
            if found is not None:
                self.seen["white"] = found
        return self.seen.get("white")

    def _as_it_is(self, item: Tensor, what: str, axes: int) -> Tensor:
        """An input of the model's own kind: fractions, or ids as 64 bits.

        Args: axes: of a sample.
        Raises: DataError for what is no image of a model that takes such, and for fractions that
            are pixels by their size.
        """
        if self.reads == "images" and self.transform is not None:
            _expect_image(item, what, axes)
        if not item.is_floating_point():
            small = item.dtype in (torch.uint8, torch.int8, torch.int16, torch.uint16, torch.uint32)
            return item.long() if small else item
        item = item.float() if item.itemsize == 1 else item  # of which torch compares few
        if self.reads == "images" and item.numel() and not item.is_nested:
            if item.ndim > 2 and item.shape[-1] in CHANNELS and item.shape[-3] not in CHANNELS:
                raise DataError(
                    f"{what} of shape {tuple(item.shape)} has its channels last",
                    "fractions are a model's inputs as they are, and it takes (C, H, W)",
                    "Move that axis, or pass wp.data(..., pixels=True) if white is 1",
                )
            low, high = item.aminmax()
            if low >= 0 and _PIXELS < high <= _WHITE_OF_16 and high > _MARGIN * self._white:
                raise DataError(
                    f"{what} holds fractions from {float(low):g} to {float(high):g}",
                    "fractions are a model's inputs as they are, which are normalised; these look "
                    "like pixels",
                    "Pass whole numbers (uint8), wp.data(..., pixels=True), or model.prepare(...)",
                )
        return item

    @cached_property
    def _white(self) -> float:
        """What the model's preprocessing makes of white; of none that is known, nothing special."""
        if self.transform is None:
            return 1.0
        assert not isinstance(self.transform, TextReader)
        high, wide = getattr(self.transform, "size", (16, 16))  # some take no other one
        return float(self.transform(Image.new("RGB", (wide, high), "white")).max())

    def cast(self, array: np.ndarray[Any, Any]) -> Tensor:
        """An array as a tensor: of 64 bits, NumPy's own default, as the model's weights are."""
        found = _tensor(array)
        is_wide = found.dtype == torch.float64 and self.choices.dtype is not None
        return found.to(self.choices.dtype) if is_wide else found

    def _identity(
        self, item: Any, made: Tensor, mask: Tensor | None, attended: Tensor | None
    ) -> int:
        """64 bits that tell what a sample is, before it is prepared where that can be had."""
        hides = attended is not None and mask is not None and not bool(attended.all())
        if made.is_floating_point() and hides:  # what the model is given is a part of its input
            mask = torch.cat([mask, attended])  # type: ignore[list-item]
        if isinstance(item, Image.Image):
            return _digest.of_picture(item)
        if is_encoded(item):
            item = item["path"] if item["bytes"] is None else item["bytes"]
        if isinstance(item, list) and item:
            item = _of_list(item, "")
        if isinstance(item, str | Path):
            item = Path(item).read_bytes()
        if isinstance(item, bytes | bytearray):
            return _digest.of_bytes(bytes(item))
        if isinstance(item, Tensor | np.ndarray) and made.is_floating_point():
            return _digest.of_sample(item, mask)
        return _digest.of_sample(made, mask)


def _expect_image(item: Tensor, what: str, axes: int) -> None:
    """Refuse for a model of images what is no input of it, and not said to be pixels.

    Raises: DataError.
    """
    if item.dtype == torch.bool:
        raise DataError(
            f"{what} holds truth values",
            "the model takes fractions, or whole numbers that are pixels",
            "Pass whole numbers (uint8), 255 where white is",
        )
    if item.is_floating_point() and axes == 2:
        raise DataError(
            f"{what} of shape {tuple(item.shape)} has no axis of channels",
            "fractions are a model's inputs as they are, and it takes (C, H, W)",
            "Pass wp.data(..., pixels=True) if white is 1, or inputs with that axis",
        )


def knowing_white(choices: Choices, inputs: Any) -> Choices:
    """The choices for data whose inputs are all known: one white for all that are pixels."""
    return replace(choices, white=white_of(inputs)) if choices.pixels else choices


def _expect_as_many(parts: Parts, count: int, what: str) -> None:
    """Refuse a batch with more classes or masks than inputs, or fewer.

    Raises: DataError.
    """
    beside = {"classes": parts.label, "masks": parts.mask, "padding masks": parts.attended}
    for told, value in beside.items():
        if value is not None and len(value) != count:
            raise DataError(
                f"{what} has {count} inputs and {len(value)} {told}",
                "which of them belong together is not known",
                "Give one to each input, or none",
            )


_WHOLE = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)))
_FRACTIONS = ("bfloat16", "float16", "float32", "float64")


def _is_known(dtype: torch.dtype) -> bool:
    """Whether NumPy has such numbers, or they are read as a type that it has."""
    name = str(dtype).removeprefix("torch.")
    return name in _WHOLE or name in _FRACTIONS or name.startswith("float8")


def _is_read(item: Tensor) -> bool:
    """Whether a tensor's numbers can be had, as those of some classes that wrap it cannot."""
    try:
        if item._is_zerotensor():  # whose numbers have no place: NumPy would end the process
            return False
        _digest.as_numpy(item[:0] if item.ndim else item)
    except Exception:  # whatever such a class raises
        return False
    return True


def expect_plain(item: Any, what: str) -> None:
    """Refuse a tensor that has no numbers of its own, one for each entry: (B, ...).

    Raises: DataError.
    """
    expect_unmasked(item, what)
    if not isinstance(item, Tensor):
        return
    kinds = {
        "on the meta device, without numbers": item.is_meta,
        "of complex numbers": item.is_complex(),
        "quantised": item.is_quantized,
        "nested": item.is_nested,
        "sparse": item.layout != torch.strided and not item.is_nested,
        f"of {str(item.dtype).removeprefix('torch.')}": not _is_known(item.dtype),
        "without numbers that can be read": not _is_read(item),
    }
    for told, found in kinds.items():
        if found:
            raise DataError(
                f"{what} is {told}", "a model takes dense tensors of real numbers", "Convert it"
            )


def _tensor(array: Any) -> Tensor:
    """An array of numbers as a tensor of its own memory."""
    return torch.tensor(np.ascontiguousarray(native(array)))


def _of_list(item: list[Any], what: str) -> Any:
    """A list of numbers, or of rows of them, as a tensor; any other list as it is."""
    for each in item:
        expect_unmasked(each, what)
    try:
        array = native(np.asarray(item))
    except ValueError as error:
        raise DataError(
            f"{what} is a list of several lengths", str(error).split(".")[0], "Make an array of it"
        ) from error
    if array.dtype.kind == "f":
        return torch.from_numpy(array.astype(np.float32))
    return torch.from_numpy(array) if array.dtype.kind in "iu" else item


def _stacked(items: Sequence[Tensor], what: str) -> Tensor:
    shapes = list(dict.fromkeys(tuple(each.shape) for each in items))
    if len(shapes) > 1:
        raise DataError(
            f"the inputs of {what} are of several shapes",
            f"{shapes[0]} and {shapes[1]}",
            "Give all one shape, or pass a Dataset and batch_size=1",
        )
    return torch.stack(list(items))
