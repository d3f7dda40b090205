"""Read the tensors of a checkpoint file without running anything that it holds."""

import argparse
import json
import pickle
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import CheckpointError, NonFiniteError
from whitebox_probe.checkpoints._onnx import read_onnx
from whitebox_probe.checkpoints._unwrapping import SHOWN, listed, no_weights, stripped, unwrap

if TYPE_CHECKING:
    from torch import Tensor

ARCHITECTURES = ("arch", "architecture", "model", "model_name")
"""Under which names training scripts keep the name of the architecture."""
HEADS = ("heads", "num_heads", "n_head", "n_heads", "num_attention_heads")
"""Under which names they keep the number of heads."""


def read_state_dict(path: Path, *, wrapper: str | None = None) -> "dict[str, Tensor]":
    """The tensors of a file by name, on the CPU.

    Reads safetensors, plain state dicts, training checkpoints that hold a state dict beside the
    optimizer and the rest, the tensors of an ONNX graph (`.onnx`), and the .npz archives of JAX
    code (`params/...`, keys as they are; the optimizer's are not read). `module` (DataParallel) and
    `_orig_mod` (torch.compile) are taken out of keys wherever they stand; `backbone.` (DINO) is
    taken off when every key has it.

    Args: wrapper: the key of the state dict, for a file that holds several.
    Raises: CheckpointError for a file that is missing, damaged, wants to run code, or holds no
        state dict or several; NonFiniteError.
    """
    path = Path(path)
    start = _start(path)
    read = _reader(path, start)
    if read is not None:
        tensors = read(path)
        if wrapper is not None:
            raise CheckpointError(
                f"{path} has no '{wrapper}'",
                "a file of its kind holds one state dict",
                "Leave out wrapper=",
            )
    else:
        tensors = unwrap(_pickled(path, start), path, wrapper)
    tensors = stripped(tensors, path)
    _refuse_non_finite(tensors, path)
    return tensors


def read_arguments(path: Path) -> dict[str, Any]:
    """What a file, and a config.json beside it, say of the network; empty if nothing.

    Of a pickle: its `arch`, and what its `model_args` (nanoGPT), `hyper_parameters` (Lightning),
    `config` and `args` hold. `args` are of a whole training script: only names of an architecture
    and numbers of heads are taken from them. What stands first wins.

    Raises: CheckpointError as `read_state_dict` does, and for a config.json that is no JSON object.
    """
    path = Path(path)
    start = _start(path)
    found: dict[str, Any] = {}
    if _reader(path, start) is None:  # only a pickle holds anything but tensors
        loaded = _pickled(path, start)
        if isinstance(loaded, Mapping):
            found = _told(loaded)
    beside = path.with_name("config.json")
    return (_flat(_json(beside)) if beside.is_file() else {}) | found


def _told(loaded: Mapping[Any, Any]) -> dict[str, Any]:
    """The arguments of a network that a training checkpoint keeps beside the weights."""
    found: dict[str, Any] = {}
    for key in ("args", "config", "hyper_parameters", "model_args"):
        held = loaded.get(key)
        held = vars(held) if isinstance(held, argparse.Namespace) else held
        if isinstance(held, Mapping):
            told = _flat(held)
            whole = key != "args"
            found |= {k: v for k, v in told.items() if whole or k in (*ARCHITECTURES, *HEADS)}
    found |= {k: loaded[k] for k in ARCHITECTURES if isinstance(loaded.get(k), str)}
    return found


def _flat(held: Mapping[Any, Any]) -> dict[str, Any]:
    """Plain values by name, those of a network's own part first."""
    parts = [held.get(key) for key in ("args", "config", "model", "network", "model_args")]
    inner = [vars(p) if isinstance(p, argparse.Namespace) else p for p in parts]
    flat = {str(k): v for k, v in held.items() if not isinstance(v, Mapping)}
    for part in inner:
        if isinstance(part, Mapping):
            flat |= {str(k): v for k, v in part.items() if not isinstance(v, Mapping)}
    return flat


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read", str(error).splitlines()[0], "Mend it, or pass arch="
        ) from error
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{path} is no configuration",
            f"it holds a {type(found).__name__}",
            "Mend it, or pass arch=",
        )
    return found


def _reader(path: Path, start: bytes) -> "Callable[[Path], dict[str, Tensor]] | None":
    """How a file that is no pickle is read; None for a pickle."""
    if path.suffix.lower() == ".onnx":
        return read_onnx
    if len(start) > 8 and start[8:9] == b"{":  # 8 bytes of length, then JSON
        return _safetensors
    return _archive if _is_archive(path) else None


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
    typed = [
        f"{key} ({str(found[key].dtype).removeprefix('torch.')})"
        for key in floating
        if key in found and not (found[key].is_floating_point() and found[key].itemsize > 1)
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "wrongly shaped": wrong}
    kinds["not of floating point"] = typed
    told = [f"{len(keys)} {kind}: {listed(keys)}" for kind, keys in kinds.items() if keys]
    if told:
        raise CheckpointError(
            f"{source} does not fit the architecture",
            "; ".join(told),
            fix,
        )


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read", str(error.strerror), "Check the path"
        ) from error
    if not start:
        raise CheckpointError(f"{path} is empty", "it has 0 bytes", "Get the file again")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{path} is no checkpoint",
            "it is the placeholder that Git LFS leaves for one",
            "Run: git lfs pull",
        )
    return start


def _damaged(path: Path, why: object) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a whole checkpoint",
        f"{str(why).splitlines()[0] if str(why) else 'it ends too early'}",
        "Get the file again, as safetensors or as torch.save wrote it",
    )


def _safetensors(path: Path) -> "dict[str, Tensor]":
    import safetensors
    import safetensors.torch

    try:
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise _damaged(path, error) from error
    return tensors


def _is_archive(path: Path) -> bool:
    """Whether it is what numpy.savez wrote, whatever it is called."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
    return bool(names) and all(name.endswith(".npy") for name in names)


def _archive(path: Path) -> "dict[str, Tensor]":
    """The parameters of an archive; arrays of the optimizer's state stay unread."""
    import numpy as np
    import torch

    tensors = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            names = [name for name in file.files if not name.startswith("opt/")]
            params = [name for name in names if name.startswith("params/")]
            for name in params or names:
                array = file[name]
                if array.dtype == np.dtype("V2"):  # NumPy's name for JAX's bfloat16
                    tensors[name] = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
                else:
                    tensors[name] = torch.from_numpy(array)
    except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):
            raise CheckpointError(
                f"{path} was refused",
                "it holds Python objects, and unpickling them could run code",
                "Save plain arrays",
            ) from error
        raise _damaged(path, error) from error
    if not tensors:
        raise no_weights(path, "it is an archive without parameters")
    return tensors


def _pickled(path: Path, start: bytes) -> Any:
    """What torch.save wrote; `weights_only` refuses whatever is not data."""
    import torch

    zipped = zipfile.is_zipfile(path)
    if start.startswith(b"PK") and not zipped:
        raise _damaged(path, "it is cut short: the table at its end is missing")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise _damaged(path, "it is a web page")
    try:
        with torch.serialization.safe_globals(_harmless()):
            # Only the zip format can be mapped; then an optimizer's moments are never read.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        told = str(error)
        if "global" in told.lower() or "instantiate" in told:
            names = _asked_for(path, zipped)
            raise CheckpointError(
                f"{path} was refused",
                f"unpickling it would run code ({names}), and nothing of it was executed",
                "Ask its author for safetensors or a plain state dict",
            ) from error
        raise _damaged(path, "it is no file that torch.save or safetensors wrote") from error
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise _damaged(path, error) from error


def _asked_for(path: Path, zipped: bool) -> str:
    """Which functions or classes a refused file names; for the message only."""
    import torch

    if not zipped:
        return "an old-format pickle"
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (pickle.UnpicklingError, RuntimeError, ValueError):
        return "an unreadable pickle"
    allowed = {"argparse.Namespace"}
    return ", ".join(sorted(set(names) - allowed)[:SHOWN]) or "an object that is not data"


def _harmless() -> list[Any]:
    """Types that training scripts keep beside the weights, and that only hold values.

    A Namespace gets attributes and nothing more; a NumPy scalar is its dtype and its bytes.
    """
    import numpy as np

    scalar = np.float64(0).__reduce__()[0]
    dtypes = {
        type(np.dtype(kind)) for kind in (bool, "i1", "i2", "i4", "i8", "u1", "f2", "f4", "f8")
    }
    # The same function under the names NumPy 1 and NumPy 2 give it.
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [argparse.Namespace, np.dtype, *dtypes, *((scalar, name) for name in names)]


def _refuse_non_finite(tensors: "Mapping[str, Tensor]", path: Path) -> None:
    bad = [
        key
        for key, tensor in tensors.items()
        if tensor.is_floating_point()
        and tensor.itemsize > 1  # of 8 bits: `check_keys` refuses them
        and not bool(tensor.isfinite().all())
    ]
    if bad:
        raise NonFiniteError(
            f"{path} holds NaN or infinity",
            f"{len(bad)} of {len(tensors)} tensors are not finite: {listed(bad)}",
            "Take a checkpoint from before the training diverged",
        )
