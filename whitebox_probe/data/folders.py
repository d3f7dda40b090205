"""A folder of images."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _prepared, names
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})


class Folders(Kind):
    """A folder of images, at any depth."""

    name = "folder"
    words = "a folder of images (any depth)"
    reads = "images"
    by_path = True
    exempt = {"not finite": "pixels are whole numbers"}

    def takes(self, data: Any) -> bool:
        """Whether it is the path of a folder."""
        path = names.path_of(data)
        return path is not None and os.path.isdir(path)  # a name of any length

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The folder's images, each prepared when it is read."""
        folder = Path(data)
        images = ImageFolder(folder, _prepared.for_images(transform, str(data)))
        return Opened(images, folder.name, images.fingerprint)

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Six pictures of one grey each, in two subfolders; one that is a text inside."""
        greys = {
            "plain": range(6),
            "other": range(100, 150, 8),
            "empty": (),
            "wrong type": range(5),
        }
        for what, values in greys.items():
            (folder / what / "a").mkdir(parents=True)
            (folder / what / "b").mkdir()
            for i, grey in enumerate(values):
                # Another size in pixels, as contents are not hashed.
                size = (9 + 9 * (what == "other"), 9)
                Image.new("L", size, grey).save(folder / what / "ab"[i % 2] / f"{i}.png")
        (folder / "wrong type" / "a" / "5.png").write_text("no picture")
        return {what: folder / what for what in greys}


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
