"""A folder of images."""

import hashlib
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import _digest, _prepared, names
from whitebox_probe.data._left_out import LeftOutWarning as LeftOutWarning
from whitebox_probe.data._left_out import in_words
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.text import TextReader
from whitebox_probe.models.pictures import decoded, picture_of, unreadable

FURTHER = "further frames of a file"
_NAMED_FRAMES = 10_000
_PAGED = frozenset({".gif", ".tif", ".tiff"})
_ANIMATED = {".png": b"acTL", ".webp": b"ANIM"}  # the chunk that says so, before the first picture
_HEAD = 1 << 16  # colour profiles may stand before it
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"})


class Folders(Kind):
    """A folder of images, at any depth."""

    name = "folder"
    words = "a folder of images (any depth)"
    reads = "images"
    by_path = True
    options = frozenset[str]()
    exempt = {"not finite": "pixels are whole numbers: a picture of fractions is refused"}

    def takes(self, data: Any) -> bool:
        """Whether it is the path of a folder."""
        path = names.path_of(data)
        return path is not None and os.path.isdir(path)  # a name of any length

    def open(self, data: Any, transform: Transform | TextReader | None) -> Opened:
        """The folder's images, each prepared when it is read."""
        folder = Path(data)
        _expect_images_wanted(folder, transform)
        images = ImageFolder(folder, _prepared.for_images(transform, str(data)))
        if images.left_out:
            warnings.warn(_warning(images, str(data)), stacklevel=2)

        def opened(images: ImageFolder) -> Opened:
            gone = [i for i, path in enumerate(images.files) if not path.is_file()]
            return Opened(
                images,
                folder.name,
                images.fingerprint,
                why=images.why,
                left_out=images.left_out,
                identify=images.identify,
                classify=None if images.classes is None else images.classes.__getitem__,
                members=images.members,
                again=lambda members: opened(images.of(members)),
                gone=gone,
            )

        return opened(images)

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


def _expect_images_wanted(folder: Path, transform: Transform | TextReader | None) -> None:
    """Refuse a folder of texts for a model of texts, which are named by a pattern.

    Raises: DataError.
    """
    if isinstance(transform, TextReader) and next(folder.glob("*.txt"), None) is not None:
        raise DataError(
            f"the folder {folder} cannot be opened",
            "a folder is read as images, and the model reads text",
            f"Pass its texts by a pattern: '{folder / '*.txt'}'",
        )


def _warning(images: "ImageFolder", name: str) -> LeftOutWarning:
    """What is left out, all in one line."""
    frames = len(images.left_out.get(FURTHER, ()))
    files = sum(map(len, images.left_out.values())) - frames
    counts = [
        f"{n} {word}" + "s" * (n > 1) for n, word in ((files, "file"), (frames, "frame")) if n
    ]
    verb = "is" if files + frames == 1 else "are"
    what = f"{' and '.join(counts)} {verb} left out of {name}"
    others = f"The {len(images)} others are measured"
    fix = f"{others}, of each file its first frame" if frames else others
    return LeftOutWarning(what, in_words(images.left_out), fix)


class ImageFolder(Dataset[Any]):
    """Every image below a folder, in the sorted order of their paths; links are followed.

    Where every image lies in a subfolder, the first one's name is its class, as torchvision has it.
    Of a file of several frames (pages of a TIFF, an animation) the first one is read.

    The fingerprint hashes relative paths and sizes in bytes, which are known before any file is
    read; `identify` hashes the content of one.

    Attributes: left_out: why files are no samples -> their paths, and frames likewise. Hidden files
        and folders are the leavings of other programs: copies of images among them would count as
        samples and classes. why: what keeps it from having classes, where some images have one.
    Raises: DataError for a folder without images; on reading, for a file that is no image.
    """

    def __init__(self, folder: Path, transform: Transform) -> None:
        files: list[Path] = []
        self.left_out: dict[str, list[str]] = {}
        for path in sorted(_below(folder)):
            inside = path.relative_to(folder)
            why = _unfit(path, inside)
            if why is None:
                files.append(path)
                if more := _further(inside, _frames(path)):
                    self.left_out.setdefault(FURTHER, []).extend(more)
            else:
                self.left_out.setdefault(why, []).append(str(inside))
        self.files = files
        if not self.files:
            told = f"; {in_words(self.left_out)}" if self.left_out else ""
            shards = next(folder.glob("*.tar"), None) is not None
            raise DataError(
                f"the folder {folder} holds no image",
                f"no file in it ends in {', '.join(sorted(SUFFIXES))}{told}",
                f"Pass its shards by a pattern: '{folder / '*.tar'}'"
                if shards
                else "Pass a folder of images; subfolders are searched too",
            )
        self.transform = transform
        self.folder = folder
        self._settle({str(p.relative_to(folder)): p.stat().st_size for p in self.files})

    @classmethod
    def listed(cls, files: Sequence[Path], transform: Transform) -> "ImageFolder":
        """Images by their paths, without classes."""
        found = cls.__new__(cls)
        found.left_out = {}
        found.transform = transform
        found.folder = Path(os.path.commonpath([path.absolute().parent for path in files]))
        found._settle(
            {str(p.absolute().relative_to(found.folder)): p.stat().st_size for p in files}
        )
        found.classes, found.why = None, ""
        return found

    def of(self, members: Mapping[str, int]) -> "ImageFolder":
        """The folder with the files that it once held, some of which may be gone."""
        found = copy(self)
        found._settle(members)
        return found

    def _settle(self, members: Mapping[str, int]) -> None:
        """Take files by their relative paths, with their sizes in bytes."""
        self.members = dict(members)
        self.files = [self.folder / name for name in members]
        first = [Path(name).parts[:-1][:1] for name in members]
        names = {name: i for i, name in enumerate(sorted({n for part in first for n in part}))}
        self.classes = [names[part[0]] for part in first] if all(first) else None
        beside = next((n for n, part in zip(members, first, strict=True) if not part), "")
        self.why = f"'{beside}' lies in none of the subfolders" if names and beside else ""
        listing = "\n".join(f"{name} {size}" for name, size in members.items())
        written = listing.encode(errors="surrogateescape")  # names may be no UTF-8
        self.fingerprint = hashlib.sha256(written).hexdigest()[:16]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor | tuple[Tensor, int]:
        """The prepared image, with its class if the subfolders say it."""
        path = self.files[index]
        picture = picture_of(path, str(path))
        try:
            prepared = self.transform(picture)
        except (ValueError, OSError) as error:  # Pillow's, of pixels that are no RGB
            raise unreadable(str(path), error) from error
        return prepared if self.classes is None else (prepared, self.classes[index])

    def identify(self, index: int) -> int:
        """What tells the image apart: the bytes of its file.

        Raises: DataError for a file that cannot be read.
        """
        path = self.files[index]
        try:
            return _digest.of_bytes(path.read_bytes())
        except OSError as error:
            raise unreadable(str(path), error) from error


def _below(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """Every file below a folder; a link back to a folder that it lies in is not followed.

    Raises: DataError for a folder that cannot be read.
    """
    inside = above | {os.path.realpath(folder)}
    try:
        entries = list(os.scandir(folder))
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be read", str(error.strerror), "Check its permissions"
        ) from error
    for entry in entries:
        if not _is_folder(entry):
            yield Path(entry.path)
        elif os.path.realpath(entry.path) not in inside:
            yield from _below(Path(entry.path), inside)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _unfit(path: Path, inside: Path) -> str | None:
    """Why a file is no sample, if it is none."""
    if any(part.startswith(".") for part in inside.parts) or "__MACOSX" in inside.parts:
        return "hidden"
    if path.suffix.lower() not in SUFFIXES:
        return f"'{path.suffix}' is no suffix of images" if path.suffix else "without a suffix"
    if path.is_file():
        return None
    return "not a regular file" if os.path.exists(path) else "not to be found"


def _further(inside: Path, frames: int) -> list[str]:
    """The frames of a file that are not read; a header that claims millions is told as one."""
    if frames > _NAMED_FRAMES:
        return [f"{inside}, frames 2 to {frames:,}"]
    return [f"{inside}, frame {n}" for n in range(2, frames + 1)]


def _frames(path: Path) -> int:
    """How many frames a picture has; 1 for a file that cannot be read, of which reading tells.

    The previews that cameras put into a JPEG are none.
    """
    suffix = path.suffix.lower()
    try:
        if suffix in _ANIMATED:
            with path.open("rb") as file:
                if _ANIMATED[suffix] not in file.read(_HEAD):
                    return 1  # without Pillow: a folder may hold very many
        elif suffix not in _PAGED:
            return 1
        with decoded(path) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # decoders raise whatever a broken file leads them to
        return 1
