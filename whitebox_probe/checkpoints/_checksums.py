"""The records of a file of torch.save: a zip archive, each with its place, size and CRC-32.

Nothing that reads such files elsewhere compares the checksums, so that a flipped bit would become
another weight in silence.
"""

import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.gate import Unfit, gate
from whitebox_probe._core.lines import shown
from whitebox_probe._core.memory import available
from whitebox_probe.checkpoints._formats import damaged

_AT_ONCE = 1 << 22
_HEAD = 30
_BETWEEN = 24
"""Bytes behind a record, of its size and checksum, where it was written as it came."""


class Records(NamedTuple):
    """The records of an archive by name, and where the bytes of each begin.

    Attributes: starts: only of those that are stored as they are.
    """

    entries: Mapping[str, zipfile.ZipInfo]
    starts: Mapping[str, int]


def sound_records(path: Path, *, numbers: bool = True) -> Records:
    """The records of an archive, after a look whether they are the bytes that were written.

    A record without a checksum (0, as `torch.serialization.set_crc32_options(False)` leaves it)
    cannot be checked. One that is compressed is checked where it is read.

    Args: numbers: check the tensors' records too, and not only what describes them.
    Raises: CheckpointError.
    """
    try:
        return _records(path, numbers)
    except Unfit as why:
        raise damaged(path, why) from why


def _records(path: Path, numbers: bool) -> Records:
    with gate():
        with zipfile.ZipFile(path) as archive:
            every = archive.infolist()
        entries = {each.filename: each for each in every}
        if len(entries) < len(every):
            raise Unfit("two of its records have one name, or its records overlap")
        size = path.stat().st_size
        # Records one in another would take longer to read than the file is.
        if sum(each.compress_size for each in every) > size:
            raise Unfit("its records overlap")
        if (unpacked := sum(each.file_size for each in every)) > max(size, available()):
            raise Unfit(f"it would be {unpacked:,} bytes unpacked, more than fit into memory")
        _expect_alone(path, every)
        starts = {}
        with path.open("rb") as file:
            for each in every:
                if each.compress_type != zipfile.ZIP_STORED:
                    continue
                if each.compress_size != each.file_size or each.flag_bits & 1:
                    raise Unfit(f"the size of its record '{shown(each.filename)}' is unclear")
                starts[each.filename] = _start(file, each, size)
                if each.CRC != 0 and (numbers or "/data/" not in each.filename):
                    _expect(path, file, each)
    return Records(entries, starts)


def _expect_alone(path: Path, every: Sequence[zipfile.ZipInfo]) -> None:
    """Refuse bytes that belong to no record: of two archives in a row, only the last is listed.

    Raises: Unfit.
    """
    end = 0
    with path.open("rb") as file:
        for each in sorted(every, key=lambda entry: entry.header_offset):
            if each.header_offset < end:
                raise Unfit("two of its records have one name, or its records overlap")
            if each.header_offset - end > (_BETWEEN if end else 0):
                where = "in front of" if end == 0 else "between"
                raise Unfit(
                    f"there are bytes {where} its records that are of none, as where two files "
                    "were joined into one"
                )
            end = _place(file, each) + each.compress_size


def _start(file: BinaryIO, entry: zipfile.ZipInfo, size: int) -> int:
    """Where the bytes of a record begin; the file then stands there."""
    start = _place(file, entry)
    if start + entry.file_size > size:
        raise Unfit(f"its record '{shown(entry.filename)}' is cut short")
    file.seek(start)
    return start


def _place(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    file.seek(entry.header_offset)
    head = file.read(_HEAD)
    if len(head) < _HEAD or not head.startswith(b"PK\x03\x04"):
        raise Unfit(f"its record '{shown(entry.filename)}' is not where it says")
    return entry.header_offset + _HEAD + sum(struct.unpack("<HH", head[26:]))


def _expect(path: Path, file: BinaryIO, entry: zipfile.ZipInfo) -> None:
    if _crc(file, entry.file_size) == entry.CRC:
        return
    raise CheckpointError(
        f"{path} is damaged",
        f"the bytes of its record '{shown(entry.filename)}' are not those that were written: their "
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
