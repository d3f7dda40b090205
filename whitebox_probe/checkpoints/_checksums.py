"""The checksums of a file of torch.save: a zip archive, whose records each have a CRC-32.

`torch.load` does not compare them, so that a flipped bit would become another weight in silence.
"""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.checkpoints._formats import clean, damaged

_AT_ONCE = 1 << 22
_HEAD = 30


def expect_sound(path: Path, *, numbers: bool = True) -> None:
    """Check that the records of an archive are the bytes that were written.

    A record without a checksum (0, as `torch.serialization.set_crc32_options(False)` leaves it)
    cannot be checked.

    Args: numbers: check the tensors' records too, and not only what describes them.
    Raises: CheckpointError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            every = archive.infolist()
        with path.open("rb") as file:
            # Records one in another would take longer to read than the file is.
            if sum(each.compress_size for each in every) > path.stat().st_size:
                raise damaged(path, "its records overlap")
            for each in every:
                told = each.CRC != 0 and each.compress_type == zipfile.ZIP_STORED
                if told and (numbers or "/data/" not in each.filename):
                    _expect(path, file, each)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise damaged(path, error) from error


def _expect(path: Path, file: BinaryIO, entry: zipfile.ZipInfo) -> None:
    file.seek(entry.header_offset)
    head = file.read(_HEAD)
    if len(head) == _HEAD and head.startswith(b"PK\x03\x04"):
        file.seek(sum(struct.unpack("<HH", head[26:])), 1)
        if _crc(file, entry.file_size) == entry.CRC:
            return
    raise CheckpointError(
        f"{path} is damaged",
        f"the bytes of its record '{clean(entry.filename)}' are not those that were written: their "
        "checksum (CRC-32) is another",
        "Get the file again",
    )


def _crc(file: BinaryIO, size: int) -> int:
    held = memoryview(bytearray(min(_AT_ONCE, size)))
    found = 0
    while size > 0 and (count := file.readinto(held[: min(size, _AT_ONCE)])):  # type: ignore[attr-defined]
        found = zlib.crc32(held[:count], found)
        size -= count
    return found
