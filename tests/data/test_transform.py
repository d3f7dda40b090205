"""An image's preparation is torchvision's, to the last bit."""

import numpy as np
import pytest
import torch
from PIL import Image

from whitebox_probe._core.errors import DataError
from whitebox_probe.data.images import RESAMPLING, image_transform

SHAPES = [(24, 24), (28, 28), (50, 37), (37, 50), (300, 211), (16, 400), (225, 224), (7, 5)]


def theirs(size, mean, std, mode, crop, interpolation):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    steps = [
        v2.Resize(int(size / crop), v2.InterpolationMode(interpolation), antialias=True),
        v2.CenterCrop(size),
        v2.PILToTensor(),
    ]

    def apply(image):
        out = image.convert(mode)
        for step in steps:
            out = step(out)
        return v2.functional.normalize(out.float() / 255, list(mean), list(std))

    return apply


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest", "box"])
@pytest.mark.parametrize(("size", "crop"), [(28, 1.0), (32, 0.875), (33, 0.9), (30, 1.1)])
def test_it_is_the_same_bit_for_bit(size, crop, interpolation):
    random = np.random.default_rng(0)
    for mode, mean, std in (("RGB", (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)), ("L", (0.28,), (0.35,))):
        options = {"size": size, "mean": mean, "std": std, "mode": mode, "crop": crop}
        mine = image_transform(**options, interpolation=interpolation)
        other = theirs(**options, interpolation=interpolation)
        for shape in SHAPES:
            image = Image.fromarray(random.integers(0, 256, (*shape, 3), dtype=np.uint8))
            assert torch.equal(mine(image), other(image)), (mode, shape)


def test_an_unknown_interpolation_names_the_nearest():
    with pytest.raises(DataError, match="unknown interpolation 'bicubik'.*Did you mean 'bicubic'"):
        image_transform(
            size=8, mean=(0.5,), std=(0.5,), mode="L", crop=1.0, interpolation="bicubik"
        )
    assert "bilinear" in RESAMPLING
