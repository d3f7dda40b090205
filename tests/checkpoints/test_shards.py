"""Weights in several files, and folders as Trainers and libraries leave them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.checkpoints import digest, expect_whole, read_state_dict, weights_in

STATE = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(2), "c": torch.zeros(4)}


def sharded(folder: Path, form: str = "safetensors") -> Path:
    stem, end = ("model", ".safetensors") if form == "safetensors" else ("pytorch_model", ".bin")
    names = [f"{stem}-0000{n}-of-00002{end}" for n in (1, 2)]
    for name, keys in zip(names, (["a"], ["b", "c"]), strict=True):
        part = {key: STATE[key] for key in keys}
        if form == "safetensors":
            save_file(part, folder / name)
        else:
            torch.save(part, folder / name)
    table = {"a": names[0], "b": names[1], "c": names[1]}
    index = folder / f"{stem}{end}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 48}, "weight_map": table}))
    return index


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_all_files_of_an_index_are_read(tmp_path: Path, form: str) -> None:
    index = sharded(tmp_path, form)
    assert weights_in(tmp_path) == index
    found = read_state_dict(index)
    assert all(torch.equal(found[key], STATE[key]) for key in STATE)
    before = digest(index)
    save_file({"a": STATE["a"] + 1}, tmp_path / "model-00001-of-00002.safetensors")
    assert (digest(index) != before) == (form == "safetensors")


def test_one_of_several_files_is_told_to_be_one(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    with pytest.raises(CheckpointError, match=r"one of 2 files.*Give model\.safetensors\.index"):
        expect_whole(tmp_path / "model-00001-of-00002.safetensors")
    index.unlink()
    with pytest.raises(CheckpointError, match=r"Get model\.safetensors\.index\.json, their index"):
        expect_whole(tmp_path / "model-00001-of-00002.safetensors")
    expect_whole(tmp_path / "model-00001-of-00001.safetensors")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda f: (f / "model-00002-of-00002.safetensors").unlink(),
            "1 of its 2 files are missing",
        ),
        (
            lambda f: save_file({"z": torch.ones(1)}, f / "model-00002-of-00002.safetensors"),
            "2 tensors are missing in it: b, c",
        ),
        (lambda f: write(f, {"weight_map": {"a": "../x.bin"}}), "not beside it"),
        (lambda f: write(f, {"weight_map": {"a": "/etc/passwd"}}), "not beside it"),
        (lambda f: write(f, {"weight_map": {"a": 3}}), "not beside it"),
        (lambda f: write(f, {"weight_map": {"a": ""}}), "not beside it"),
        (
            lambda f: write(f, {"weight_map": {"a": "model.safetensors.index.json"}}),
            "names an index among its files",
        ),
        (lambda f: write(f, {"weight_map": {}}), "without a weight_map"),
        (lambda f: write(f, {"a": 1}), "without a weight_map"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{"), "cannot be read"),
    ],
)
def test_an_index_that_is_not_whole_is_told(tmp_path: Path, change, told) -> None:  # type: ignore[no-untyped-def]
    index = sharded(tmp_path)
    change(tmp_path)
    with pytest.raises(CheckpointError, match=told) as caught:
        read_state_dict(index)
    assert len(str(caught.value)) < 500


def write(folder: Path, table: object) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))


def test_in_a_trainers_folder_the_weights_are_found(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch.save({}, tmp_path / name)
    assert weights_in(tmp_path).name == "model.safetensors"


def test_the_only_checkpoint_of_a_folder_is_taken(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "last.ckpt")
    torch.save({}, tmp_path / "optimizer.pt")
    assert weights_in(tmp_path).name == "last.ckpt"
    torch.save(STATE, tmp_path / "epoch=3.ckpt")
    with pytest.raises(CheckpointError, match=r"several files.*epoch=3\.ckpt, last\.ckpt"):
        weights_in(tmp_path)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], "none of its 0 files"),
        (["readme.txt"], "none of its 1 files"),
        (["zero_to_fp32.py", "latest"], r"DeepSpeed.*zero_to_fp32\.py"),
        ([".metadata", "__0_0.distcp"], "dcp_to_torch"),
        (["adapter_model.safetensors", "adapter_config.json"], "adapter of peft.*Merge"),
        (["tf_model.h5"], r"TensorFlow \(tf_model\.h5\)"),
        (["flax_model.msgpack"], "Flax"),
        (
            ["checkpoint-500/model.safetensors", "checkpoint-1000/model.safetensors"],
            "checkpoint-1000",
        ),
    ],
)
def test_a_folder_without_a_choice_says_what_it_holds(
    tmp_path: Path, names: list[str], told: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CheckpointError, match=told):
        weights_in(tmp_path)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_one_of_several_files_is_not_the_whole_of_a_folder(tmp_path: Path, form: str) -> None:
    """It would load as a network of fewer layers."""
    sharded(tmp_path, form).unlink()
    next(path for path in sorted(tmp_path.iterdir()) if "00002-of" in path.name).unlink()
    with pytest.raises(CheckpointError, match="is one of 2 files of a model"):
        weights_in(tmp_path)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_a_tensor_in_two_files_is_refused_unless_it_is_a_copy(tmp_path: Path, form: str) -> None:
    index = sharded(tmp_path, form)
    second = tmp_path / json.loads(index.read_text())["weight_map"]["b"]
    save = save_file if form == "safetensors" else torch.save
    save({"a": STATE["a"].clone(), "b": STATE["b"], "c": STATE["c"]}, second)
    assert torch.equal(read_state_dict(index)["a"], STATE["a"])
    save({"a": STATE["a"] + 1, "b": STATE["b"], "c": STATE["c"]}, second)
    with pytest.raises(CheckpointError, match=f"holds 'a' twice: {second.name} has other numbers"):
        read_state_dict(index)
