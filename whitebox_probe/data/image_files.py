"""Images by the paths of their files: one, or a pattern; or a picture itself."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from whitebox_probe._core.errors import DataError
from whitebox_probe._core.hashing import digest_of
from whitebox_probe.data import _paths, _prepared, names
from whitebox_probe.data.datasets import Datasets
from whitebox_probe.data.folders import SUFFIXES, ImageFolder
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader


class ImageFiles(Kind):
    """The files of a path or a pattern that ends as images do; they are samples without classes."""

    name = "image_file"
    words = "an image, its file, or a pattern such as 'photos/*.jpg'"
    reads = "images"
    by_path = True
    options = frozenset[str]()
    exempt = {
        "empty": "a pattern that no file fits is told as such, and names no data",
        "not finite": "pixels are whole numbers: a picture of fractions is refused",
    }

    def takes(self, data: Any) -> bool:
        """Whether it is a picture, or a path that ends like one and is no folder."""
        if isinstance(data, Image.Image):
            return True
        path = names.path_of(data)
        return path is not None and path.suffix.lower() in SUFFIXES and not os.path.isdir(path)

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The files, each prepared when it is read."""
        prepare = _prepared.for_images(transform, str(data) if not _is_image(data) else "the image")
        if _is_image(data):
            return Datasets().open([data], transform)
        files = _paths.files_of(Path(data))
        images = ImageFolder.listed(files, prepare)
        name = Path(data).name

        def known(number: int) -> int | None:
            try:
                return images.identify(number)
            except DataError:  # told, or skipped, when it is to be measured
                return None

        def content(numbers: Sequence[int]) -> str:
            return digest_of([*map(known, numbers)])

        return Opened(images, name, images.fingerprint, identify=images.identify, content=content)

    def expect(self, data: Any) -> None:
        """Check that a file is there.

        Raises: DataError.
        """
        if isinstance(data, str | Path):
            _paths.files_of(Path(data))

    def examples(self, folder: Path) -> Mapping[str, Any]:
        """Six pictures of one grey each; one that is a text inside."""
        for what, values in {"a": range(6), "b": range(6), "c": range(5)}.items():
            for i, grey in enumerate(values):
                size = (9 + 9 * (what == "b"), 9)
                Image.new("L", size, grey).save(folder / f"{what}{i}.png")
        (folder / "c5.png").write_text("no picture")
        return {
            "plain": folder / "a{0..5}.png",
            "other": str(folder / "b*.png"),
            "wrong type": folder / "c?.png",
        }


def _is_image(data: Any) -> bool:
    return isinstance(data, Image.Image)
