"""An image's preparation is torchvision's, or timm's, to the last bit."""

import numpy as np
import pytest
import torch
from PIL import Image

from whitebox_probe._core.errors import DataError
from whitebox_probe.data.images import RESAMPLING, image_transform
from whitebox_probe.models.families._timm import stated_preprocess
from whitebox_probe.probing.forward import transform_of

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


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [32, (32, 24), (20, 56)])
@pytest.mark.parametrize("crop", [1.0, 0.9, 0.875])
def test_crop_modes_and_rectangles_are_timms_bit_for_bit(crop_mode, size, crop):
    create = pytest.importorskip("timm.data").create_transform
    random = np.random.default_rng(0)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    options = {"size": size, "mean": mean, "std": std, "mode": "RGB", "crop": crop}
    mine = image_transform(**options, interpolation="bicubic", crop_mode=crop_mode)
    sides = (size, size) if isinstance(size, int) else size
    more = {"crop_pct": crop, "crop_mode": crop_mode, "interpolation": "bicubic"}
    other = create((3, *sides), mean=mean, std=std, **more)
    for shape in SHAPES[:-1]:
        image = Image.fromarray(random.integers(0, 256, (*shape, 3), dtype=np.uint8))
        torch.testing.assert_close(mine(image), other(image), rtol=0, atol=5e-7)
        assert mine(image).shape == (3, *sides)


@pytest.mark.parametrize(
    "name",
    [
        "vit_tiny_patch16_224",
        "vit_base_patch16_siglip_256",
        "eva02_base_patch14_448",
        "deit3_small_patch16_384",
    ],
)
@pytest.mark.parametrize("sides", [None, (32, 48)])
def test_a_timm_model_gets_what_timm_gives_it(name, sides):
    """Whatever its configuration says of size and crop, on a picture that is no square."""
    timm = pytest.importorskip("timm")
    patch = 14 if "patch14" in name else 16
    given = {} if sides is None else {"img_size": tuple(side // 16 * patch for side in sides)}
    net = timm.create_model(name, pretrained=False, depth=1, **given).eval()
    size = given.get("img_size") or net.patch_embed.img_size
    config = timm.data.resolve_model_data_config(net) | {"input_size": (3, *size)}
    image = Image.fromarray(np.linspace(0, 255, 200 * 400).reshape(200, 400).astype(np.uint8))
    stated = stated_preprocess(net)
    mine = transform_of(stated)(image)
    other = timm.data.create_transform(**config, is_training=False)(image.convert("RGB"))
    torch.testing.assert_close(mine, other, rtol=0, atol=5e-7)
    if config["crop_mode"] != "center":
        assert stated.told()["crop_mode"] == config["crop_mode"]


def test_an_unknown_crop_mode_names_the_nearest():
    with pytest.raises(DataError, match="unknown crop_mode 'squish'.*Did you mean 'squash'"):
        image_transform(
            size=8, mean=(0.5,), std=(0.5,), mode="L", crop=1.0, interpolation="box",
            crop_mode="squish",
        )  # fmt: skip
