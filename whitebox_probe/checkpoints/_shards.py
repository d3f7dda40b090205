"""Weights in several files, or in a folder: which files there are to read."""

import hashlib
import re
from pathlib import Path
from typing import Any

from whitebox_probe._core import io
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.gate import Unfit, is_file, read_mapping
from whitebox_probe._core.lines import in_characters, shown

INDEX = ".index.json"
# What a folder that a library wrote keeps its weights in, the first that is there first.
_USUAL = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_ENDS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".npz", ".onnx", ".tar")
# What Trainers and accelerate keep beside the weights.
_BESIDE = re.compile(r"(optimizer|scheduler|scaler|sampler|training_args|rng_state|random_states)")
_PIECE = re.compile(r"(.+)-(\d{5})-of-(\d{5})(\.\w+)")
_OTHERS = {
    "tf_model.h5": "weights of TensorFlow",
    "flax_model.msgpack": "weights of Flax",
    "saved_model.pb": "a program of TensorFlow",
    "_CHECKPOINT_METADATA": "a checkpoint of Orbax",
}


def title(path: Path) -> str:
    """What a model is called by the name of its file; bytes that are no UTF-8 are shown escaped.

    >>> title(Path("runs/best.pth.tar"))
    'best'
    """
    return in_characters(path.name.split(".")[0])


def is_index(path: Path) -> bool:
    """Whether a file is, by its beginning, the table of the files that weights lie in."""
    if not is_file(path):
        return False
    try:
        with path.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return False
    return start.lstrip().startswith(b"{") and (
        path.name.endswith(".json") or b'"weight_map"' in start
    )


def named(index: Path) -> dict[Path, list[str]]:
    """The files that an index names, whether they are there or not -> the keys that each holds.

    Raises: CheckpointError for an index that is none, or names other folders.
    """
    table = _json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise CheckpointError(
            f"{index} holds no weights",
            "it is a JSON text without a weight_map, which the index of a sharded model has",
            "Give the file of the weights, or its folder",
        )
    found: dict[Path, list[str]] = {}
    for key, name in table.items():
        if not isinstance(name, str) or not name or Path(name).name != name or "\0" in name:
            raise CheckpointError(
                f"{index} names a file that is not beside it",
                f"the tensor {shown(key)} should be in a file named '{shown(name)}'",
                "Put all files of the model into one folder",
            )
        found.setdefault(index.with_name(name), []).append(key)
    return found


def pieces(index: Path) -> dict[Path, list[str]]:
    """The files beside an index -> the keys that each is to hold.

    Raises: CheckpointError as `named` does, for files that are not there, and for one that is an
        index again, which could lead back here.
    """
    found = named(index)
    missing = [path.name for path in found if not is_file(path)]
    if missing:
        raise CheckpointError(
            f"{index} is not all there",
            f"{len(missing)} of its {len(found)} files are missing, such as {shown(missing[0])}",
            "Get them, and put them beside it",
        )
    for path in found:
        if is_index(path):
            raise CheckpointError(
                f"{index} names an index among its files",
                f"{shown(path.name)} holds no weights itself",
                "Get the index again",
            )
    return found


def expect_whole(path: Path) -> None:
    """Refuse one of several files of a model.

    Raises: CheckpointError that names the index.
    """
    piece = _PIECE.fullmatch(path.name)
    if piece is None or int(piece[3]) < 2:
        return
    index = path.with_name(f"{piece[1]}{piece[4]}{INDEX}")
    raise CheckpointError(
        f"{path} is one of {int(piece[3])} files of a model",
        "each holds a part of the weights",
        f"Give {index.name}, or the folder"
        if index.is_file()
        else f"Get {index.name}, their index",
    )


def weights_in(folder: Path) -> Path:
    """The file of the weights in a folder, or their index.

    Raises: CheckpointError for none, several, or a form that is not read.
    """
    for name in _USUAL:
        if is_file(folder / name):
            return folder / name
    files = sorted(path for path in folder.iterdir() if path.is_file())
    names = {path.name for path in files}
    whole = [p for p in files if p.suffix in _ENDS and not _BESIDE.match(p.name)]
    whole = [p for p in whole if not p.name.startswith("adapter_")]
    indices = [p for p in files if p.name.endswith(INDEX)]
    if len(indices or whole) == 1 and not _is_of_processes(names):
        if not indices:
            expect_whole(whole[0])  # the others may be missing, and it would be a shorter network
        return (indices or whole)[0]
    raise _no_choice(folder, names, [path.name for path in whole])


def _is_of_processes(names: set[str]) -> bool:
    return ".metadata" in names or any(name.endswith(".distcp") for name in names)


def _no_choice(folder: Path, names: set[str], whole: list[str]) -> CheckpointError:
    """Why no file of a folder is read, and which could be."""
    what = f"{folder} holds no weights that can be read"
    if _is_of_processes(names):
        return CheckpointError(
            what,
            "it is a checkpoint of several processes (torch.distributed.checkpoint)",
            "Join it: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER NEW",
        )
    if "zero_to_fp32.py" in names or any("_optim_states" in name for name in names):
        return CheckpointError(
            what,
            "it is a checkpoint of DeepSpeed, in pieces",
            "Join it: python zero_to_fp32.py FOLDER NEW",
        )
    if any(name.startswith("adapter_") for name in names):
        return CheckpointError(
            what,
            "it holds an adapter of peft, and not the model that it changes",
            "Merge it (merge_and_unload), and save the model",
        )
    if whole:
        some = ", ".join(shown(name) for name in whole[:4])
        return CheckpointError(
            f"{folder} holds several files of weights",
            f"each of {some}{', ...' * (len(whole) > 4)} could be meant",
            "Give one of them",
        )
    other = next((f"{told} ({name})" for name, told in _OTHERS.items() if name in names), None)
    if other is not None:
        return CheckpointError(what, f"it holds {other}", "Save it as safetensors with torch")
    below = sorted(p.name for p in folder.iterdir() if p.is_dir() and _holds_weights(p))
    if below:
        # A Trainer numbers its checkpoints: the last one is of the highest number.
        last = max(below, key=lambda name: [int(n) for n in re.findall(r"\d+", name)] or [-1])
        return CheckpointError(
            what,
            f"there are {len(below)} folders with weights in it",
            f"Give one of them, such as {folder / shown(last)}",
        )
    return CheckpointError(
        what, f"none of its {len(names)} files is a checkpoint's", "Check the path, or give a file"
    )


def _holds_weights(folder: Path) -> bool:
    return any(is_file(folder / name) for name in _USUAL)


def of_transformers(folder: Path) -> bool:
    """Whether the configuration in a folder is that of a model of transformers."""
    config = folder / "config.json"
    try:
        return is_file(config) and "model_type" in _json(config)
    except CheckpointError:
        return False


def digest(path: Path) -> str:
    """The SHA-256 of a file; of an index, that of the digests of its files in their order."""
    if not is_index(path):
        return io.sha256(path)
    digests = "".join(io.sha256(piece) for piece in sorted(pieces(path)))
    return hashlib.sha256(digests.encode()).hexdigest()


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_mapping(path)
    except Unfit as why:
        raise CheckpointError(f"{path} cannot be read", str(why), "Get the file again") from why
