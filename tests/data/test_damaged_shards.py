"""A damaged shard is refused: tarfile reads what stands before the damage, and nothing behind."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

import whitebox_probe as wp
from whitebox_probe._core.errors import DataError

COUNT = 6


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(COUNT):
            held = io.BytesIO()
            Image.fromarray(np.full((4, 4), number, np.uint8)).save(held, "PNG")
            member = tarfile.TarInfo(f"{number}.png")
            member.size = held.tell()
            tar.addfile(member, io.BytesIO(held.getvalue()))
    return path


def pixels(image):
    return torch.from_numpy(np.array(image)).float()


def headers(path):
    with tarfile.open(path) as tar:
        return [member.offset for member in tar]


def opened(path):
    return wp.data.open_data(str(path), transform=pixels)


def test_a_sound_one_is_read_whole_whatever_zeros_follow(shard):
    assert len(opened(shard).numbers) == COUNT
    shard.write_bytes(shard.read_bytes() + bytes(20_480))
    assert len(opened(shard).numbers) == COUNT


@pytest.mark.parametrize("member", range(1, COUNT))
@pytest.mark.parametrize("at", [3, 124, 148, 156, 257])  # name, size, checksum, kind, magic
def test_a_flipped_bit_in_a_header_is_told(member, at, shard):
    content = bytearray(shard.read_bytes())
    content[headers(shard)[member] + at] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        opened(shard)


def test_a_member_that_became_the_end_is_told(shard):
    content = bytearray(shard.read_bytes())
    at = headers(shard)[2]
    content[at : at + 1024] = bytes(1024)
    shard.write_bytes(content)
    with pytest.raises(DataError, match="it goes on behind the mark of its end"):
        opened(shard)


def test_two_shards_in_one_file_are_told(shard):
    shard.write_bytes(2 * shard.read_bytes())
    with pytest.raises(DataError, match="as two shards in one file do"):
        opened(shard)


@pytest.mark.parametrize("left", [0, 511, 512, 1000])
def test_one_that_is_cut_off_is_told(left, shard):
    with tarfile.open(shard) as tar:
        list(tar)
        end = tar.offset
    shard.write_bytes(shard.read_bytes()[: end + left])
    with pytest.raises(DataError, match="it is cut off"):
        opened(shard)


LARGE = 9_999_999_999_999_999_999_999


@pytest.mark.parametrize(
    ("end", "held"),
    [
        ("cls", b"9" * 30),
        ("json", b'{"label": 9999999999999999999999}'),
    ],
)
def test_a_class_beyond_64_bits_names_the_sample(end, held, shard):
    with tarfile.open(shard, "a") as tar:
        member = tarfile.TarInfo(f"{COUNT - 1}.{end}")
        member.size = len(held)
        tar.addfile(member, io.BytesIO(held))
    with pytest.raises(DataError, match=r"the class of sample 5 of s\.tar .* more than 63 bits"):
        list(opened(shard).batches(3, 0))


@pytest.mark.parametrize(
    "label", [np.uint64(2**64 - 1), torch.tensor(2**64 - 1, dtype=torch.uint64), LARGE, -LARGE]
)
def test_so_it_is_of_a_dataset_and_of_a_loader(label):
    rows = [(torch.ones(4), 1), (torch.ones(4), label)]
    with pytest.raises(DataError, match="the class of sample 1 of .* more than 63 bits"):
        list(wp.data.open_data(rows).batches(2, 0))
    many = np.array([1, 2**64 - 1], dtype=np.uint64)
    for classes in (many, torch.from_numpy(many)):
        with pytest.raises(DataError, match="the class of .* loader.* 63 bits"):
            list(wp.data.open_data(Loader((torch.ones(2, 4), classes))).batches(2, 0))


class Loader(torch.utils.data.DataLoader):
    """Hands out a batch as it is."""

    def __init__(self, batch):
        super().__init__([batch], batch_size=None)
