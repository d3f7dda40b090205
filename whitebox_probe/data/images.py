"""Images from folders and arrays, prepared as a model was trained."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from whitebox_probe._core.errors import DataError

Transform = Callable[[Image.Image], Tensor]
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})


class ImageFolder(Dataset[Any]):
    """Every image below a folder, in the sorted order of their paths.

    Where every image lies in a subfolder, the first one's name is its class, as torchvision has it.

    The fingerprint hashes relative paths and sizes in bytes, not contents: 50,000 images would
    take minutes to hash.

    Raises: DataError for a folder without images; on reading, for a file that is no image.
    """

    def __init__(self, folder: Path, transform: Transform) -> None:
        self.files = sorted(
            path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()
        )
        if not self.files:
            raise DataError(
                f"the folder {folder} holds no image",
                f"no file in it ends in {', '.join(sorted(SUFFIXES))}",
                "Pass a folder of images; subfolders are searched too",
            )
        self.transform = transform
        first = [path.relative_to(folder).parts[:-1][:1] for path in self.files]
        names = {name: i for i, name in enumerate(sorted({n for part in first for n in part}))}
        self.classes = [names[part[0]] for part in first] if all(first) else None
        listing = "\n".join(f"{p.relative_to(folder)} {p.stat().st_size}" for p in self.files)
        self.fingerprint = hashlib.sha256(listing.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int]:
        """The prepared image, with its class if the subfolders say it."""
        path = self.files[index]
        try:
            with Image.open(path) as image:
                image.load()
                prepared = self.transform(image)
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise DataError(
                f"{path} is not a readable image", str(error), "Remove the file or replace it"
            ) from error
        return prepared if self.classes is None else (prepared, self.classes[index])


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
        out = image.convert(mode)
        for step in steps:
            out = step(out)
        tensor: Tensor = out  # type: ignore[assignment]
        return v2.functional.normalize(tensor.float() / 255, list(mean), list(std))

    return apply
