"""What a file is, by its first bytes or by what an archive holds, and what to do with another."""

import re
import zipfile
from collections.abc import Collection
from pathlib import Path

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.gate import Unfit, gate, is_zip, size_of
from whitebox_probe._core.lines import shown

LOOKED_AT = 512
_UNPACK = "Unpack it, and give the checkpoint that is inside"
_CONVERT = "Convert it to safetensors in the library that wrote it"
# The first bytes -> (what such a file is, what to do with it).
_STARTS: dict[bytes, tuple[str, str]] = {
    b"\x1f\x8b": ("it is compressed by gzip", _UNPACK),
    b"BZh": ("it is compressed by bzip2", _UNPACK),
    b"\xfd7zXZ\0": ("it is compressed by xz", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("it is compressed by zstd", _UNPACK),
    b"\x04\x22\x4d\x18": ("it is compressed by lz4", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("it is a 7z archive", _UNPACK),
    b"Rar!": ("it is a RAR archive", _UNPACK),
    b"\x89HDF\r\n\x1a\n": ("it is an HDF5 file, as Keras writes them", _CONVERT),
    b"GGUF": (
        "it is a GGUF file, weights packed for llama.cpp",
        "Get the model's safetensors instead",
    ),
    **dict.fromkeys(
        (b"ggml", b"lmgg", b"ggjt", b"tjgg", b"ggmf", b"fmgg"),
        ("it is a GGML file, weights packed for llama.cpp", "Get the model's safetensors instead"),
    ),
    **dict.fromkeys((b"\x78\x01", b"\x78\x9c", b"\x78\xda"), ("it is compressed by zlib", _UNPACK)),
    b"PAR1": ("it is a Parquet file, a table", "Give the file that holds the weights"),
    b"%PDF": ("it is a PDF", "Give the file that holds the weights"),
    b"\x89PNG": ("it is a PNG image", "Give the file that holds the weights"),
    b"\xff\xd8\xff": ("it is a JPEG image", "Give the file that holds the weights"),
    b"\x93NUMPY": ("it is one NumPy array", "Save all arrays by name with numpy.savez"),
    b"<?xml": ("it is an XML text", "Give the file that holds the weights"),
}


_ENDS: dict[str, tuple[str, str]] = {
    r"\.distcp$": (
        "it is a part of a torch.distributed checkpoint",
        "Join them: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE",
    ),
    r"\.(index|data-\d+-of-\d+|meta)$": ("it is a part of a TensorFlow checkpoint", _CONVERT),
    r"\.pb$": ("it is a graph of TensorFlow", _CONVERT),
}
"""Ends of names -> the same, where the bytes do not tell."""


def first_bytes(path: Path) -> bytes:
    """The beginning of a file.

    Raises: CheckpointError for a file that is missing, empty, or the placeholder of one.
    """
    try:
        size_of(path)
        with gate(), path.open("rb") as file:
            start = file.read(LOOKED_AT)
    except Unfit as why:
        raise CheckpointError(f"{path} cannot be read", str(why), "Check the path") from why
    if not start:
        raise CheckpointError(f"{path} is empty", "it has 0 bytes", "Get the file again")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is no checkpoint",
            "it is the placeholder that Git LFS leaves for one",
            "Run: git lfs pull",
        )
    return start


def damaged(path: Path, why: object) -> CheckpointError:
    """The refusal of a file that is cut short, or is none of the kinds that are read."""
    first = (str(why).splitlines() or ["it ends too early"])[0]
    return CheckpointError(
        f"{path} is not a whole checkpoint",
        first[:160],
        "Get the file again, as safetensors or as torch.save wrote it",
    )


def is_text(start: bytes) -> str | None:
    """What a file of text is, by its beginning, which is no pickle; None for other files."""
    try:
        text = start.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not all(character.isprintable() or character.isspace() for character in text):
        return None
    return "it is a JSON text" if text.lstrip()[:1] in ("{", "[") else "it is a text"


def expect_readable(path: Path, start: bytes) -> None:
    """Refuse a file of a kind that is not read, by its name and with what to do.

    Raises: CheckpointError.
    """
    for begins, (what, fix) in _STARTS.items():
        if start.startswith(begins):
            raise _other(path, what, fix)
    for ends, (what, fix) in _ENDS.items():
        if re.search(ends, path.name.lower()):
            raise _other(path, what, fix)
    if start[257:262] == b"ustar" or _is_old_tar(start):
        raise _other(path, "it is a tar archive", _UNPACK)
    if start[4:8] == b"TFL3":
        raise _other(path, "it is a TensorFlow Lite model", _CONVERT)
    if _is_msgpack(start):
        raise _other(path, "it is a msgpack file, as Flax writes them", _CONVERT)
    if start[:1] == b"\x08" and re.search(rb"\x12.(pytorch|onnx|tf2onnx|skl2onnx)", start[:64]):
        raise _other(path, "it is an ONNX graph", "Give it a name that ends in .onnx")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise damaged(path, "it is a web page")
    if is_zip(path):
        _expect_readable_archive(path)
    elif start.startswith(b"PK"):
        raise damaged(path, "it is cut short: the table at its end is missing")


def is_arrays(path: Path) -> bool:
    """Whether it is what numpy.savez wrote, whatever it is called."""
    if not is_zip(path):
        return False
    names = _members(path)
    return bool(names) and all(name.endswith(".npy") for name in names)


def _members(path: Path) -> list[str]:
    try:
        with gate(), zipfile.ZipFile(path) as file:
            return file.namelist()
    except Unfit as why:
        raise damaged(path, why) from why


def _expect_readable_archive(path: Path) -> None:
    names = _members(path)
    ends = {name.rpartition("/")[2] for name in names}
    if not names:
        raise damaged(path, "it is an archive without anything in it")
    if "constants.pkl" in ends or any("/code/" in name for name in names):
        raise _other(
            path,
            "it is a TorchScript program, which would have to be run",
            "Save the weights: torch.save(torch.jit.load(FILE).state_dict(), NEW)",
        )
    if _is_exported(ends):
        raise _other(
            path,
            "it is a program of torch.export (.pt2), which would have to be run",
            "Save the weights: torch.save(torch.export.load(FILE).state_dict, NEW)",
        )
    if "model.weights.h5" in ends:
        raise _other(path, "it is a Keras model", _CONVERT)
    if "data.pkl" not in ends and not all(name.endswith(".npy") for name in names):
        some = ", ".join(shown(name) for name in names[:3])
        raise _other(path, f"it is a zip archive of {some}", _UNPACK)


def _is_exported(ends: Collection[str]) -> bool:
    marks = {"archive_format", "archive_version", "serialized_exported_program.json"}
    return not marks.isdisjoint(ends)


def _is_old_tar(start: bytes) -> bool:
    """A header of tar from before it had a mark: the sum of its bytes stands in it."""
    if len(start) < LOOKED_AT:
        return False
    told = start[148:156].strip(b" \0")
    total = sum(start[:148]) + 8 * ord(" ") + sum(start[156:LOOKED_AT])
    return bool(re.fullmatch(rb"[0-7]{1,7}", told)) and int(told, 8) == total


def _is_msgpack(start: bytes) -> bool:
    """A map of at least one pair whose first key is a text; no pickle begins so."""
    first = start[0]
    at = 1 if 0x81 <= first <= 0x8F else {0xDE: 3, 0xDF: 5}.get(first, 0)
    return at > 0 and len(start) > at and (0xA1 <= start[at] <= 0xBF or start[at] == 0xD9)


def _other(path: Path, what: str, fix: str) -> CheckpointError:
    return CheckpointError(f"{path} holds no weights that can be read", what, fix)
