"""What a training script of timm, or of its kin, keeps beside the weights: all of its arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whitebox_probe.checkpoints._formats import first_bytes
from whitebox_probe.checkpoints._shards import is_index
from whitebox_probe.checkpoints._weights import ARCHITECTURES, _pickled, _reader, _values


def read_script(path: Path) -> dict[str, Any]:
    """The arguments (`args`) of the script that wrote a file, by name; empty if it keeps none.

    The name of the architecture is under `arch`, wherever it stands.

    Raises: CheckpointError as `read_weights` does.
    """
    path = Path(path)
    if is_index(path) or _reader(path, start := first_bytes(path)) is not None:
        return {}
    loaded = _pickled(path, start)
    args = _values(loaded.get("args")) if isinstance(loaded, Mapping) else None
    if not isinstance(args, Mapping):
        return {}
    found = {str(key): value for key, value in args.items()}
    inner = _values(found.get("model_kwargs"))
    found["model_kwargs"] = dict(inner) if isinstance(inner, Mapping) else {}
    named = [held.get(key) for held in (loaded, found) for key in ARCHITECTURES]
    return found | {"arch": next((name for name in named if isinstance(name, str)), None)}
