"""What the files that a cell names hold: a file that has changed makes another cell."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from whitebox_probe import checkpoints
from whitebox_probe._core import io
from whitebox_probe._core.errors import SweepError
from whitebox_probe._core.gate import Unfit, gate, size_of
from whitebox_probe.sweeping.code import of_reference

LARGE = 1 << 28
"""Bytes above which data count by size and time: reading them all would take minutes."""
_HF, _TIMM = "hf:", "timm:"


def of_model(model: Mapping[str, Any]) -> dict[str, Any]:
    """Digests in place of the paths of a model.

    Raises: SweepError for a file that is not there; RegistryError for a name that is not known.
    """
    found = {"model": _source(str(model["model"]))}
    if model.get("arch") is not None:
        found["arch"] = _architecture(str(model["arch"]))
    if str(model.get("mapping") or "").endswith((".yaml", ".yml")):
        found["mapping"] = _digest(Path(model["mapping"]))
    return found


def _source(text: str) -> Any:
    from whitebox_probe.models.factory import is_reference

    if is_reference(text):
        return of_reference(text, _digest)
    if text.startswith(_TIMM):
        return text
    if text.startswith(_HF):
        folder = Path(text.removeprefix(_HF))
        return _folder_of_weights(folder) if folder.is_dir() else text
    if text not in checkpoints.registry() and Path(text).exists():
        path = Path(text)
        return _folder_of_weights(path) if path.is_dir() else _of_weights(path)
    if text not in checkpoints.registry() and (os.sep in text or Path(text).suffix):
        raise SweepError(
            f"there is no file {text}", "a path is given as a model", "Check the path in the file"
        )
    entry = checkpoints.entry(text)
    known = (entry.family, entry.arch, entry.source, entry.sha256, entry.wrapper, entry.preprocess)
    here = entry.source.get("path")
    return [_plain(known), _of_weights(Path(here)) if here and Path(here).is_file() else None]


def _architecture(text: str) -> Any:
    from whitebox_probe.models.factory import is_reference

    if is_reference(text):
        return of_reference(text, _digest)
    if text.startswith((_TIMM, _HF)):
        return text
    if text in checkpoints.registry():
        entry = checkpoints.entry(text)
        return _plain((entry.family, entry.arch, entry.preprocess))
    return _plain(checkpoints.architecture(text))


def _of_weights(path: Path) -> str:
    """Of a file, or of the files that an index of weights names."""
    return checkpoints.digest(path) if checkpoints.is_index(path) else _digest(path)


def _folder_of_weights(folder: Path) -> list[list[str]]:
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    return [[path.name, _digest(path)] for path in files]


def of_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Digests in place of the paths of data; a large folder counts by names, sizes and times.

    Raises: DataError for what no kind of data takes.
    """
    from whitebox_probe.data._paths import files_of
    from whitebox_probe.data.given import data as given
    from whitebox_probe.data.names import path_of

    given(data["data"], **{k: v for k, v in data.items() if k not in ("name", "data")})
    path = path_of(data["data"])
    if path is None:
        return {"data": str(data["data"])}
    if path.is_dir():
        return {"data": ["folder", _listing(path)]}
    files = files_of(path)
    return {"data": ["files", [[file.name, _of_file(file)] for file in files]]}


def _listing(folder: Path) -> str:
    states = {path: path.stat() for path in _files_below(folder)}
    large = sum(state.st_size for state in states.values()) > LARGE
    found = hashlib.sha256()
    for path, state in states.items():
        held = f"{state.st_size} {state.st_mtime_ns}" if large else _digest(path)
        found.update(os.fsencode(f"{path.relative_to(folder)} {held}\n"))
    return found.hexdigest()


def _files_below(folder: Path) -> Iterator[Path]:
    for here, folders, names in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(here, name)
            if not name.startswith(".") and path.is_file():
                yield path


def _of_file(path: Path) -> str:
    state = path.stat()
    if state.st_size > LARGE:
        return f"{state.st_size} bytes of {state.st_mtime_ns}"
    return _digest(path)


def _digest(path: Path) -> str:
    try:
        size = size_of(path)
        with gate():
            # A time of change can be put back, as copies do; that of the entry cannot.
            state = path.stat()
            return _read(path, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, size)
    except Unfit as why:
        raise SweepError(f"{path} cannot be read", str(why), "Check the path in the file") from why


@cache
def _read(path: Path, *_state: int) -> str:
    return io.sha256(path)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, sort_keys=True, default=dict))
