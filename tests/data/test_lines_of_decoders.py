"""A picture that is broken ends in one line of ours, and none of the decoder's log."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whitebox_probe.data.folders import _further


def tiff(tag, value):
    """A TIFF, one of whose tags was changed."""
    held = io.BytesIO()
    Image.fromarray(np.zeros((28, 28, 3), np.uint8)).save(held, "TIFF")
    content = bytearray(held.getvalue())
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        if struct.unpack_from("<H", content, entry)[0] == tag:
            struct.pack_into("<H", content, entry + 8, value)
    return bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize(("tag", "value"), [(277, 65535), (259, 999)])  # samples, compression
def test_of_a_broken_tag_there_is_one_line(tag, value, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.tif").write_bytes(tiff(tag, value))
    words = ["run", "crate-tiny-fmnist", "--data", "pictures", "--limit", "2", "--metrics", "l0"]
    ended = subprocess.run(
        [sys.executable, "-m", "whitebox_probe", *words, "--quiet", "--out", "r"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "a.tif" in ended.stderr


def test_frames_that_a_header_claims_are_not_named_one_by_one():
    inside = Path("a.png")
    assert _further(inside, 1) == []
    assert _further(inside, 3) == ["a.png, frame 2", "a.png, frame 3"]
    assert _further(inside, 2**31 - 1) == ["a.png, frames 2 to 2,147,483,647"]
