"""Data of every kind, and what is said when it cannot be read."""

import numpy as np
import pytest
import torch
from PIL import Image

from whitebox_probe._core.errors import DataError
from whitebox_probe.data import fashion_mnist, open_data
from whitebox_probe.data.images import image_transform


def transform(size=8, mode="RGB"):
    channels = 3 if mode == "RGB" else 1
    return image_transform(
        size=size,
        mean=(0.5,) * channels,
        std=(0.5,) * channels,
        mode=mode,
        crop=0.875,
        interpolation="bilinear",
    )


def read(source, batch_size=4):
    parts = list(source.batches(batch_size, 0))
    return torch.cat([b.ids for b in parts]), torch.cat([b.inputs for b in parts])


def folder_of(tmp_path, **images):
    for name, image in images.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path.with_suffix(".png"))
    return tmp_path


def noise(mode="RGB", size=(20, 10)):
    array = np.random.default_rng(0).integers(0, 255, (*size, 4), dtype=np.uint8)
    return (
        Image.fromarray(array, "RGBA").convert(mode)
        if mode != "P"
        else Image.fromarray(array[..., 0]).convert("P")
    )


def test_a_folder_is_read_in_sorted_order_with_its_subfolders(tmp_path):
    folder = folder_of(tmp_path, b=noise(), a__z=noise("L"), c=noise("RGBA"), d=noise("P"))
    source = open_data(folder, transform=transform())
    ids, batch = read(source)
    assert ids.tolist() == [0, 1, 2, 3]
    assert batch.shape == (4, 3, 8, 8)
    grey = read(open_data(folder, transform=transform(mode="L")))[1]
    assert grey.shape == (4, 1, 8, 8)
    assert source.count == 4


def test_a_cmyk_jpeg_is_read(tmp_path):
    noise().convert("CMYK").save(tmp_path / "x.jpg")
    assert read(open_data(tmp_path, transform=transform()))[1].shape == (1, 3, 8, 8)


def test_the_fingerprint_changes_with_the_files(tmp_path):
    folder = folder_of(tmp_path, a=noise(), b=noise())
    first = open_data(folder, transform=transform()).fingerprint
    assert open_data(folder, transform=transform()).fingerprint == first
    (folder / "b.png").rename(folder / "c.png")
    assert open_data(folder, transform=transform()).fingerprint != first


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(DataError, match="holds no image.*subfolders are searched too"):
        open_data(tmp_path, transform=transform())


@pytest.mark.parametrize("content", [b"this is text", b"", b"\x89PNG\r\n\x1a\n broken"])
def test_a_file_that_is_no_image_is_named(tmp_path, content):
    (tmp_path / "fake.png").write_bytes(content)
    with pytest.raises(DataError, match=r"fake\.png is not a readable image"):
        read(open_data(tmp_path, transform=transform()))


def test_images_without_preprocessing_are_refused(tmp_path):
    with pytest.raises(DataError, match="does not say how"):
        open_data("fashion-mnist", transform=None)


def test_a_file_and_an_unknown_name_are_told_apart(tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(DataError, match="it is a file"):
        open_data(tmp_path / "x", transform=transform())
    with pytest.raises(DataError, match="Did you mean 'fashion-mnist'"):
        open_data("fashion-mnits", transform=transform())


def test_samples_that_are_not_tensors_are_named():
    class Pairs(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return "image", 0

    with pytest.raises(DataError, match="sample 0 of Pairs is a str"):
        read(open_data(Pairs()))


def test_the_transform_is_timms_own_at_224():
    from timm.data import create_transform

    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    image = noise(size=(300, 400))
    for crop, interpolation in ((0.875, "bilinear"), (0.9, "bicubic"), (1.0, "bicubic")):
        ours = image_transform(
            size=224, mean=mean, std=std, mode="RGB", crop=crop, interpolation=interpolation
        )
        timms = create_transform(
            (3, 224, 224), mean=mean, std=std, crop_pct=crop, interpolation=interpolation
        )
        torch.testing.assert_close(ours(image), timms(image))


def test_the_shipped_images_are_2000_of_ten_classes():
    images, labels = fashion_mnist.read_embedded()
    assert images.shape == (2000, 28, 28)
    assert np.bincount(labels).tolist() == [200, 203, 214, 190, 219, 195, 197, 200, 194, 188]
    assert fashion_mnist.fingerprint(images) == "09bbac78738f0229"


EMPTY = b"\0\0\x08\x03" + b"".join(size.to_bytes(4, "big") for size in (1, 28, 28))


def test_a_broken_idx_file_is_named(tmp_path):
    import gzip

    for name, raw in (("images-idx3", EMPTY + b"ab"), ("labels-idx1", b"")):
        (tmp_path / f"t10k-{name}-ubyte.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(DataError, match="cannot be read: it holds 2 bytes and states 784"):
        fashion_mnist.read_split("test", tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        fashion_mnist.read_split("train", tmp_path)


def test_worker_processes_give_the_same_batches():
    source = open_data("fashion-mnist", transform=transform(28, "L"), limit=9)
    alone = list(source.batches(4, 0))
    together = list(source.batches(4, 2))
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a.ids, b.ids)
        assert torch.equal(a.inputs, b.inputs)
