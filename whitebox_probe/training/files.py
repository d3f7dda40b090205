"""The files of a training run: whole under their names, and read as what may be damaged."""

import hashlib
import io
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError, ProbeError
from whitebox_probe._core.gate import Unfit, digest, expect, gate, read_mapping, size_of
from whitebox_probe._core.io import atomic_path

LOG, STATE, FINAL = "log.json", "state.pt", "final.safetensors"
_DIGEST = 64  # hexadecimal digits of SHA-256, behind the state that torch reads
_NUMBER = {"type": "number", "minimum": -1e300, "maximum": 1e300}
_EPOCH = {
    "type": "object",
    "properties": dict.fromkeys(
        ("loss", "validation_accuracy", "validation_loss", "seconds"), _NUMBER
    ),
    "additionalProperties": False,
}
_RECIPE = {"type": "object"}
_ANY_LOG = {
    "type": "object",
    "required": ["recipe", "digest"],
    "properties": {"recipe": _RECIPE, "digest": {"type": "string"}},
}
_LOG_OF_STATE = {
    "type": "object",
    "required": ["recipe", "data", "epochs"],
    "properties": {
        "recipe": _RECIPE,
        "data": {"type": "object"},
        "epochs": {"type": "array", "items": _EPOCH, "minItems": 1},
    },
}
Of = TypeVar("Of")


def expect_no_run(out: Path) -> None:
    """Refuse a folder of another run, of which a new one would leave a part.

    Raises: CheckpointError.
    """
    if held := [name for name in (STATE, LOG, FINAL) if (out / name).exists()]:
        raise CheckpointError(
            f"{out} holds a run already",
            f"{held[0]} is there",
            "Pass --resume to go on with it, or use another --out",
        )


def write_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write a state dict as safetensors."""
    content = safetensors.torch.save(weights)
    with atomic_path(path) as part:
        part.write_bytes(content)


def write_log(out: Path, log: Mapping[str, Any]) -> None:
    """Write what is known of a run, as JSON, with its digest."""
    signed = {**log, "digest": digest(log)}
    with atomic_path(out / LOG) as path:
        path.write_text(json.dumps(signed, indent=1) + "\n", encoding="utf-8")


def read_log(out: Path) -> dict[str, Any]:
    """What `write_log` wrote: a recipe at least.

    Raises: CheckpointError.
    """
    try:
        log = read_mapping(out / LOG)
        expect(_ANY_LOG, log)
        if log.pop("digest") != digest(log):
            raise Unfit("it is not as it was written")
    except Unfit as error:
        raise _damaged(out / LOG, str(error)) from error
    return log


def tells(out: Path, epochs: list[dict[str, float]]) -> bool:
    """Whether the log that is there tells of these epochs."""
    try:
        return read_log(out).get("epochs") == epochs
    except CheckpointError:
        return False


def recipe_of(log: Mapping[str, Any], kind: type[Of], out: Path) -> Of:
    """The recipe that a log tells.

    Raises: CheckpointError for one that is none.
    """
    try:
        with gate():
            return kind(**log["recipe"])
    except (Unfit, ProbeError) as error:
        raise _damaged(out / LOG, f"its recipe is none: {error}") from error


def fill(module: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load weights into a network that they are to fit.

    Raises: CheckpointError.
    """
    try:
        expect_like(weights, module.state_dict(), "it")
    except Unfit as error:
        raise _damaged(path, str(error)) from error
    module.load_state_dict(dict(weights))


def expect_like(found: Any, like: Mapping[Any, Any], name: str) -> None:
    """Check that mappings in one another hold finite tensors of the types and shapes of others.

    Raises: Unfit.
    """
    if not isinstance(found, Mapping) or set(found) != set(like):
        raise Unfit(f"{name} is not of this network")
    for key, of in like.items():
        value = found[key]
        if isinstance(of, Mapping):
            expect_like(value, of, name)
            continue
        same = isinstance(value, Tensor) and value.layout == of.layout
        same = same and (value.shape, value.dtype, value.device) == (of.shape, of.dtype, of.device)
        # One that is expanded, or a view that is negated, cannot be changed in its place.
        if not same or value.stride() != of.stride() or value.is_neg():
            raise Unfit(f"{name} holds a '{key}' of another kind or shape")
        if not bool(value.isfinite().all()):
            raise Unfit(f"{name} holds a '{key}' that is not finite")


def write_state(out: Path, state: Mapping[str, Any]) -> None:
    """Write what a resumed run needs, with its digest."""
    held = io.BytesIO()
    torch.save(dict(state), held)
    content = held.getvalue()
    with atomic_path(out / STATE) as path:
        path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())


def read_state(out: Path) -> dict[str, Any]:
    """What `write_state` wrote, with the log as a mapping.

    Raises: CheckpointError when there is nothing to resume, or it is not as it was written.
    """
    path = out / STATE
    if not path.exists():
        raise CheckpointError(
            f"there is nothing to resume in {out}",
            "it holds no state of a run",
            "Leave --resume out to start a new run",
        )
    try:
        size_of(path)
        whole = path.read_bytes()
        content, signed = whole[:-_DIGEST], whole[-_DIGEST:]
        if hashlib.sha256(content).hexdigest().encode() != signed:
            raise Unfit("it is not as it was written, or of an older version")
        with gate(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sparse tensors, which are refused
            state = dict(torch.load(io.BytesIO(content), weights_only=True))
            log = json.loads(state["log"])
            expect(_LOG_OF_STATE, log, name="its log")
            return {**state, "log": log}
    except Unfit as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path} cannot be read", why, "Start the training anew, in another folder"
    )
