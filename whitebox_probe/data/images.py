"""Images as a model's inputs, prepared as it was trained."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from whitebox_probe._core.errors import DataError

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


def image_transform(
    *,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    mode: str,
    crop: float,
    interpolation: str,
) -> Transform:
    """PIL image -> normalised tensor (C, size, size): resize, centre crop, scale, normalise."""
    from torchvision.transforms import v2

    how = v2.InterpolationMode(interpolation)
    steps: list[Any] = [
        v2.Resize(int(size / crop), interpolation=how, antialias=True),
        v2.CenterCrop(size),
        v2.PILToTensor(),
    ]

    def apply(image: Image.Image) -> Tensor:
        out = eight_bits(image).convert(mode)
        for step in steps:
            out = step(out)
        tensor: Tensor = out  # type: ignore[assignment]
        return v2.functional.normalize(tensor.float() / 255, list(mean), list(std))

    return apply
