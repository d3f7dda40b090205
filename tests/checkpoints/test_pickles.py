"""What stands beside the weights is read as names and values; nothing of it is ever called."""

import argparse
import collections
import datetime
import enum
import io
import os
import pathlib
import pickle
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.checkpoints import read_arguments, read_state_dict
from whitebox_probe.checkpoints._pickles import Damaged, Harmful, Made, read_pickle

STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.tensor([1, 2])}


class Colour(enum.Enum):
    RED = 1


class Settings:
    def __init__(self) -> None:
        self.heads = 3
        self.out = pathlib.Path("out")


class Words(dict[str, int]):
    pass


HARMLESS = {
    "path": pathlib.Path("out"),
    "windows path": pathlib.PureWindowsPath("c:/out"),
    "namespace": argparse.Namespace(lr=1, out=pathlib.Path("out")),
    "array": np.arange(3),
    "array of objects": np.array([{"a": 1}, "b"], dtype=object),
    "array of text": np.array(["a", "bc"]),
    "NumPy scalar": np.float64(0.5),
    "NumPy's random state": np.random.get_state(),  # noqa: NPY002 - what scripts save
    "NumPy's generator": np.random.default_rng(0),
    "Python's random state": random.getstate(),
    "torch's random state": torch.get_rng_state(),
    "date": datetime.datetime(2024, 1, 1),
    "day": datetime.date(2024, 1, 1),
    "duration": datetime.timedelta(1),
    "zone": datetime.timezone.utc,
    "defaultdict": collections.defaultdict(list, a=[1]),
    "deque": collections.deque([1], maxlen=3),
    "Counter": collections.Counter("aab"),
    "OrderedDict": collections.OrderedDict(a=1),
    "enum": Colour.RED,
    "object": Settings(),
    "own dict": Words(a=1),
    "set": {1, 2},
    "frozenset": frozenset({1}),
    "complex": 1j,
    "range": range(3),
    "slice": slice(1, 2),
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"12"),
    "large number": 10**400,
    "module": torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.GELU()),
    "function": torch.nn.functional.relu,
    "class": Settings,
    "device": torch.device("cpu"),
    "type": torch.bfloat16,
    "NumPy type": np.dtype("f4"),
}


@pytest.mark.parametrize("what", HARMLESS)
@pytest.mark.parametrize("form", ["zip", "old", "protocol 4"])
def test_harmless_things_beside_the_weights_do_not_refuse_the_file(
    tmp_path: Path, what: str, form: str
) -> None:
    options: dict[str, Any] = {
        "zip": {},
        "old": {"_use_new_zipfile_serialization": False},
        "protocol 4": {"pickle_protocol": 4},
    }[form]
    torch.save({"state_dict": STATE, "x": HARMLESS[what]}, tmp_path / "x.pth", **options)
    found = read_state_dict(tmp_path / "x.pth")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_every_kind_of_tensor_is_the_one_that_torch_reads(tmp_path: Path) -> None:
    base = torch.arange(24.0)
    state: dict[str, Any] = {
        "view": base.view(4, 6)[1:3, ::2],
        "turned": base.view(4, 6).T,
        "whole": base,
        "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 4),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "expanded": torch.ones(1).expand(5),
    }
    state |= {
        str(kind).removeprefix("torch."): torch.arange(5).to(kind)
        for kind in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool)
    }
    for zipped in (True, False):
        path = tmp_path / f"{zipped}.pth"
        options = {"_use_new_zipfile_serialization": zipped}
        torch.save({"state_dict": state, "x": pathlib.Path("x")}, path, **options)
        with pytest.raises(pickle.UnpicklingError):
            torch.load(path, weights_only=True)  # so the other reader was needed
        found = read_state_dict(path)
        for key, tensor in state.items():
            assert found[key].dtype == tensor.dtype
            assert torch.equal(found[key], tensor), key


def test_settings_in_objects_that_a_file_describes_are_found(tmp_path: Path) -> None:
    for beside in (
        {"config": Settings()},
        {"args": argparse.Namespace(heads=3, out=pathlib.Path("x"))},
        {"hyper_parameters": Words(heads=3), "x": pathlib.Path("x")},
        {"args": argparse.Namespace(heads=np.int64(3))},
    ):
        torch.save({"state_dict": STATE, **beside}, tmp_path / "x.pth")
        assert read_arguments(tmp_path / "x.pth")["heads"] == 3


def test_of_a_whole_module_the_tensors_are_read_and_nothing_is_built(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    module[0].register_buffer("passing", torch.ones(1), persistent=False)
    for thing in (module, {"model": module, "epoch": 3}):
        torch.save(thing, tmp_path / "x.pth")
        found = read_state_dict(tmp_path / "x.pth")
        assert found.keys() == module.state_dict().keys()
        assert all(torch.equal(found[k], t) for k, t in module.state_dict().items())


def test_arrays_are_tensors_where_they_are_the_weights(tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.ones((2, 3), "f4"))}
    arrays["c"] = np.arange(3, dtype=">f4")  # of a machine with another order of bytes
    torch.save({"model": arrays}, tmp_path / "x.pth")
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"model": arrays}))
    for name in ("x.pth", "x.pkl"):
        found = read_state_dict(tmp_path / name)
        assert all(np.array_equal(found[key], arrays[key]) for key in arrays)


# -- programs: each would make the folder DIRECTORY if any call in it were carried out


class Reduced:
    def __init__(self, of: Any, *args: Any) -> None:
        self.of, self.args = of, args

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.of, self.args


def short(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def program(kind: str, module: str, name: str, argument: str) -> bytes:
    """A value that is called with one text when a pickle of protocol 2 is read."""
    named = b"c" + f"{module}\n{name}\n".encode()
    text = short(argument)
    return {
        "reduce": named + text + b"\x85R",
        "newobj": named + text + b"\x85\x81",
        "build": named + b")R" + b"}" + short("__setstate__") + named + b"sb" + text + b"b",
        "inst": b"(" + text + b"i" + f"{module}\n{name}\n".encode(),
        "obj": b"(" + named + text + b"o",
        "stack": short(module) + short(name) + b"\x93" + text + b"\x85R",
        "newobj_ex": named + text + b"\x85}\x92",
        "twice": named + text + b"\x85R" + text + b"\x85R",
        "getattr": b"cbuiltins\ngetattr\n" + named + text + b"\x86R" + text + b"\x85R",
        "protocol 0": b"c" + f"{module}\n{name}\n".encode() + b"(V" + argument.encode() + b"\ntR",
    }[kind]


KINDS = ["reduce", "newobj", "build", "inst", "obj", "stack", "newobj_ex", "twice", "getattr"]
CALLS = [
    ("os", "mkdir", "{}"),
    ("os", "system", "mkdir {}"),
    ("posix", "system", "mkdir {}"),
    ("builtins", "eval", "__import__('os').mkdir('{}')"),
    ("builtins", "exec", "import os; os.mkdir('{}')"),
    ("__builtin__", "eval", "__import__('os').mkdir('{}')"),
    ("subprocess", "getoutput", "mkdir {}"),
    ("pathlib", "Path.mkdir", "{}"),
    ("tempfile", "mkdtemp", "{}"),
    ("numpy.testing._private.utils", "runstring", "import os; os.mkdir('{}')"),
    ("torch.utils.collect_env", "run", "mkdir {}"),
    ("timm.utils.model", "getattr", "{}"),
    ("tests.checkpoints.test_pickles", "act", "{}"),
]


def act(path: str) -> None:
    os.mkdir(path)


def zipped(path: Path, value: bytes) -> None:
    """A file of torch.save whose pickle holds the weights, and a program under `x`."""
    torch.save({"state_dict": STATE}, path)
    with zipfile.ZipFile(path) as archive:
        held = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    (main,) = (name for name in held if name.endswith("data.pkl"))
    assert held[main].endswith(b"s.")
    held[main] = held[main][:-1] + short("x") + value + b"s."
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in held.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("kind", [*KINDS, "protocol 0"])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]}.{call[1]}")
def test_no_call_of_a_pickle_is_carried_out(
    tmp_path: Path, kind: str, call: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, form = call
    target = tmp_path / "was-run"
    path = tmp_path / "x.pth"
    zipped(path, program(kind, module, name, form.format(target)))
    acted: list[Any] = []
    monkeypatch.setattr(os, "mkdir", lambda *args: acted.append(args))
    monkeypatch.setattr(os, "system", lambda *args: acted.append(args))
    try:
        found = read_state_dict(path)
    except CheckpointError as error:
        told = str(error)
        assert len(told) < 500
        assert "was refused" in told or "not a whole checkpoint" in told
    else:
        assert all(torch.equal(found[key], STATE[key]) for key in STATE)
    assert not acted
    assert not target.exists()


@pytest.mark.parametrize("kind", ["reduce", "inst", "obj"])
def test_the_programs_do_run_for_a_reader_that_calls(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "was-run"
    pickle.loads(b"\x80\x02" + program(kind, "os", "mkdir", str(target)) + b".")
    assert target.exists()


@pytest.mark.parametrize("module", ["os", "posix", "subprocess", "sys", "importlib"])
def test_a_name_that_acts_refuses_the_file_even_if_it_is_not_called(module: str) -> None:
    with pytest.raises(Harmful, match=module):
        read_pickle(io.BytesIO(b"\x80\x02c" + f"{module}\nanything\n.".encode()))


def test_what_would_be_made_says_of_what() -> None:
    made = read_pickle(io.BytesIO(pickle.dumps(Settings())))
    assert isinstance(made, Made)
    assert made.by.endswith("Settings")
    assert made.fields["heads"] == 3


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_are_those_of_pickle(protocol: int) -> None:
    values = [None, True, 1, -(2**70), 1.5, "ü", b"\xff", [1, (2,), (1, 2, 3, 4)], {"a": {1: []}}]
    values.append(values[7])  # the same list once more
    assert read_pickle(io.BytesIO(pickle.dumps(values, protocol))) == values


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\x80", b"\x80\x02", b"\x80\x02}", b"\x80\x02R.", b"\x80\x02]K\x01R."),
        *(b"\x80\x02h\x07.", b"\x80\x02K\x01}b.", b"\x80\x02]]K\x01s.", b"(" * 5),
        *(b"\x80\x02]\x93.", b"\x80\x02\x82\x01.", b"\x80\x02K\x01Q.", b"\x80\x02P1\n."),
        *(b"t.", b"\x80\x02(u.", b"\xff\xfe"),
    ],
)
def test_bytes_that_are_no_pickle_are_told(data: bytes) -> None:
    with pytest.raises(Damaged):
        read_pickle(io.BytesIO(data))


def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(4)}, "x": pathlib.Path("x")}, tmp_path / "x.pth")
    size = b"K\x04\x85"  # (4,)
    with zipfile.ZipFile(tmp_path / "x.pth") as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    assert records["x/data.pkl"].count(size) == 1
    records["x/data.pkl"] = records["x/data.pkl"].replace(size, b"K\x09\x85")
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:  # with checksums that fit
        for name, content in records.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match=r"reaches beyond|not a whole"):
        read_state_dict(tmp_path / "x.pth")


def test_a_pickle_that_holds_itself_is_read(tmp_path: Path) -> None:
    held: dict[str, Any] = {"state_dict": STATE, "x": pathlib.Path("x")}
    held["self"] = held
    torch.save(held, tmp_path / "x.pth")
    assert read_state_dict(tmp_path / "x.pth").keys() == STATE.keys()
