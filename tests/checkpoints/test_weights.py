"""Files are read without running them, whole or not at all."""

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from whitebox_probe._core.errors import CheckpointError, NonFiniteError
from whitebox_probe.checkpoints import check_keys, read_arguments, read_state_dict
from whitebox_probe.checkpoints import same as tensors_are_same

STATE = OrderedDict(a=torch.arange(6.0).view(2, 3), b=torch.tensor([1, 2]))


def saved(folder: Path, thing: Any, name: str = "file.pth.tar", **options: Any) -> Path:
    path = folder / name
    torch.save(thing, path, **options)
    return path


def same(found: dict[str, torch.Tensor]) -> bool:
    return set(found) == set(STATE) and all(torch.equal(found[k], STATE[k]) for k in STATE)


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: tensor for key, tensor in STATE.items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s}])
def test_state_dicts_are_read(tmp_path: Path, wrap: Any, zipped: bool) -> None:
    path = saved(tmp_path, wrap(STATE), _use_new_zipfile_serialization=zipped)
    assert same(read_state_dict(path))


def test_safetensors_are_read_whatever_the_file_is_called(tmp_path: Path) -> None:
    safetensors.torch.save_file(dict(STATE), tmp_path / "x.bin")
    assert same(read_state_dict(tmp_path / "x.bin"))


def test_the_official_training_checkpoint_is_read(tmp_path: Path) -> None:
    layer = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    whole = {
        "epoch": 3,
        "arch": "vit_small",
        "state_dict": OrderedDict(prefixed("module.")),
        "best_acc1": torch.tensor(69.2),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    assert same(read_state_dict(saved(tmp_path, whole)))


def test_what_training_scripts_keep_beside_is_no_hindrance(tmp_path: Path) -> None:
    extra = {
        "args": argparse.Namespace(lr=0.1, best=np.float64(1)),
        "acc": np.float32(3),
        "step": np.int64(4),
    }
    assert same(read_state_dict(saved(tmp_path, {"model": STATE, **extra})))


def test_nested_prefixes_are_taken_off(tmp_path: Path) -> None:
    path = saved(tmp_path, prefixed("module._orig_mod.backbone.module."))
    assert same(read_state_dict(path))


def test_a_prefix_that_not_all_keys_have_stays(tmp_path: Path) -> None:
    state = {"backbone.a": torch.ones(1), "head.a": torch.ones(1)}
    assert list(read_state_dict(saved(tmp_path, state))) == ["backbone.a", "head.a"]


def test_several_state_dicts_are_asked_about(tmp_path: Path) -> None:
    path = saved(tmp_path, {"student": {"a": torch.ones(1)}, "teacher": STATE})
    with pytest.raises(
        CheckpointError, match=r"student, teacher could be meant.*wrapper='student'"
    ):
        read_state_dict(path)
    assert same(read_state_dict(path, wrapper="teacher"))
    with pytest.raises(CheckpointError, match=r"no state dict 'model'.*keys are student, teacher"):
        read_state_dict(path, wrapper="model")


@pytest.mark.parametrize("above", ["", "module."])
@pytest.mark.parametrize("key", ["model", "teacher", "any name"])
def test_tensors_beside_a_state_dict_with_names_of_its_own_are_refused(
    tmp_path: Path, key: str, above: str
) -> None:
    other = {name: tensor + 1 for name, tensor in STATE.items()}
    path = saved(tmp_path, {**prefixed(above), key: other})
    with pytest.raises(CheckpointError, match=rf"twice.*'{key}', and once beside.*wrapper='{key}'"):
        read_state_dict(path)
    assert all(read_state_dict(path, wrapper=key)[name].equal(other[name]) for name in STATE)


def test_a_counter_may_stand_beside_a_state_dict_and_in_it(tmp_path: Path) -> None:
    held = {**STATE, "step": torch.tensor(3)}
    read = read_state_dict(saved(tmp_path, {"model": held, "step": torch.tensor(4)}))
    assert int(read["step"]) == 3
    assert same(read_state_dict(saved(tmp_path, {**STATE, "model": STATE})))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_expanded_tensors_that_stand_twice_are_not_compared_for_ever(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    one, other = (torch.ones(1, dtype=dtype).expand(10**6, 10**6) for _ in range(2))
    assert not tensors_are_same(one, other)
    with pytest.raises(CheckpointError, match="holds 'w' twice"):
        read_state_dict(saved(tmp_path, {"model": {**STATE, "w": one}, "w": other}))


def test_bits_that_stand_twice_are_refused(tmp_path: Path) -> None:
    bits = torch.zeros(3, dtype=torch.uint8).view(torch.bits8)
    with pytest.raises(CheckpointError, match="holds 'w' twice"):
        read_state_dict(saved(tmp_path, {"model": {**STATE, "w": bits}, "w": bits.clone()}))


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("form", ["zip", "old", "bare"])
def test_a_file_that_would_run_code_is_refused(tmp_path: Path, form: str) -> None:
    target = tmp_path / "was-run"
    thing = {"state_dict": STATE, "x": Malicious(target)}
    path = tmp_path / "bad.pth"
    if form == "bare":
        path.write_bytes(pickle.dumps({"x": Malicious(target)}, protocol=2))
    else:
        torch.save(thing, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        CheckpointError, match=r"was refused: .*would run code.*nothing .* executed"
    ):
        read_state_dict(path)
    assert not target.exists()
    if form == "zip":
        with pytest.raises(CheckpointError, match="mkdir"):
            read_state_dict(path)
    # The file does run code for a reader that lets it, so the refusal above was needed.
    torch.load(path, weights_only=False) if form != "bare" else pickle.loads(path.read_bytes())
    assert target.exists()


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("form", ["zip", "old", "safetensors"])
def test_a_truncated_file_is_one_clear_line(tmp_path: Path, form: str, share: float) -> None:
    path = tmp_path / "cut"
    big = {"a": torch.zeros(1000)}
    if form == "safetensors":
        safetensors.torch.save_file(big, path)
    else:
        torch.save(big, path, _use_new_zipfile_serialization=form == "zip")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match="is not a whole checkpoint") as caught:
        read_state_dict(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"epoch,loss\n1,2\n", "it is a text"),
        (b"<!DOCTYPE html><html>quota</html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS.*git lfs pull"),
    ],
)
def test_what_is_no_checkpoint_is_said_to_be_none(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_state_dict(tmp_path / "x")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pth cannot be read: No such file"):
        read_state_dict(tmp_path / "none.pth")


@pytest.mark.parametrize("thing", [torch.ones(3), {"epoch": 1}, {}, {"a": torch.ones(1), "b": 2}])
def test_a_file_without_a_state_dict_says_what_it_holds(tmp_path: Path, thing: Any) -> None:
    with pytest.raises(CheckpointError, match="holds no state dict: it"):
        read_state_dict(saved(tmp_path, thing))


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    state = {"module.good": torch.ones(2), "module.bad": torch.tensor([1.0, value])}
    with pytest.raises(NonFiniteError, match=r"1 of 2 tensors are not finite: bad\."):
        read_state_dict(saved(tmp_path, state))


def test_keys_that_do_not_fit_are_all_listed() -> None:
    expected = {"a": (2, 3), "b": (2,), **{f"m{i}": (1,) for i in range(12)}}
    found = {"a": torch.ones(3, 2), "b": torch.ones(2), "extra": torch.ones(1)}
    with pytest.raises(CheckpointError) as caught:
        check_keys(expected, found, source="file.pth")
    text = str(caught.value)
    assert "12 missing: m0, m1, " in text
    assert "m9 and 2 more" in text
    assert "1 unexpected: extra" in text
    assert "1 wrongly shaped: a (3, 2) where (2, 3) is expected" in text
    assert "file.pth" in text


def test_keys_that_fit_pass() -> None:
    check_keys({"a": (2, 3), "b": (2,)}, STATE, source="file.pth")


@pytest.mark.parametrize("kind", [torch.int8, torch.complex64, torch.bool, torch.float8_e4m3fn])
def test_tensors_that_are_no_floating_point_are_named(kind: torch.dtype) -> None:
    found = {"a": torch.ones(2).to(kind), "b": torch.ones(2), "n": torch.ones(2).to(kind)}
    shapes = {"a": (2,), "b": (2,), "n": (2,)}
    name = str(kind).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=rf"1 not of floating point: a \({name}\)\."):
        check_keys(shapes, found, source="file.pth", floating=["a", "b"])
    fix = "Give the architecture"
    with pytest.raises(CheckpointError, match="weights of .*Convert them.*save them as float32"):
        check_keys(shapes, found, source="file.pth", floating=["a"], fix=fix)
    with pytest.raises(CheckpointError, match=f"does not fit.*1 missing: m;.*{fix}"):
        check_keys({**shapes, "m": ()}, found, source="x", floating=["a"], fix=fix)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_points_pass(kind: torch.dtype) -> None:
    found = {"a": torch.ones(2, dtype=kind), "n": torch.ones(2, dtype=torch.int64)}
    check_keys({"a": (2,), "n": (2,)}, found, source="file.pth", floating=["a"])


def test_wrappers_are_taken_out_of_keys_wherever_they_stand(tmp_path: Path) -> None:
    keys = ["module.a", "b", "transformer._orig_mod.c", "module._orig_mod.d.module.e", "modules.f"]
    path = saved(tmp_path, {key: torch.ones(1) for key in keys})
    assert list(read_state_dict(path)) == ["a", "b", "transformer.c", "d.e", "modules.f"]


def test_two_keys_that_become_one_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {"module.a": torch.ones(1), "a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="holds 'a' twice"):
        read_state_dict(path)


@pytest.mark.parametrize(
    ("thing", "told"),
    [
        ({"model": STATE | {"n": 3}}, r"its 'model' holds 2 tensors, and beside them n \(int\)\."),
        ({"ckpt": {"model": STATE, "n": 3}}, "two levels down, at ckpt -> model"),
        (STATE | {"n": None}, r"it holds 2 tensors, and beside them n \(NoneType\)"),
    ],
)
def test_what_is_nearly_a_state_dict_is_told(tmp_path: Path, thing: Any, told: str) -> None:
    with pytest.raises(CheckpointError, match=f"holds no state dict: .*{told}"):
        read_state_dict(saved(tmp_path, thing))
    if "n" not in thing:
        (key,) = thing
        with pytest.raises(CheckpointError, match=told):
            read_state_dict(saved(tmp_path, thing), wrapper=key)


def flipped(path: Path, at: int) -> None:
    held = bytearray(path.read_bytes())
    held[at] ^= 1
    path.write_bytes(bytes(held))


@pytest.mark.parametrize("beside", [None, Path("a")])  # what only the reader of records reads
def test_a_flipped_bit_in_a_file_of_torch_save_is_told(tmp_path: Path, beside: Any) -> None:
    numbers = torch.arange(64.0)
    path = saved(tmp_path, {"state_dict": {"a": numbers}, "path": beside})
    assert torch.equal(read_state_dict(path)["a"], numbers)
    flipped(path, path.read_bytes().index(numbers.numpy().tobytes()) + 17)
    with pytest.raises(CheckpointError, match=r"is damaged: .*data/0.*CRC-32.*Get the file again"):
        read_state_dict(path)
    assert read_arguments(path) == {}  # which reads none of these numbers


def test_a_flipped_bit_in_what_describes_the_tensors_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path, {"state_dict": {"weight": torch.ones(3)}, "arch": "vit_small"})
    flipped(path, path.read_bytes().index(b"vit_small"))
    for read in (read_state_dict, read_arguments):
        with pytest.raises(CheckpointError, match=r"is damaged: .*data\.pkl"):
            read(path)


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(tmp_path, STATE)
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(read_state_dict(path))


def test_records_that_lie_in_one_another_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/data/0", bytes(range(256)) * 64)
        archive.infolist().append(archive.getinfo("a/data/0"))
        archive.infolist().append(archive.getinfo("a/data/0"))
    with pytest.raises(CheckpointError, match="its records overlap"):
        read_state_dict(path)


@pytest.mark.parametrize("turned", [False, True], ids=["last", "first"])
def test_two_keys_of_one_wrapper_that_become_one_are_refused(tmp_path: Path, turned: bool) -> None:
    tensors = {"teacher.a": torch.ones(1), "module.teacher.a": torch.zeros(1), "b": torch.ones(1)}
    tensors = dict(reversed(tensors.items())) if turned else tensors
    with pytest.raises(CheckpointError, match="holds 'teacher.a' twice"):
        read_state_dict(saved(tmp_path, tensors), wrapper="teacher")


def test_a_wrapper_in_several_state_dicts_is_asked_for(tmp_path: Path) -> None:
    held = {"state_dict": {"teacher.a": torch.ones(1)}, "other": {"teacher.a": torch.zeros(1)}}
    path = saved(tmp_path, held | {"third": {"a": torch.ones(1)}})
    told = "each of state_dict.teacher, other.teacher could be meant.*='state_dict.teacher'"
    with pytest.raises(CheckpointError, match=told):
        read_state_dict(path, wrapper="teacher")
    for key in held:
        found = read_state_dict(path, wrapper=f"{key}.teacher")
        assert found == {"a": held[key]["teacher.a"]}
    with pytest.raises(CheckpointError, match="has no state dict 'third.teacher'"):
        read_state_dict(path, wrapper="third.teacher")


@pytest.mark.parametrize(
    "passing", [5, True, 1.5, b"x", "a", [1], torch.zeros(3), torch.nn.Linear(1, 1)], ids=repr
)
def test_a_modules_unsaved_buffers_are_a_set_of_names(tmp_path: Path, passing: Any) -> None:
    module = torch.nn.Linear(2, 2)
    module.__dict__["_non_persistent_buffers_set"] = passing
    with pytest.raises(CheckpointError, match="Linear of the file is no module.*no set of names"):
        read_state_dict(saved(tmp_path, module))
    module.__dict__["_non_persistent_buffers_set"] = None  # as modules were before there was one
    assert set(read_state_dict(saved(tmp_path, module))) == {"weight", "bias"}
    module._buffers["weight"] = torch.zeros(2)
    with pytest.raises(CheckpointError, match="a parameter and a buffer of it have one name"):
        read_state_dict(saved(tmp_path, module))


LONG = 10**5000


@pytest.mark.parametrize("key", [LONG, -LONG, ("a", LONG)], ids=["long", "negative", "in a tuple"])
def test_keys_that_python_does_not_print_are_told(tmp_path: Path, key: Any) -> None:
    weights = {"a": torch.ones(2)}
    for held in ({key: torch.ones(2)}, {"model": weights, key: 1}, {"model": {key: weights}}):
        with pytest.raises(CheckpointError, match="a key in it is a number of more than 64 bits"):
            read_state_dict(saved(tmp_path, held))
    assert set(read_state_dict(saved(tmp_path, {"model": weights, 2**60: LONG}))) == {"a"}


class Part:
    """A class of somebody's; its objects may stand as keys."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts


def shared(depth: int) -> Part:
    part = Part()
    for _ in range(depth):
        part = Part(part, part)
    return part


@pytest.mark.parametrize(
    "key", [shared(60), Fraction(LONG, 3), range(LONG), ("a", shared(60))], ids=["a", "b", "c", "d"]
)
def test_objects_as_keys_are_named_and_not_written_out(tmp_path: Path, key: Any) -> None:
    """Written out, the first has as many parts as 2 to the power of 60."""
    weights = {"a": torch.ones(2)}
    assert set(read_state_dict(saved(tmp_path, {key: weights}))) == {"a"}
    assert set(read_state_dict(saved(tmp_path, {"model": weights, key: 2}))) == {"a"}
    told = {"model": weights, "model_args": {key: 2, "heads": 2}}
    assert read_arguments(saved(tmp_path, told))["heads"] == 2
    with pytest.raises(CheckpointError, match="its keys are "):
        read_state_dict(saved(tmp_path, {key: 2}))
