"""A file of another kind is named for what it is, in one line that says what to do."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.checkpoints import read_state_dict

NET = torch.nn.Linear(2, 3)


def torch_file(path: Path) -> bytes:
    torch.save(NET.state_dict(), path)
    return path.read_bytes()


def scripted(path: Path) -> None:
    torch.jit.save(torch.jit.trace(NET, torch.ones(1, 2)), str(path))


def exported(path: Path) -> None:
    beside = path.with_name("x.pt2")
    torch.export.save(torch.export.export(NET, (torch.ones(1, 2),)), str(beside))
    beside.rename(path)


def tarred(path: Path, mode: str = "w") -> None:
    inner = path.with_name("inner.pth")
    torch_file(inner)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(inner, "inner.pth")


def zip_of(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "TorchScript": (scripted, r"TorchScript.*torch\.jit\.load"),
    "torch.export": (exported, r"torch\.export.*\.state_dict"),
    "gzip": (lambda p: p.write_bytes(gzip.compress(torch_file(p))), "gzip.*Unpack"),
    "bzip2": (lambda p: p.write_bytes(bz2.compress(torch_file(p))), "bzip2.*Unpack"),
    "xz": (lambda p: p.write_bytes(lzma.compress(torch_file(p))), "xz.*Unpack"),
    "zstd": (lambda p: p.write_bytes(b"\x28\xb5\x2f\xfd" + bytes(99)), "zstd.*Unpack"),
    "tar": (tarred, "tar archive.*Unpack"),
    "tar.gz": (lambda p: tarred(p, "w:gz"), "gzip.*Unpack"),
    "zip of a file": (lambda p: zip_of(p, "a/model.pth", "b.txt"), r"zip archive of a/model\.pth"),
    "Keras": (lambda p: zip_of(p, "config.json", "model.weights.h5"), "Keras.*Convert"),
    "HDF5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(999)), "HDF5.*Convert"),
    "GGUF": (lambda p: p.write_bytes(b"GGUF\x03" + bytes(999)), "GGUF.*safetensors instead"),
    "GGML": (lambda p: p.write_bytes(b"lmgg" + bytes(999)), "GGML.*safetensors instead"),
    "msgpack": (lambda p: p.write_bytes(b"\x82\xa6params\x81" + bytes(99)), "msgpack.*Convert"),
    "large msgpack": (lambda p: p.write_bytes(b"\xde\x00\x12\xa6params" + bytes(99)), "msgpack"),
    "ONNX": (
        lambda p: p.write_bytes(b"\x08\x08\x12\x07pytorch\x1a\x05" + bytes(99)),
        r"ONNX.*ends in \.onnx",
    ),
    "TensorFlow Lite": (lambda p: p.write_bytes(b"\x1c\0\0\0TFL3" + bytes(99)), "Lite.*Convert"),
    "one array": (lambda p: np.save(p.open("wb"), np.ones(3)), "one NumPy array.*savez"),
    "PNG": (lambda p: p.write_bytes(b"\x89PNG\r\n" + bytes(99)), "PNG image"),
    "XML": (lambda p: p.write_bytes(b"<?xml version='1.0'?><Error/>"), "XML"),
    "an empty archive": (lambda p: np.savez(p.open("wb")), "without anything in it"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["x.pth", "x.safetensors", "x.bin"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_another_kind_is_named_with_what_to_do(
    tmp_path: Path, kind: str, name: str
) -> None:
    write, told = KINDS[kind]
    write(tmp_path / name)
    with pytest.raises(CheckpointError, match=told) as caught:
        read_state_dict(tmp_path / name)
    text = str(caught.value).replace(str(tmp_path), "")
    assert len(text) < 500
    assert text.isprintable()


@pytest.mark.parametrize("count", [1, 7, 8, 20])
def test_the_beginning_of_safetensors_is_no_whole_file(tmp_path: Path, count: int) -> None:
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(9)}, tmp_path / "x.safetensors")
    whole = (tmp_path / "x.safetensors").read_bytes()
    for data in (whole[:count], b"\0\0\0\0\0\1\0\0" + whole[8:]):
        (tmp_path / "x.safetensors").write_bytes(data)
        with pytest.raises(CheckpointError, match="not a whole checkpoint"):
            read_state_dict(tmp_path / "x.safetensors")


ODD: dict[str, tuple[Callable[[], object], str]] = {
    "expanded": (lambda: {"a": torch.zeros(1).expand(10**12)}, "of which few are in the file"),
    "meta": (lambda: {"a": torch.empty(2, device="meta")}, "without numbers"),
    "sparse": (lambda: {"a": torch.eye(3).to_sparse()}, "sparse"),
    "nested": (
        lambda: {"a": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])},
        "nested",
    ),
    "quantised": (
        lambda: {"a": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)},
        "quantised|no state dict",
    ),
    "numbers for names": (lambda: {1: torch.ones(1)}, "numbers for names"),
    "parts of processes": (lambda: {"module": {"a": torch.empty(0)}}, "Join the parts"),
    "a list": (lambda: [torch.ones(1)], "it holds a list"),
    "nothing": (lambda: None, "it holds a NoneType"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("kind", ODD)
def test_tensors_that_are_no_plain_arrays_are_named(
    tmp_path: Path, kind: str, beside: bool
) -> None:
    make, told = ODD[kind]
    thing = make()
    if beside and isinstance(thing, dict) and "module" not in thing:
        thing = {"state_dict": thing, "x": Path("x")}
        told += "|no state dict"
    torch.save(thing, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=told) as caught:
        read_state_dict(tmp_path / "x.pth")
    assert len(str(caught.value)) < 500


def test_names_that_would_write_on_the_terminal_are_cleaned(tmp_path: Path) -> None:
    torch.save(
        {"\x1b[2Jname": {"a": torch.ones(1)}, "x" * 10**6: {"a": torch.ones(1)}}, tmp_path / "x"
    )
    with pytest.raises(CheckpointError, match="several") as caught:
        read_state_dict(tmp_path / "x")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.pth", b'{"error": "Repository not found"}', "it is a JSON text"),
        ("x.pth", b"hello world\n", "it is a text"),
        ("x.pth", b"\x78\x9c" + bytes(40), "it is compressed by zlib"),
        ("__0_0.distcp", b"PK\x03\x04" + bytes(40), "torch.distributed.*dcp_to_torch"),
        ("x.ckpt.index", b"\x00\x01" * 40, "a part of a TensorFlow checkpoint"),
        ("x.ckpt.data-00000-of-00001", b"\x00\x01" * 40, "a part of a TensorFlow checkpoint"),
        ("saved_model.pb", b"\n\x3e\n\x04data" * 9, "a graph of TensorFlow"),
    ],
)
def test_another_kind_of_file_is_named(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=told):
        read_state_dict(tmp_path / name)


def test_state_dicts_that_lie_deep_are_told_with_the_wrapper_that_takes_them(
    tmp_path: Path,
) -> None:
    path, held = tmp_path / "x.pth", {"w": torch.ones(2, 2)}
    torch.save({"a": {"b": {"c": {"d": held}}}, "epoch": 1}, path)
    with pytest.raises(CheckpointError, match=r"further down.*wrapper='a\.b\.c\.d'"):
        read_state_dict(path)
    assert read_state_dict(path, wrapper="a.b.c.d")["w"].sum() == 4


def test_two_archives_in_one_file_are_not_taken_for_the_last(tmp_path: Path) -> None:
    path = tmp_path / "two.pth"
    content = torch_file(path)
    for in_front in (content, b"#!/bin/sh\n", bytes(1)):
        path.write_bytes(in_front + content)
        with pytest.raises(CheckpointError, match="in front of its records that are of none"):
            read_state_dict(path)


def test_bytes_between_records_are_told(tmp_path: Path) -> None:
    path, other = tmp_path / "sound.pth", tmp_path / "other.pth"
    torch_file(path)
    with zipfile.ZipFile(path) as old, other.open("wb") as file:
        with zipfile.ZipFile(file, "w") as new:
            for number, name in enumerate(old.namelist()):
                if number == 1:
                    file.write(bytes(99))
                    new.start_dir = file.tell()
                new.writestr(name, old.read(name))
    with pytest.raises(CheckpointError, match="between its records"):
        read_state_dict(other)


def test_an_archive_that_was_written_as_it_came_is_read(tmp_path: Path) -> None:
    path, other = tmp_path / "sound.pth", tmp_path / "other.pth"
    torch_file(path)

    class Pipe(io.RawIOBase):
        """A file without places: zipfile writes sizes behind the records."""

        def write(self, part: Any) -> int:
            held.extend(part)
            return len(part)

    held = bytearray()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(Pipe(), "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    other.write_bytes(held)
    assert read_state_dict(other).keys() == NET.state_dict().keys()


def test_a_name_that_is_no_utf8_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "sound\udcff.pth"
    try:
        torch_file(tmp_path / "sound.pth")
        (tmp_path / "sound.pth").rename(path)
    except OSError:
        pytest.skip("the disk takes no such name")
    assert read_state_dict(path)
