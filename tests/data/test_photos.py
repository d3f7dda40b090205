"""The photographs of installed packages: which they are, how they are cut, and their terms."""

from importlib.util import find_spec

import numpy as np
import pytest

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError, MissingDependency
from whitebox_probe.data import open_data, photos
from whitebox_probe.data.images import image_transform
from whitebox_probe.data.names import names, readers

pytestmark = pytest.mark.skipif(find_spec("skimage") is None, reason="needs scikit-image")


def test_there_are_64_squares_of_18_photographs():
    images, labels = photos.read("photos")
    assert images.shape == (64, 224, 224, 3)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [2, 2, 4, 4, 4, 2, 1, 2, 1, 4, 4, 6, 4, 4, 6, 6, 6, 2]
    assert labels.max() == len(photos.PHOTOS) - 1
    assert images.std(axis=(1, 2, 3)).min() > 3  # none is one flat colour
    assert len(np.unique(images.reshape(64, -1), axis=0)) == 64


def test_squares_are_a_grid_in_the_middle():
    rows, columns = np.mgrid[0:460, 0:700]
    image = np.stack([rows // 2, columns // 4, rows * 0], axis=-1).astype(np.uint8)
    cut = photos.squares(image)
    assert cut.shape == (6, 224, 224, 3)
    assert cut[0, 0, 0].tolist() == [6 // 2, 14 // 4, 0]
    assert cut[2, 0, 0].tolist() == [6 // 2, (14 + 448) // 4, 0]
    assert cut[3, 0, 0].tolist() == [(6 + 224) // 2, 14 // 4, 0]
    assert cut[5, -1, -1].tolist() == [(6 + 447) // 2, (14 + 671) // 4, 0]
    assert photos.squares(np.zeros((2000, 2000, 3), np.uint8)).shape[0] == 6
    assert photos.squares(np.zeros((100, 300, 3), np.uint8)).shape[0] == 0


def test_each_photograph_says_its_source_and_terms():
    for photo in photos.PHOTOS:
        assert photo.title
        assert photo.source
        assert photo.licence
    assert {p.licence for p in photos.PHOTOS if p.package == "scikit-learn"} == {"CC BY 2.0"}


def test_it_opens_by_name():
    mean = std = (0.5,) * 3
    transform = image_transform(
        size=32, mean=mean, std=std, mode="RGB", crop=1.0, interpolation="bilinear"
    )
    source = open_data("photos", transform=transform)
    assert source.count == 64
    assert source.fingerprint == open_data("photos", transform=transform).fingerprint
    batch = next(source.batches(4, 0))
    assert batch.ids.tolist() == [0, 1, 2, 3]
    assert batch.inputs.shape == (4, 3, 32, 32)


def test_a_probe_reads_it():
    model = wp.load("timm:vit_tiny_patch16_224", weights="random")
    result = wp.probe(model, "photos", metrics=["coding_rate"], limit=3)
    assert (result.frame["count"] == 3).all()


def test_every_name_is_read_by_one_file():
    assert set(names()) == set(readers())
    assert {"photos", "fashion-mnist", "fashion-mnist:test", "fashion-mnist:train"} <= set(names())
    for name, module in readers().items():
        assert module.about(name)["read from"]


def test_without_scikit_image_the_command_that_installs_it_is_given(monkeypatch):
    real = photos.find_spec
    monkeypatch.setattr(photos, "find_spec", lambda n: None if n == "skimage" else real(n))
    with pytest.raises(MissingDependency, match="pip install scikit-image"):
        photos.read("photos")


def test_a_file_that_is_not_there_is_named(monkeypatch):
    missing = photos.Photo("none.png", "", "", "")
    monkeypatch.setattr(photos, "PHOTOS", (missing,))
    with pytest.raises(DataError, match=r"none\.png of scikit-image cannot be read"):
        photos.read("photos")
