"""Image processors of transformers: the model's own one prepares its images, to the bit."""

import json
import re
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from whitebox_probe._core.discover import is_class_of
from whitebox_probe._core.errors import CheckpointError, DataError, LoadWarning
from whitebox_probe._core.gate import Unfit, expect, is_file, read_mapping
from whitebox_probe._core.lines import shown
from whitebox_probe.models.arguments import expect_values
from whitebox_probe.models.configuration import copy_of, transformers, unsteered
from whitebox_probe.models.hub import CONFIG, PROCESSORS
from whitebox_probe.models.images import eight_bits
from whitebox_probe.models.preprocess import Preprocess

_MOST = 1 << 22  # bytes of a processor's settings
_RESAMPLING = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_TYPES = ("image_processor_type", "feature_extractor_type")
_PLACES = re.compile(r"(^|_)(file|files|path|dir|repo|url|metadata)($|_)")
"""Settings that say where something is: OneFormer's processor fetches what two of them name."""
_OPEN = {
    "do_resize": "the processor leaves their sizes as they are (do_resize is false)",
    "do_center_crop": "the processor keeps their proportions, and cuts nothing off "
    "(do_center_crop is false)",
    "": "the processor makes pictures of several sizes",
}


def preprocess_in(folder: Path, *, size: tuple[int, int], channels: int) -> Preprocess | None:
    """How the image processor in a folder prepares images; None, with a warning, if it cannot.

    Args: folder: as `save_pretrained` writes it. size: of the images that the model is for.
    """
    from transformers import AutoImageProcessor

    try:
        with copy_of(folder) as place:
            for file in (CONFIG, *PROCESSORS):
                if is_file(folder / file):
                    kept = _settings(folder / file)
                    (place / file).write_text(json.dumps(kept), encoding="utf-8")
            made = AutoImageProcessor.from_pretrained(place, trust_remote_code=False)
            stated = json.loads(made.to_json_string())
            # Which of two implementations it is: they resize by torchvision, and by PIL.
            stated["image_processor_type"] = type(made).__name__
            return described(stated, size=size, channels=channels)
    except (Unfit, CheckpointError) as why:  # its checks raise errors of many kinds
        warnings.warn(
            LoadWarning(
                f"how images are prepared for the model of {folder} is not known",
                f"its image processor cannot be made: {why}",
                "Say it with preprocess=, such as preprocess='imagenet'",
            ),
            stacklevel=2,
        )
        return None


def _settings(path: Path) -> dict[str, Any]:
    """What a processor's or a model's configuration says, but of code and of other files.

    transformers calls whichever of its classes is named as the processor's.

    Raises: Unfit for a class that is no image processor; CheckpointError.
    """
    places = None if path.name == CONFIG else _PLACES
    stated = unsteered(read_mapping(path, most=_MOST), places)
    expect_values(stated, family="hf", source=path.name)
    inner = stated.get("image_processor")
    for each in (stated, inner if isinstance(inner, Mapping) else {}):
        for key in _TYPES:
            if each.get(key) is not None and not _is_processor(each[key]):
                raise Unfit(f"its {key} {shown(each[key], 60)} is no image processor")
    return stated


def _is_processor(name: Any) -> bool:
    """Whether transformers has an image processor, or a feature extractor, of that name."""
    library = transformers()
    if not isinstance(name, str) or not name.isidentifier():
        return False
    plain = name.removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor")
    several = [getattr(library, plain + ending, None) for ending in ("", "Fast", "Pil")]
    there = [each for each in several if each is not None]
    base = library.image_processing_base.ImageProcessingMixin
    return bool(there) and all(is_class_of(each, base) for each in there)


def described(stated: Mapping[str, Any], *, size: tuple[int, int], channels: int) -> Preprocess:
    """A processor's settings, and in the words of `Preprocess` what they do.

    Args: size: of the model's images, for a processor that leaves it open.
    Raises: Unfit for values of other types than transformers gives them.
    """
    expect(_SCHEMA, stated)
    scale = 255 * stated.get("rescale_factor", 1 / 255) if stated.get("do_rescale") else 255.0
    normal = bool(stated.get("do_normalize"))
    mean, std = (
        _each(stated.get(key) if normal else plain, channels)
        for key, plain in (("image_mean", 0.0), ("image_std", 1.0))
    )
    high, wide = _size(stated) or size
    crop, crop_mode = _cut(stated)
    plain = {key: value for key, value in stated.items() if value is not None}
    return Preprocess(
        size=high if high == wide else (high, wide),
        mean=tuple(each / scale for each in mean),
        std=tuple(each / scale for each in std),
        mode="L" if channels == 1 else "RGB",
        crop=crop,
        interpolation=_RESAMPLING.get(stated.get("resample", 2), "bilinear"),
        crop_mode=crop_mode,  # type: ignore[arg-type]  # one of two of them
        processor=json.dumps(plain, sort_keys=True),
    )


def _numbers(**bounds: Any) -> dict[str, Any]:
    one = {"type": "number", **bounds}
    return {"anyOf": [{"type": "null"}, one, {"type": "array", "items": one, "minItems": 1}]}


_SIDE: dict[str, Any] = {"type": ["integer", "null"], "minimum": 1, "maximum": 1 << 13}
_SIZE: dict[str, Any] = {
    "if": {"type": "object"},
    "then": {"properties": dict.fromkeys(("height", "width", "shortest_edge"), _SIDE)},
    "else": {"if": {"type": "integer"}, "then": _SIDE},
}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "rescale_factor": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "image_mean": _numbers(),
        "image_std": _numbers(exclusiveMinimum=0),
        "resample": {"type": ["integer", "null"], "minimum": 0, "maximum": 5},
        **dict.fromkeys(("size", "crop_size", "pad_size"), _SIZE),
    },
    "patternProperties": {"^do_": {"type": ["boolean", "null"]}},
}
"""What is computed with: transformers takes a text or a negative number as it comes."""


class Processed:
    """What makes a model's input of an image: its own processor, as transformers calls it."""

    def __init__(self, preprocess: Preprocess) -> None:
        assert preprocess.processor is not None
        self.processor: str = preprocess.processor
        self.mode = preprocess.mode
        size = preprocess.size
        self.size = (size, size) if isinstance(size, int) else size

    def __call__(self, image: Image.Image) -> Tensor:
        """The image as the processor prepares it, (C, height, width).

        Raises: DataError for an image that the processor brings to another size than the model's.
        """
        whole = eight_bits(image).convert(self.mode)
        made = _made(self.processor)
        found = made(images=whole, return_tensors="pt")["pixel_values"]
        if found.shape[0] != 1 or found.ndim != 4:
            raise DataError(
                "an image is not prepared as one",
                f"a {type(made).__name__} makes a tensor {tuple(found.shape)} of it",
                "Load it with a Preprocess of its own",
            )
        if tuple(found.shape[2:]) != self.size:
            raise self._of_another_size(whole)
        return found[0].float()

    def _of_another_size(self, image: Image.Image) -> DataError:
        stated, (high, wide) = json.loads(self.processor), self.size
        setting = next((key for key in ("do_resize", "do_center_crop") if not stated.get(key)), "")
        return DataError(
            f"an image of {image.height} x {image.width} does not become one of {high} x {wide}",
            _OPEN[setting],
            f"Bring the images to {high} x {wide} pixels first, or load it with a Preprocess of "
            "its own",
        )


@cache
def _made(processor: str) -> Any:
    """The processor of these settings."""
    import transformers

    stated = json.loads(processor)
    return getattr(transformers, stated["image_processor_type"]).from_dict(stated)


def _each(value: Any, channels: int) -> tuple[float, ...]:
    """A number for each channel."""
    several = value if isinstance(value, list | tuple) else [value] * channels
    if len(several) < channels:
        raise Unfit(f"it normalises {len(several)} channels, and the images have {channels}")
    return tuple(float(each) for each in several[:channels])


def _size(stated: Mapping[str, Any]) -> tuple[int, int] | None:
    """The height and width that a processor brings images to; None where it leaves them as is.

    Where it keeps the proportions and cuts nothing off, it is that of a square.
    """
    for does, key in (
        ("do_pad", "pad_size"),
        ("do_center_crop", "crop_size"),
        ("do_resize", "size"),
    ):
        size = stated.get(key) if stated.get(does) else None
        if isinstance(size, Mapping) and size.get("height") and size.get("width"):
            return int(size["height"]), int(size["width"])
        if isinstance(size, Mapping) and size.get("shortest_edge"):
            return int(size["shortest_edge"]), int(size["shortest_edge"])
    return None


def _cut(stated: Mapping[str, Any]) -> tuple[float, str]:
    """The share that is kept of the resized picture, and whether it keeps its proportions."""
    size = (stated.get("size") if stated.get("do_resize") else None) or {}
    cut = (stated.get("crop_size") if stated.get("do_center_crop") else None) or {}
    whole = size.get("shortest_edge") or size.get("height")
    share = cut["height"] / whole if whole and cut.get("height") else 1.0
    return share, "squash" if size.get("height") else "center"
