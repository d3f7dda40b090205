"""Images as a model's inputs, prepared as it was trained."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from whitebox_probe._core.errors import DataError, nearest
from whitebox_probe.models.preprocess import Preprocess

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # TIFF 6.0, section 8
_ONE_WAY = {"La": "LA", "RGBa": "RGBA", "LAB": "RGB"}
"""Modes that Pillow converts into one other alone: multiplied by their opacity, and CIE L*a*b*."""
Transform = Callable[[Image.Image], Tensor]


def eight_bits(image: Image.Image, name: str = "the picture") -> Image.Image:
    """A picture whose pixels have 8 bits a channel, as every model's preprocessing takes them.

    Of 16 bits, each grey g becomes g/257, rounded: black stays 0, and white becomes 255. Pillow
    would cut all above 255 off. A TIFF may state fewer bits, or that white is 0: both are heeded.
    Other modes are left as they are.

    Raises: DataError for pixels of 32 bits or fractions, whose white no file states.
    """
    if image.mode in _ONE_WAY:
        return image.convert(_ONE_WAY[image.mode])
    # So Pillow opens 16 bits of a PGM, stretched to them if it has fewer, and of a PNG before 11.3.
    of_16 = image.mode == "I" and image.format in ("PNG", "PPM")
    if of_16 or image.mode.startswith("I;16"):
        white, reversed_ = scale(image)
        greys = np.asarray(image).astype(np.float64) * (255 / white)
        return Image.fromarray(np.rint(255 - greys if reversed_ else greys).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"the white of {name} is not known",
            f"its pixels are {'fractions' if image.mode == 'F' else 'numbers'} of 32 bits",
            "Save it with 8 or 16 bits a pixel",
        )
    return image


def scale(image: Image.Image) -> tuple[int, bool]:
    """The largest grey of more than 8 bits, and whether it stands for black."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF alone
    bits = tags.get(_BITS_PER_SAMPLE, 16)
    bits = bits[0] if isinstance(bits, tuple) else bits
    return 2**bits - 1, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO


RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


CROP_MODES = ("center", "squash", "border")


def transform_of_images(preprocess: Preprocess) -> Transform:
    """What makes a model's input of an image."""
    if preprocess.processor is not None:
        from whitebox_probe.models.processors import Processed

        return Processed(preprocess)
    return image_transform(
        size=preprocess.size,
        mean=preprocess.mean,
        std=preprocess.std,
        mode=preprocess.mode,
        crop=preprocess.crop,
        interpolation=preprocess.interpolation,
        crop_mode=preprocess.crop_mode,
    )


def image_transform(
    *,
    size: int | tuple[int, int],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    mode: str,
    crop: float,
    interpolation: str,
    crop_mode: str = "center",
) -> Transform:
    """PIL image -> normalised tensor (C, height, width): resize, centre crop, scale, normalise.

    The same to the last bit as torchvision's Resize, CenterCrop, PILToTensor and Normalize of a PIL
    image, and as timm's transform of a size that is no square or another crop mode (tested). Theirs
    are not called because `import torchvision` alone takes over a second, which every first probe
    would wait for.

    Args: as of `Preprocess`.
    Raises: DataError for an interpolation or a crop mode that is not known.
    """
    for value, allowed, what, why in (
        (interpolation, RESAMPLING, "interpolation", "it says how an image is resized"),
        (crop_mode, CROP_MODES, "crop_mode", "it says what becomes of its proportions"),
    ):
        if value not in allowed:
            raise DataError(f"unknown {what} '{value}'", why, nearest(value, allowed))
    how = RESAMPLING[interpolation]
    high, wide = (size, size) if isinstance(size, int) else size
    # Whatever the caller's default type is.
    centre, spread = (
        torch.tensor(each, dtype=torch.float32)[:, None, None] for each in (mean, std)
    )
    colour = (
        tuple(round(255 * each) for each in mean) if crop_mode == "border" else (0,) * len(mean)
    )

    def apply(image: Image.Image) -> Tensor:
        whole = eight_bits(image).convert(mode)
        wanted = _resized(whole.size, (wide, high), crop, crop_mode)
        resized = whole if wanted == whole.size else whole.resize(wanted, how)
        left, top = map(_edge, wanted, (wide, high))
        # Of an image that is smaller than the crop, what lies outside is black, or a border.
        canvas = Image.new(mode, (wide, high), colour if len(colour) > 1 else colour[0])
        canvas.paste(resized, (-left, -top))
        tensor = torch.from_numpy(np.array(canvas)).reshape(high, wide, -1).permute(2, 0, 1)
        return (tensor.float() / 255 - centre) / spread

    return apply


def _resized(
    sides: tuple[int, int], model: tuple[int, int], crop: float, crop_mode: str
) -> tuple[int, int]:
    """Width and height of an image before it is cropped to the model's."""
    scaled = (int(model[0] / crop), int(model[1] / crop))
    if crop_mode == "squash":
        return scaled
    if crop_mode == "center" and scaled[0] == scaled[1]:  # the shorter side, as torchvision has it
        short, long = scaled[0], int(scaled[0] * max(sides) / min(sides))
        return (short, long) if sides[0] <= sides[1] else (long, short)
    ratios = [side / target for side, target in zip(sides, scaled, strict=True)]
    ratio = max(ratios) if crop_mode == "border" else min(ratios)
    return round(sides[0] / ratio), round(sides[1] / ratio)


def _edge(side: int, size: int) -> int:
    """Where the middle `size` pixels of a side begin: before it, if they are more than it has."""
    return -((size - side) // 2) if side < size else round((side - size) / 2)
