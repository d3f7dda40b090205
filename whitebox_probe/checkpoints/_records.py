"""The files of torch.save, read without torch.load: their pickle as data, their numbers in place.

For files that `torch.load(weights_only=True)` refuses because of what stands beside the weights.
"""

import io
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from whitebox_probe.checkpoints._pickles import Damaged, Made, Record, Stored, read_pickle

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Fetch = Callable[[Stored], "torch.UntypedStorage"]

_DEEPEST = 96  # of dicts in dicts and modules in modules
_MAGIC = 0x1950A86A20F9469CFC6C
_KINDS = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}


def read_records(path: Path) -> Any:
    """What a file of torch.save, or a bare pickle, holds: tensors, plain values, and `Made`.

    Raises: Damaged, Harmful.
    """
    if zipfile.is_zipfile(path):
        return _zipped(path)
    with path.open("rb") as file:
        return _in_a_row(file)


def _zipped(path: Path) -> Any:
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            places = {entry.filename: entry for entry in archive.infolist()}
            (main,) = (name for name in places if name.rpartition("/")[2] == "data.pkl")
            folder = main.removesuffix("data.pkl")
            if (
                archive.read(f"{folder}byteorder") != sys.byteorder.encode()
                if (f"{folder}byteorder" in places)
                else False
            ):
                raise Damaged("it was written on a machine of another byte order")
            told = read_pickle(io.BytesIO(archive.read(main)))
    except (zipfile.BadZipFile, ValueError, KeyError, RuntimeError, NotImplementedError) as error:
        raise Damaged(str(error)) from error
    whole = torch.UntypedStorage.from_file(str(path), False, path.stat().st_size)

    def fetch(stored: Stored) -> "torch.UntypedStorage":
        entry = places.get(f"{folder}data/{stored.key}")
        if entry is None or entry.compress_type != zipfile.ZIP_STORED:
            raise Damaged(f"the numbers of '{stored.key}' are missing in it")
        with path.open("rb") as file:
            file.seek(entry.header_offset)
            head = file.read(30)
        if len(head) < 30 or not head.startswith(b"PK\x03\x04"):
            raise Damaged(f"the numbers of '{stored.key}' are not where it says")
        start = entry.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))
        return whole[start : start + entry.file_size]

    return _realised(told, fetch, {})


def _in_a_row(file: BinaryIO) -> Any:
    """The older format: pickles one after the other, then the numbers; or one bare pickle."""
    import torch

    first = read_pickle(file)
    if first != _MAGIC:
        return _realised(first, _nowhere, {})
    version, system = read_pickle(file), read_pickle(file)
    if version != 1001 or not isinstance(system, dict) or not system.get("little_endian", True):
        raise Damaged(f"it is of version {version}, or of another byte order")
    told, keys = read_pickle(file), read_pickle(file)
    kinds: dict[str, Stored] = {}
    _storages(told, kinds, set())
    numbers = {}
    for key in map(str, keys):
        (count,) = struct.unpack("<q", file.read(8).ljust(8, b"\0"))
        if key not in kinds:
            raise Damaged(f"it does not say what the numbers of '{key}' are of")
        data = bytearray(file.read(max(count, 0) * _dtype(kinds[key].kind).itemsize))
        if data:
            numbers[key] = torch.frombuffer(data, dtype=torch.uint8).untyped_storage()
        else:
            numbers[key] = torch.UntypedStorage(0)

    def fetch(stored: Stored) -> "torch.UntypedStorage":
        if stored.view is not None or stored.key not in numbers:
            raise Damaged(f"the numbers of '{stored.key}' are missing in it")
        return numbers[stored.key]

    return _realised(told, fetch, {})


def _nowhere(stored: Stored) -> Any:
    raise Damaged("its tensors have no numbers in the file")


def _storages(thing: Any, found: dict[str, Stored], seen: set[int]) -> None:
    """Every storage that is spoken of, anywhere."""
    waiting = [thing]
    while waiting:
        thing = waiting.pop()
        if isinstance(thing, Stored):
            found[thing.key] = thing
        elif isinstance(thing, Record):
            found[thing.stored.key] = thing.stored
        elif isinstance(thing, dict | list | tuple | Made) and id(thing) not in seen:
            seen.add(id(thing))
            if isinstance(thing, Made):
                waiting += [thing.args, thing.state, thing.items, thing.pairs]
            else:
                waiting += [*thing.keys(), *thing.values()] if isinstance(thing, dict) else thing


def _dtype(kind: str) -> "torch.dtype":
    import torch

    found = getattr(torch, _KINDS.get(kind, kind.removeprefix("torch.")), None)
    if not isinstance(found, torch.dtype):
        raise Damaged(f"its numbers are of the kind {kind}, which is not known")
    return found


def _realised(thing: Any, fetch: "Fetch", done: dict[int, Any], depth: int = 0) -> Any:
    """Dicts, lists and modules with tensors in the place of their descriptions."""
    if isinstance(thing, Record):
        return _tensor(thing, fetch)
    if depth > _DEEPEST or not isinstance(thing, dict | list | Made) or id(thing) in done:
        return done.get(id(thing), thing)
    if isinstance(thing, Made):
        array = _array(thing)
        done[id(thing)] = thing if array is None else array
        if array is None:
            thing.state = _realised(thing.state, fetch, done, depth + 1)
            thing.pairs = _realised(thing.pairs, fetch, done, depth + 1)
    else:
        # Filled afterwards, because one may hold itself.
        out: Any = {} if isinstance(thing, dict) else []
        done[id(thing)] = out
        if isinstance(thing, dict):
            out.update((k, _realised(v, fetch, done, depth + 1)) for k, v in thing.items())
        else:
            out.extend(_realised(v, fetch, done, depth + 1) for v in thing)
    return done[id(thing)]


def _tensor(record: Record, fetch: "Fetch") -> Any:
    import torch

    dtype = _dtype(record.dtype or record.stored.kind)
    if record.stored.device == "meta":
        return Made("torch.Tensor", (record,))
    numbers = fetch(record.stored)
    held = numbers.nbytes() // dtype.itemsize
    size, stride = record.size, record.stride
    reach = record.offset + 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if min((*size, *stride, record.offset), default=0) < 0 or (0 not in size and reach > held):
        raise Damaged(f"a tensor of {size} reaches beyond the {held} numbers that are there")
    if numbers.data_ptr() % dtype.itemsize:
        numbers = numbers.clone()
    return torch.empty(0, dtype=dtype).set_(numbers, record.offset, size, stride)


def _array(made: Made) -> "Tensor | Any | None":
    """A NumPy array as a tensor, a NumPy scalar as a number; None for anything else."""
    import numpy as np
    import torch

    try:
        if made.by.endswith("multiarray.scalar"):
            value = np.frombuffer(_bytes(made.args[1]), _numpy_type(made.args[0]))[0]
            return value.item()
        if not made.by.endswith("multiarray._reconstruct"):
            return None
        _, shape, kind, by_column, data = made.state
        array = np.frombuffer(_bytes(data), _numpy_type(kind)).copy()
        return torch.from_numpy(array.reshape(shape, order="F" if by_column else "C"))
    except (ValueError, TypeError, IndexError, AttributeError):
        return None  # of objects or of text: no weights


def _numpy_type(made: Any) -> Any:
    import numpy as np

    order = made.state[1] if isinstance(made.state, tuple) else "="
    found = np.dtype(made.args[0]).newbyteorder(order if order in "<>" else "=")
    if found.kind not in "biufc" or found.byteorder not in ("=", "|", "<"):
        raise TypeError(f"{found} is no number of this machine")
    return found


def _bytes(data: Any) -> bytes:
    return data.encode("latin-1") if isinstance(data, str) else bytes(data)
