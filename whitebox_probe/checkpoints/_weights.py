"""Read the tensors of a checkpoint file without running anything that it holds."""

import argparse
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from whitebox_probe._core.arrays import NUMBERS, read_arrays
from whitebox_probe._core.errors import CheckpointError, LoadWarning, NonFiniteError
from whitebox_probe._core.gate import Unfit, is_file, read_mapping
from whitebox_probe._core.lines import shown
from whitebox_probe.checkpoints._formats import (
    damaged,
    expect_readable,
    first_bytes,
    is_arrays,
    is_text,
)
from whitebox_probe.checkpoints._onnx import read_onnx
from whitebox_probe.checkpoints._pickles import Damaged, Harmful, Made
from whitebox_probe.checkpoints._records import read_records
from whitebox_probe.checkpoints._safetensors import read_safetensors
from whitebox_probe.checkpoints._shards import is_index, pieces
from whitebox_probe.checkpoints._tensors import oddity, same
from whitebox_probe.checkpoints._unwrapping import listed, no_weights, stripped, unwrap

if TYPE_CHECKING:
    from torch import Tensor

    from whitebox_probe.checkpoints._unwrapping import Fits

_LISTED = 4096
_PLAIN = (str, int, float, bool, type(None))

ARCHITECTURES = ("arch", "architecture", "model", "model_name")
"""Under which names training scripts keep the name of the architecture."""
HEADS = ("heads", "num_heads", "n_head", "n_heads", "num_attention_heads")
"""Under which names they keep the number of heads."""


class Weights(NamedTuple):
    """The tensors of a file by name, and what a user should know of how they were found."""

    tensors: "dict[str, Tensor]"
    notes: list[LoadWarning]


def read_state_dict(path: Path, *, wrapper: str | None = None) -> "dict[str, Tensor]":
    """The tensors of a file by name, as `read_weights` finds them."""
    return read_weights(path, wrapper=wrapper).tensors


def read_weights(path: Path, *, wrapper: str | None = None, fits: "Fits | None" = None) -> Weights:
    """The tensors of a file by name, on the CPU.

    Reads safetensors, plain state dicts, training checkpoints that hold a state dict beside the
    optimizer and the rest, whole modules (their tensors alone), the index of a sharded model, the
    tensors of an ONNX graph (`.onnx`), and the .npz archives of JAX code (`params/...`, keys as
    they are; the optimizer's are not read). `module` (DataParallel), `_orig_mod` (torch.compile)
    and their like are taken out of keys wherever they stand; `backbone.` (DINO) is taken off when
    every key has it.

    Args: wrapper: the key of the state dict, for a file that holds several, keys one in another
        with a point between, or what the names of its tensors begin with. fits: whether a state
        dict is of the network that is wanted, where a file holds several.
    Raises: CheckpointError for a file that is missing, damaged, wants to run code, or holds no
        state dict or several; NonFiniteError.
    """
    path = Path(path)
    notes: list[LoadWarning] = []
    tensors = unwrap(_contents(path), path, wrapper, fits, notes)
    _expect_plain(tensors, path)
    tensors = stripped(tensors, path)
    _refuse_non_finite(tensors, path)
    return Weights(tensors, notes)


def _contents(path: Path) -> Any:
    """Everything in a file, or in the files that an index names."""
    if is_index(path):
        joined: dict[str, Tensor] = {}
        others: list[tuple[Path, str, Any]] = []
        for piece, keys in pieces(path).items():
            held = _contents(piece)
            absent = [key for key in keys if not isinstance(held, Mapping) or key not in held]
            if absent:
                raise CheckpointError(
                    f"{piece} is not the file that {path.name} speaks of",
                    f"{len(absent)} tensors are missing in it: {listed(absent)}",
                    "Get all files of the model again",
                )
            joined |= {key: held[key] for key in keys}
            others += [(piece, key, value) for key, value in held.items() if key not in keys]
        for piece, key, value in others:
            if key in joined and not same(joined[key], value):
                raise CheckpointError(
                    f"{path} holds '{shown(key)}' twice",
                    f"{shown(piece.name)} has other numbers of it than the file of the index",
                    "Get all files of the model again",
                )
        return joined
    start = first_bytes(path)
    read = _reader(path, start)
    return _pickled(path, start) if read is None else read(path)


def read_arguments(path: Path) -> dict[str, Any]:
    """What a file, and a config.json beside it, say of the network; empty if nothing.

    Of a pickle: its `arch`, and what its `model_args` (nanoGPT), `hyper_parameters` (Lightning),
    `config` and `args` hold. `args` are of a whole training script: only names of an architecture
    and numbers of heads are taken from them. What stands first wins.

    Raises: CheckpointError as `read_weights` does, and for a config.json that is no JSON object.
    """
    path = Path(path)
    found: dict[str, Any] = {}
    # Only a pickle holds anything but tensors.
    if not is_index(path) and _reader(path, start := first_bytes(path)) is None:
        loaded = _pickled(path, start, numbers=False)
        if isinstance(loaded, Mapping):
            found = _told(loaded)
    beside = path.with_name("config.json")
    return (_flat(_json(beside)) if is_file(beside) else {}) | found


def _told(loaded: Mapping[Any, Any]) -> dict[str, Any]:
    """The arguments of a network that a training checkpoint keeps beside the weights."""
    found: dict[str, Any] = {}
    for key in ("args", "config", "hyper_parameters", "model_args"):
        held = _values(loaded.get(key))
        if isinstance(held, Mapping):
            told = _flat(held)
            whole = key != "args"
            found |= {k: v for k, v in told.items() if whole or k in (*ARCHITECTURES, *HEADS)}
    found |= {k: loaded[k] for k in ARCHITECTURES if isinstance(loaded.get(k), str)}
    return found


def _flat(held: Mapping[Any, Any]) -> dict[str, Any]:
    """Plain values by name, those of a network's own part first."""
    parts = [held.get(key) for key in ("args", "config", "model", "network", "model_args")]
    inner = [_values(part) for part in parts]
    flat = {str(k): v for k, v in held.items() if _is_plain(v)}
    for part in inner:
        if isinstance(part, Mapping):
            flat |= {str(k): v for k, v in part.items() if _is_plain(v)}
    return flat


def _is_plain(value: Any) -> bool:
    """Whether it is a number, a word, or a short list of them, as an argument of a network is."""
    if isinstance(value, list | tuple):
        return len(value) <= _LISTED and all(isinstance(each, _PLAIN) for each in value)
    return isinstance(value, _PLAIN)


def _values(held: Any) -> Any:
    """The values by name of a dict, a Namespace, or another object that a file describes."""
    if isinstance(held, Made):
        return held.fields
    return vars(held) if isinstance(held, argparse.Namespace) else held


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_mapping(path)
    except Unfit as why:
        raise CheckpointError(f"{path} cannot be read", str(why), "Mend it, or pass arch=") from why


def _reader(path: Path, start: bytes) -> "Callable[[Path], dict[str, Tensor]] | None":
    """How a file that is no pickle is read; None for a pickle."""
    if path.suffix.lower() == ".onnx":
        return read_onnx
    if len(start) > 8 and start[8:9] == b"{":  # 8 bytes of length, then JSON
        return read_safetensors
    return _archive if is_arrays(path) else None


def check_keys(
    expected: Mapping[str, tuple[int, ...]],
    found: "Mapping[str, Tensor]",
    *,
    source: str,
    floating: Collection[str] = (),
    fix: str = "Give the architecture it was trained with; nothing was loaded",
) -> None:
    """Raise CheckpointError unless the tensors fit the network, key by key and shape by shape.

    Args: floating: the keys whose tensors must hold real numbers of 16 bits or more; loading would
        convert quantised or complex ones in silence. fix: what the message says to do.
    """
    missing = [key for key in expected if key not in found]
    unexpected = [key for key in found if key not in expected]
    wrong = [
        f"{key} {tuple(found[key].shape)} where {tuple(shape)} is expected"
        for key, shape in expected.items()
        if key in found and tuple(found[key].shape) != tuple(shape)
    ]
    odd = {k: found[k] for k in floating if k in found and not is_floating(found[k])}
    typed = _typed(odd)
    kinds = {"missing": missing, "unexpected": unexpected, "wrongly shaped": wrong}
    kinds["not of floating point"] = typed
    told = [f"{len(keys)} {kind}: {listed(keys)}" for kind, keys in kinds.items() if keys]
    if typed and len(told) == 1:  # another architecture would not mend them
        raise not_floating(source, odd)
    if told:
        raise CheckpointError(
            f"{source} does not fit the architecture",
            "; ".join(told),
            fix,
        )


def is_floating(tensor: "Tensor") -> bool:
    """Whether a tensor holds real numbers of 16 bits or more, as a network computes in."""
    return tensor.is_floating_point() and tensor.itemsize > 1


def not_floating(source: str | Path, odd: "Mapping[str, Tensor]") -> CheckpointError:
    """The error of weights that are quantised, whole numbers, or complex."""
    return CheckpointError(
        f"the weights of {source} are of a type that no network of this kind computes in",
        f"{len(odd)} not of floating point: {listed(_typed(odd))}",
        "Convert them with what made them (quantised ones have scales of their own), and save "
        "them as float32",
    )


def _typed(tensors: "Mapping[str, Tensor]") -> list[str]:
    return [f"{key} ({str(t.dtype).removeprefix('torch.')})" for key, t in tensors.items()]


def _archive(path: Path) -> "dict[str, Tensor]":
    """The parameters of an archive; arrays of the optimizer's state stay unread."""
    import numpy as np
    import torch

    def params(names: list[str]) -> list[str]:
        names = [name for name in names if not name.startswith("opt/")]
        return [name for name in names if name.startswith("params/")] or names

    tensors = {}
    try:
        # NumPy's name for JAX's bfloat16 is that of two bytes.
        arrays = read_arrays(path, kinds=f"{NUMBERS}V", only=params)
        for name, array in arrays.items():
            if array.dtype == np.dtype("V2"):
                tensors[name] = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
            elif array.dtype.kind == "V":
                raise Unfit(f"'{shown(name)}' is of the type {array.dtype}, which holds no numbers")
            else:
                tensors[name] = torch.from_numpy(array)
    except (Unfit, TypeError) as why:  # types that torch has no word for, as of 128 bits
        if "Python objects" in str(why):
            raise CheckpointError(
                f"{path} was refused",
                "it holds Python objects, and unpickling them could run code",
                "Save plain arrays",
            ) from why
        raise damaged(path, why) from why
    if not tensors:
        raise no_weights(path, "it is an archive without parameters")
    return tensors


def _pickled(path: Path, start: bytes, *, numbers: bool = True) -> Any:
    """What torch.save wrote, read as data: of what is no container or tensor, the names alone.

    Args: numbers: whether those of its tensors are needed, and so compared with their checksums.
    """
    expect_readable(path, start)
    if path.suffix.lower() == ".safetensors" and not start.startswith((b"PK", b"\x80")):
        raise damaged(path, "it does not begin as safetensors do")
    try:
        return read_records(path, numbers=numbers)
    except Harmful as error:
        raise CheckpointError(
            f"{path} was refused",
            f"unpickling it would run code ({shown(error)}), and nothing of it was executed",
            "Ask its author for safetensors or a plain state dict",
        ) from error
    except Damaged as error:
        if (text := is_text(start)) is not None:
            raise no_weights(path, f"{text}, such as an error that was saved for it") from error
        raise damaged(path, shown(error, 160)) from error


def _expect_plain(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    """Refuse tensors without numbers of their own, or of another layout."""
    odd = {key: kind for key, tensor in tensors.items() if (kind := oddity(tensor)) is not None}
    if odd:
        raise CheckpointError(
            f"{path} holds tensors that are no plain arrays",
            f"{len(odd)} of {len(tensors)}: {listed([f'{k} ({v})' for k, v in odd.items()])}",
            "Save plain tensors, with their numbers",
        )
    empty = [key for key, tensor in tensors.items() if not tensor.numel()]
    if 2 * len(empty) > len(tensors):
        raise CheckpointError(
            f"{path} holds tensors without numbers",
            f"{len(empty)} of {len(tensors)} are empty, as where each process saved its part "
            "(DeepSpeed's third stage, FSDP)",
            "Join the parts first, such as with zero_to_fp32.py",
        )


def _refuse_non_finite(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    bad = [
        key
        for key, tensor in tensors.items()
        if tensor.is_floating_point()
        and tensor.itemsize > 1  # of 8 bits: `check_keys` refuses them
        and not _finite(tensor)
    ]
    if bad:
        raise NonFiniteError(
            f"{path} holds NaN or infinity",
            f"{len(bad)} of {len(tensors)} tensors are not finite: {listed(bad)}",
            "Take a checkpoint from before the training diverged",
        )


def _finite(tensor: "Tensor") -> bool:
    """Whether every number is finite: NaN is passed on by the extremes, and infinity is one."""
    return tensor.numel() == 0 or all(bool(end.isfinite()) for end in tensor.aminmax())
