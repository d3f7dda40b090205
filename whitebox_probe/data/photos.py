"""Photographs that two widely installed packages ship, cut into 64 squares.

scikit-learn and scikit-image carry these files in their wheels: nothing is downloaded, and nothing
of theirs is copied into this package. `PHOTOS` says what each shows, who made it, and its terms as
those packages state them.

Each photograph gives a grid of squares of 224 pixels, at most three across and two down, that do
not overlap; the grid lies in the middle of the photograph, which is not resized. So no photograph
gives more than a tenth of the squares. Squares of one photograph, and the two motorcycles, are not
independent samples: the label of a square is the place of its photograph in `PHOTOS`.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from whitebox_probe._core.errors import DataError, MissingDependency

NAMES: dict[str, str] = {
    "photos": "64 squares of 18 photographs that scikit-learn and scikit-image ship",
}
SIDE, ACROSS, DOWN = 224, 3, 2
_FOLDERS = {"scikit-learn": ("sklearn", "datasets/images"), "scikit-image": ("skimage", "data")}
_CC_BY = "CC BY 2.0"
_CC0 = "CC0"
_NONE_KNOWN = "no known copyright restrictions"
_NOT_STATED = "not stated by scikit-image"


@dataclass(frozen=True)
class Photo:
    """A photograph: its file, the package that ships it, what it shows, its source and terms."""

    file: str
    title: str
    source: str
    licence: str
    package: str = "scikit-image"


PHOTOS = (
    Photo(
        "china.jpg",
        "A temple in China",
        "danielbuechele, flickr.com/photos/danielbuechele/6061409035",
        _CC_BY,
        "scikit-learn",
    ),
    Photo(
        "flower.jpg",
        "A flower",
        "vultilion, flickr.com/photos/vultilion/6056698931",
        _CC_BY,
        "scikit-learn",
    ),
    Photo("astronaut.png", "Eileen Collins", "NASA Great Images", "public domain"),
    Photo("brick.png", "A brick wall", "cc0textures.com, Bricks25", _CC0),
    Photo("camera.png", "A man with a camera", "Lav Varshney", _CC0),
    Photo("chelsea.png", "A cat", "Stefan van der Walt", _CC0),
    Photo("clock_motion.png", "A clock, blurred", "Stefan van der Walt", "public domain"),
    Photo("coffee.png", "A cup of coffee", "Rachel Michetti, Pikolo Espresso Bar", _CC0),
    Photo("coins.png", "Greek coins from Pompeii", "Brooklyn Museum, image 51611", _NONE_KNOWN),
    Photo("grass.png", "Grass", "linolafett on DeviantArt, Grass 01", _CC0),
    Photo("gravel.png", "Gravel", "cc0textures.com, Gravel04", _CC0),
    Photo(
        "hubble_deep_field.jpg",
        "The Hubble extreme deep field",
        "NASA, HubbleSite 2012-37",
        "public domain, by NASA's guidelines",
    ),
    Photo("ihc.png", "Stained colonic glands", "CMMI", _NONE_KNOWN),
    Photo("moon.png", "The surface of the moon", _NOT_STATED, _NOT_STATED),
    Photo("motorcycle_left.png", "A motorcycle, left", "Middlebury stereo 2014", _NOT_STATED),
    Photo("motorcycle_right.png", "A motorcycle, right", "Middlebury stereo 2014", _NOT_STATED),
    Photo("retina.jpg", "A human retina", "Mikael Häggström, Wikimedia Commons", _CC0),
    Photo("rocket.jpg", "The launch of a Falcon 9", "SpaceX", "public domain"),
)


def read(name: str = "photos") -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read the squares of every photograph, and the place of each one's photograph in `PHOTOS`.

    Shapes: -> (64, 224, 224, 3), (64,)
    Raises: MissingDependency without scikit-image; DataError for a file that is not there.
    """
    cut = [squares(np.asarray(_open(photo))) for photo in PHOTOS]
    labels = np.repeat(np.arange(len(PHOTOS)), [len(part) for part in cut])
    return np.concatenate(cut), labels.astype(np.int64)


def squares(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The grid of squares in the middle of a photograph, row by row.

    Shapes: image (height, width, 3) -> (rows * columns, 224, 224, 3)
    """
    height, width, channels = image.shape
    rows, columns = min(DOWN, height // SIDE), min(ACROSS, width // SIDE)
    top, left = (height - rows * SIDE) // 2, (width - columns * SIDE) // 2
    grid = image[top : top + rows * SIDE, left : left + columns * SIDE]
    parts = grid.reshape(rows, SIDE, columns, SIDE, channels).swapaxes(1, 2)
    return np.ascontiguousarray(parts.reshape(-1, SIDE, SIDE, channels))


def about(name: str) -> dict[str, object]:
    """What `whitebox-probe info` says of the data set: each photograph with its source and terms.

    >>> about("photos")["flower.jpg"]
    'A flower; vultilion, flickr.com/photos/vultilion/6056698931; CC BY 2.0'
    """
    facts: dict[str, object] = {
        "image": f"{SIDE} x {SIDE}, three channels",
        "read from": "the installed packages scikit-learn and scikit-image",
    }
    return facts | {p.file: f"{p.title}; {p.source}; {p.licence}" for p in PHOTOS}


def _open(photo: Photo) -> Image.Image:
    """The photograph, in RGB. The package's folder is found without importing it."""
    module, inside = _FOLDERS[photo.package]
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(
            f"the data set 'photos' needs {photo.package}",
            "it ships some of the photographs, and is not installed",
            f"Run: python -m pip install {photo.package}",
        )
    path = Path(spec.submodule_search_locations[0], inside, photo.file)
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise DataError(
            f"the photograph {photo.file} of {photo.package} cannot be read",
            str(error),
            f"Install {photo.package} again, as a wheel",
        ) from error
