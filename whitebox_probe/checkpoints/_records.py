"""The files of torch.save, read without torch.load: their pickle as data, their numbers in place.

The numbers of an archive's tensors are mapped from the disk, so that an optimizer's, which nobody
asks for, are never read. Those of an archive that was packed anew, and so compressed, are unpacked.
"""

import io
import mmap
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.gate import Unfit, gate, is_zip
from whitebox_probe._core.io import utf8_name
from whitebox_probe._core.lines import shown
from whitebox_probe.checkpoints._checksums import Records, sound_records
from whitebox_probe.checkpoints._pickles import (
    Damaged,
    Harmful,
    Made,
    Record,
    Stored,
    read_pickle,
)

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


def read_records(path: Path, *, numbers: bool = True) -> Any:
    """What a file of torch.save, or a bare pickle, holds: tensors, plain values, and `Made`.

    Args: numbers: whether those of its tensors are needed, and so compared with their checksums.
    Raises: Damaged, Harmful; CheckpointError for records that are not as they were written.
    """
    try:
        if is_zip(path):
            return _zipped(path, sound_records(path, numbers=numbers))
        with gate(), path.open("rb") as file:
            # An empty map is refused; a read beyond the end of one takes no memory.
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held:
                return _in_a_row(held, path)
    except Unfit as why:
        if isinstance(why.__cause__, Damaged | Harmful):
            raise why.__cause__ from why
        raise Damaged(str(why)) from why


def _mapped(path: Path, size: int) -> Any:
    """The bytes of a file, mapped from the disk: a storage of torch's."""
    import torch

    with utf8_name(path) as name:
        return torch.UntypedStorage.from_file(name, False, size)


def _zipped(path: Path, records: Records) -> Any:
    import torch

    places = records.entries
    mains = [name for name in places if name.rpartition("/")[2] == "data.pkl"]
    if len(mains) != 1:
        raise Damaged(f"it holds {len(mains)} records data.pkl, where there is one")
    folder = mains[0].removesuffix("data.pkl")
    with gate(), zipfile.ZipFile(path) as archive:
        order = f"{folder}byteorder"
        if order in places and _read(archive, places[order]) != sys.byteorder.encode():
            raise Unfit("it was written on a machine of another byte order")
        told = read_pickle(io.BytesIO(_read(archive, places[mains[0]])))
        whole = _mapped(path, path.stat().st_size)
        unpacked: dict[str, torch.UntypedStorage] = {}

        def fetch(stored: Stored) -> "torch.UntypedStorage":
            name = f"{folder}data/{stored.key}"
            if name not in places:
                raise Damaged(f"the numbers of '{shown(stored.key)}' are missing in it")
            if name in records.starts:
                start = records.starts[name]
                return whole[start : start + places[name].file_size]
            if name not in unpacked:
                held = bytearray(_read(archive, places[name]))
                unpacked[name] = _storage(held)
            return unpacked[name]

        return _realised(told, fetch, {})


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """A record, whatever way it is packed; its checksum is looked at where it has one."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Unfit(f"its record '{shown(entry.filename)}' is packed in a way that is not read")
    try:
        if entry.CRC == 0 and entry.compress_type == zipfile.ZIP_STORED:
            return _unchecked(archive, entry)
        return archive.read(entry)
    except (zipfile.BadZipFile, EOFError) as error:
        raise Unfit(f"its record '{shown(entry.filename)}' is not as it was written") from error


def _unchecked(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """A record without a checksum, which zipfile would take for a wrong one."""
    with archive.open(entry) as file:
        file._expected_crc = None  # type: ignore[attr-defined]
        return file.read()


def _storage(held: bytearray) -> "torch.UntypedStorage":
    import torch

    if not held:
        return torch.UntypedStorage(0)
    return torch.frombuffer(held, dtype=torch.uint8).untyped_storage()


def _in_a_row(held: mmap.mmap, path: Path) -> Any:
    """The older format: pickles one after the other, then the numbers; or one bare pickle."""
    first = read_pickle(held)
    if first != _MAGIC:
        return _realised(first, _nowhere, {})
    version, system = read_pickle(held), read_pickle(held)
    if version != 1001 or not isinstance(system, dict) or not system.get("little_endian", True):
        raise Damaged("it is of another version, or of another byte order")
    told, keys = read_pickle(held), read_pickle(held)
    if not isinstance(keys, list) or not all(isinstance(key, str | int) for key in keys):
        raise Damaged("it does not say where its numbers are")
    kinds: dict[str, Stored] = {}
    _storages(told, kinds, set())
    size = len(held)
    whole = _mapped(path, size)
    places: dict[str, tuple[int, int]] = {}
    for key in map(str, keys):
        count = int.from_bytes(held.read(8), "little", signed=True)
        if key not in kinds or key in places:
            raise Damaged(f"it does not say what the numbers of '{shown(key)}' are of")
        start = held.tell()
        stop = start + count * _dtype(kinds[key].kind).itemsize
        if count < 0 or stop > size:
            raise Damaged(f"the numbers of '{shown(key)}' are cut short")
        places[key] = (start, stop)
        held.seek(stop)

    def fetch(stored: Stored) -> "torch.UntypedStorage":
        if stored.view is not None or stored.key not in places:
            raise Damaged(f"the numbers of '{shown(stored.key)}' are missing in it")
        start, stop = places[stored.key]
        return whole[start:stop]

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
        raise Damaged(f"its numbers are of the kind {shown(kind)}, which is not known")
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

    from whitebox_probe._core.arrays import native

    try:
        if made.by.endswith("multiarray.scalar"):
            value = np.frombuffer(_bytes(made.args[1]), _numpy_type(made.args[0]))[0]
            return value.item()
        if not made.by.endswith("multiarray._reconstruct"):
            return None
        _, shape, kind, by_column, data = made.state
        array = native(np.frombuffer(_bytes(data), _numpy_type(kind))).copy()
        return torch.from_numpy(array.reshape(shape, order="F" if by_column else "C"))
    except (ValueError, TypeError, IndexError, AttributeError):
        return None  # of objects or of text: no weights


def _numpy_type(made: Any) -> Any:
    import numpy as np

    order = made.state[1] if isinstance(made.state, tuple) else "="
    found = np.dtype(made.args[0]).newbyteorder(order if order in "<>" else "=")
    if found.kind not in "biufc":
        raise TypeError(f"{found} is no number")
    return found


def _bytes(data: Any) -> bytes:
    return data.encode("latin-1") if isinstance(data, str) else bytes(data)
