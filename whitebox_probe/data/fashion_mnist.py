"""Fashion-MNIST: 70,000 photographs of clothing, 28 x 28, in ten classes.

The first 2,000 test images ship with the package. The whole set is read from Debian's package
`dataset-fashion-mnist` where that is installed, and is otherwise downloaded by torchvision.
References: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747. MIT licence, Zalando SE.
"""

import gzip
import hashlib
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whitebox_probe._core.errors import DataError
from whitebox_probe._core.gate import Unfit, gate, read_bytes

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

NAMES: dict[str, str] = {
    "fashion-mnist": "the first 2,000 test images, shipped with the package",
    "fashion-mnist:test": "all 10,000 test images",
    "fashion-mnist:train": "all 60,000 training images",
}
EXEMPT: dict[str, str] = dict.fromkeys(
    ("fashion-mnist:test", "fashion-mnist:train"),
    "read from Debian's package or downloaded, tens of megabytes that need not be there",
)
CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
SIDE = 28
MEAN, STD = 0.2860, 0.3530  # of the training images, pixels in [0, 1]
_BYTES = 8  # what an idx file calls them
_MOST = 1 << 26  # bytes of a file as it is unpacked; the largest one has 47 million
_HERE = Path(__file__).parent
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_PREFIX = {"train": "train", "test": "t10k"}


def read(name: str) -> tuple[Images, Labels]:
    """Read `fashion-mnist` (shipped), `fashion-mnist:test` or `fashion-mnist:train`.

    Returns: images (N, 28, 28) of bytes, and labels (N,).
    """
    _, _, split = name.partition(":")
    return read_split(split) if split else read_embedded()


def about(name: str) -> dict[str, object]:
    """What `whitebox-probe info` says of the data set.

    >>> about("fashion-mnist")["read from"]
    'the package itself: it is here'
    """
    return {
        "image": "28 x 28, one channel",
        "classes": ", ".join(CLASSES),
        "licence": "MIT, Zalando SE",
        "reference": "https://arxiv.org/abs/1708.07747",
        "read from": "Debian's dataset-fashion-mnist if installed, else downloaded once"
        if ":" in name
        else "the package itself: it is here",
    }


def read_embedded() -> tuple[Images, Labels]:
    """Read the 2,000 test images that ship with the package."""
    return _read_pair(_HERE, "fashion-mnist-2000")


def read_split(split: str, folder: Path | None = None) -> tuple[Images, Labels]:
    """Read all images of `train` (60,000) or `test` (10,000).

    Args: folder: where the four idx.gz files lie; Debian's folder or the user's cache if None.
    Raises: DataError when they can neither be found nor downloaded.
    """
    if folder is not None:
        return _read_pair(Path(folder), _PREFIX[split])
    if _DEBIAN.is_dir():
        return _read_pair(_DEBIAN, _PREFIX[split])
    return _download(split)


def _read_pair(folder: Path, prefix: str) -> tuple[Images, Labels]:
    of_images = folder / f"{prefix}-images-idx3-ubyte.gz"
    of_labels = folder / f"{prefix}-labels-idx1-ubyte.gz"
    images, labels = _read_idx(of_images, (SIDE, SIDE)), _read_idx(of_labels, ())
    if not len(images):
        raise _unread(of_images, "it has no images")
    if len(images) != len(labels):
        raise _unread(of_labels, f"it has {len(labels)} labels for {len(images)} images")
    if labels.max() >= len(CLASSES):
        raise _unread(of_labels, f"it has the label {labels.max()}: there are {len(CLASSES)}")
    return images, labels.astype(np.int64)


def _read_idx(path: Path, each: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read an idx file: two zero bytes, type, number of axes, sizes, then the bytes.

    Args: each: the sizes of one example. Returns: shape (N, *each).
    Raises: DataError.
    """
    try:
        content = read_bytes(path)
        with gate(), gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            raw = file.read(_MOST + 1)
        if len(raw) > _MOST:
            raise Unfit(f"it holds more than {_MOST:,} bytes")
        start = 8 + 4 * len(each)  # a word that tells the type, and one for each axis
        if len(raw) < start or raw[:4] != bytes((0, 0, _BYTES, 1 + len(each))):
            raise Unfit(f"it is no idx file of bytes with {1 + len(each)} axes")
        count, *sizes = (int(size) for size in np.frombuffer(raw[4:start], ">i4"))
        if tuple(sizes) != each:
            raise Unfit(f"its images are of {' x '.join(map(str, sizes))}, not {SIDE} x {SIDE}")
        stated, held = count * math.prod(each), len(raw) - start
        if count < 0 or stated != held:
            raise Unfit(f"it holds {held} bytes and states {stated}")
    except Unfit as error:
        raise _unread(path, str(error)) from error
    return np.frombuffer(raw, np.uint8, offset=start).reshape(count, *each)


def _unread(path: Path, why: str) -> DataError:
    return DataError(
        f"{path} cannot be read",
        why,
        "Install Debian's package dataset-fashion-mnist, or name the folder of the files",
    )


def _download(split: str) -> tuple[Images, Labels]:
    from torchvision.datasets import FashionMNIST

    from whitebox_probe.checkpoints import cache_dir

    root = cache_dir() / "data"
    try:
        dataset: Any = FashionMNIST(str(root), train=split == "train", download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            "Fashion-MNIST cannot be downloaded",
            str(error).splitlines()[0],
            "Use the shipped 'fashion-mnist', or install Debian's dataset-fashion-mnist",
        ) from error
    return dataset.data.numpy(), dataset.targets.numpy()


def fingerprint(images: Images) -> str:
    """Short hash of images, for the log of a training run."""
    return hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()[:16]
