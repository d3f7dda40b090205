"""Read NumPy's files: arrays of numbers, whose sizes are checked before memory is taken for them.

No object is unpickled, and no header is taken at its word: an archive's members have checksums,
and a header has to fit the bytes behind it.
"""

import io
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from whitebox_probe._core.gate import Unfit, gate, size_of
from whitebox_probe._core.lines import shown
from whitebox_probe._core.memory import available
from whitebox_probe._core.process import ONE_AT_A_TIME

NUMBERS = "biufc"
_LONGEST = 10_000  # bytes of a header
_HEADER = 1 << 17  # bytes in which a header lies that is read
_PART = 1 << 20  # bytes
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def native(array: np.ndarray) -> np.ndarray:
    """The array in this machine's order of bytes, as torch and comparisons of types take it."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def read_arrays(
    path: Path,
    *,
    kinds: str = NUMBERS,
    only: Callable[[list[str]], list[str]] = lambda names: names,
) -> dict[str, np.ndarray]:
    """The arrays of an archive that numpy.savez wrote, by name.

    Args: kinds: letters of NumPy's kinds of types that may stand in it. only: which of the names
        are read.
    Raises: Unfit.
    """
    return dict(each_array(path, kinds=kinds, only=only))


def each_array(
    path: Path,
    *,
    kinds: str = NUMBERS,
    only: Callable[[list[str]], list[str]] = lambda names: names,
) -> Iterator[tuple[str, np.ndarray]]:
    """The same, name by name: one is read once the last was taken, and none is kept.

    Raises: Unfit, as it is iterated.
    """
    size_of(path)
    with gate(), zipfile.ZipFile(path) as archive:
        every = archive.infolist()
        members = {each.filename.removesuffix(".npy"): each for each in every}
        if len(members) < len(every):
            raise Unfit("two of its arrays have one name")
        if any(not each.filename.endswith(".npy") for each in every):
            raise Unfit("it holds other files than arrays")
        wanted = only(list(members))
        total = sum(members[name].file_size for name in wanted)
        if total > available():
            raise Unfit(f"its arrays have {total:,} bytes, more than fit into memory")
        for name in wanted:
            member = members[name]
            if member.compress_type not in _METHODS:
                raise Unfit(f"'{shown(name)}' is compressed in a way that is not read")
            try:
                held = _unpacked(archive, member)
            except zipfile.BadZipFile as error:
                raise Unfit(f"'{shown(name)}' is not as it was written: {error}") from error
            found = _array(held, name, kinds)
            del held
            yield name, found
            del found


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytearray:
    """The bytes of a member, once: `archive.read` gives bytes, which are no memory to write to."""
    held = bytearray()
    with archive.open(member) as file:
        while part := file.read(_PART):
            held += part
    return held


def parse_array(content: bytes) -> np.ndarray:
    """The one array in the bytes of what numpy.save wrote.

    Raises: Unfit.
    """
    return _array(bytearray(content), "it", NUMBERS)


def _array(held: bytearray, name: str, kinds: str) -> np.ndarray:
    file = io.BytesIO(memoryview(held)[:_HEADER])  # a copy: of the header, not of all
    shape, by_column, dtype = _header(file, name)
    _expect_kind(dtype, name, kinds)
    start = file.tell()
    if math.prod(shape) * dtype.itemsize != len(held) - start:
        raise Unfit(f"'{shown(name)}' does not have as many numbers as its header says")
    found = np.frombuffer(held, dtype, offset=start).reshape(shape, order="F" if by_column else "C")
    # As torch and pandas want them: aligned, in the order of this machine.
    return np.require(found, dtype.newbyteorder("="), ["A", "W"])


def _header(file: BinaryIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    with gate():
        version = npy.read_magic(file)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise Unfit(f"'{shown(name)}' is of a version of the format that is not read")
        with ONE_AT_A_TIME, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what Python 2 wrote, which is sound
            shape, by_column, dtype = read(file, max_header_size=_LONGEST)
    if any(n < 0 for n in shape):
        raise Unfit(f"'{shown(name)}' has the shape {shape}")
    return shape, by_column, dtype


def _expect_kind(dtype: np.dtype[Any], name: str, kinds: str) -> None:
    if dtype.hasobject:
        raise Unfit(f"'{shown(name)}' holds Python objects, and unpickling them could run code")
    if dtype.kind not in kinds or not dtype.itemsize or dtype.subdtype is not None:
        raise Unfit(f"'{shown(name)}' is of the type {shown(dtype)}, which holds no numbers")


def mapped_array(path: Path, *, kinds: str = NUMBERS) -> np.ndarray:
    """The one array that numpy.save wrote, mapped from the disk; not to be written to.

    Args: kinds: letters of NumPy's kinds of types that it may be of.
    Raises: Unfit.
    """
    size = size_of(path)
    with gate(), path.open("rb") as file:
        shape, by_column, dtype = _header(file, path.name)
        start = file.tell()
        _expect_kind(dtype, path.name, kinds)
        if math.prod(shape) * dtype.itemsize != size - start:
            raise Unfit("it does not have as many numbers as its header says")
        if not math.prod(shape):
            return np.zeros(shape, dtype)
        order = "F" if by_column else "C"
        return np.memmap(path, dtype, mode="r", offset=start, shape=shape, order=order)  # type: ignore[call-overload]
