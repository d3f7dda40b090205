"""Images as a model's inputs, prepared as it was trained."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from whitebox_probe._core.errors import DataError, nearest
from whitebox_probe.data import _digest

Transform = Callable[[Image.Image], Tensor]


def eight_bits(image: Image.Image, name: str = "the picture") -> Image.Image:
    """A picture whose pixels have 8 bits a channel, as every model's preprocessing takes them.

    Of 16 bits, each grey g becomes g/257, rounded: black stays 0, and white becomes 255. Pillow
    would cut all above 255 off. Other modes are left as they are.

    Raises: DataError for pixels of 32 bits or fractions, whose white no file states.
    """
    of_png = image.mode == "I" and image.format == "PNG"  # so Pillow opens 16 bits before 11.3
    if of_png or image.mode.startswith("I;16"):
        return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise DataError(
            f"the white of {name} is not known",
            f"its pixels are {'fractions' if image.mode == 'F' else 'numbers'} of 32 bits",
            "Save it with 8 or 16 bits a pixel",
        )
    return image


class ImageArray(Dataset[tuple[Tensor, int]]):
    """Images of one array, (N, H, W) or (N, H, W, 3) of bytes, with their labels."""

    def __init__(
        self, images: NDArray[np.uint8], labels: NDArray[np.int64], transform: Transform
    ) -> None:
        self.images = images
        self.labels = labels
        self.transform = transform

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The prepared image and its label."""
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])

    def identify(self, index: int) -> int:
        """What tells the image apart, before it is prepared."""
        return _digest.of_sample(self.images[index])


RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "nearest-exact": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


def image_transform(
    *,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    mode: str,
    crop: float,
    interpolation: str,
) -> Transform:
    """PIL image -> normalised tensor (C, size, size): resize, centre crop, scale, normalise.

    The same to the last bit as torchvision's Resize, CenterCrop, PILToTensor and Normalize of a PIL
    image (tested). Theirs are not called because `import torchvision` alone takes over a second,
    which every first probe would wait for.

    Raises: DataError for an interpolation that is not known.
    """
    if interpolation not in RESAMPLING:
        raise DataError(
            f"unknown interpolation '{interpolation}'",
            "it says how an image is resized",
            nearest(interpolation, RESAMPLING),
        )
    how, short = RESAMPLING[interpolation], int(size / crop)
    centre, spread = (torch.tensor(each)[:, None, None] for each in (mean, std))

    def apply(image: Image.Image) -> Tensor:
        whole = eight_bits(image).convert(mode)
        sides = sorted(whole.size)
        long = int(short * sides[1] / sides[0])
        wide, high = whole.size
        wanted = (short, long) if wide <= high else (long, short)
        resized = whole if wanted == whole.size else whole.resize(wanted, how)
        # Of an image that is smaller than the crop, what lies outside is black.
        left, top = (
            -((size - side) // 2) if side < size else round((side - size) / 2) for side in wanted
        )
        pixels = np.array(resized.crop((left, top, left + size, top + size)))
        tensor = torch.from_numpy(pixels).reshape(size, size, -1).permute(2, 0, 1)
        return (tensor.float() / 255 - centre) / spread

    return apply
