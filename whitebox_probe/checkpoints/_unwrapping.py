"""Where in a file's contents its state dict is, and keys without what wrappers put into them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

SHOWN = 10
WRAPPERS = ("module", "_orig_mod")  # of DataParallel and of torch.compile
BACKBONE = "backbone."


def listed(keys: list[str]) -> str:
    """The first of some keys, and how many more there are."""
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more


def _is_tensors(thing: Any) -> bool:
    import torch

    return (
        isinstance(thing, Mapping)
        and bool(thing)
        and all(isinstance(value, torch.Tensor) for value in thing.values())
    )


def unwrap(loaded: Any, path: Path, wrapper: str | None) -> "dict[str, Tensor]":
    """The state dict that a file holds, or that `wrapper` names.

    Raises: CheckpointError for none, or several; it says what was found instead.
    """
    if not isinstance(loaded, Mapping):
        raise no_weights(path, f"it holds a {type(loaded).__name__}")
    if wrapper is not None:
        if not _is_tensors(loaded.get(wrapper)):
            there = f"; {told}" if (told := _inside(loaded, wrapper)) else ""
            raise CheckpointError(
                f"{path} has no state dict '{wrapper}'",
                f"its keys are {listed([str(key) for key in loaded])}{there}",
                "Give wrapper= one that holds tensors",
            )
        return dict(loaded[wrapper])
    # Looked at first: a training checkpoint may keep its best accuracy as a tensor at the top.
    held = [str(key) for key, value in loaded.items() if _is_tensors(value)]
    if len(held) > 1:
        raise CheckpointError(
            f"{path} holds several state dicts",
            f"each of {listed(held)} could be meant",
            f"Say which, such as wrapper='{held[0]}'",
        )
    if held:
        return dict(loaded[held[0]])
    if _is_tensors(loaded):
        return dict(loaded)
    near = [_mixed("it", loaded), *(_inside(loaded, key) for key in loaded)]
    keys = f"its keys are {listed([str(key) for key in loaded])}"
    raise no_weights(path, "; ".join(filter(None, near)) or keys)


def _inside(loaded: Mapping[Any, Any], key: Any) -> str:
    """What is found under a key that nearly holds a state dict; empty if nothing of the kind."""
    held = loaded.get(key)
    if not isinstance(held, Mapping):
        return ""
    deeper = [f"{key} -> {name}" for name, value in held.items() if _is_tensors(value)]
    if deeper:
        return f"its state dicts are two levels down, at {listed(deeper)}"
    return _mixed(f"its '{key}'", held)


def _mixed(who: str, held: Mapping[Any, Any]) -> str:
    """What stands among the tensors of a dict; empty where there are no tensors."""
    import torch

    rest = {key: value for key, value in held.items() if not isinstance(value, torch.Tensor)}
    others = [f"{key} ({type(value).__name__})" for key, value in rest.items()]
    count = len(held) - len(others)
    if not count:
        return ""
    return f"{who} holds {count} tensor{'s' * (count > 1)}, and beside them {listed(others)}"


def no_weights(path: Path, why: str) -> CheckpointError:
    """The refusal of a file without a state dict."""
    return CheckpointError(
        f"{path} holds no state dict", why, "Save model.state_dict(), or a dict that holds it"
    )


def stripped(tensors: "Mapping[str, Tensor]", path: Path) -> "dict[str, Tensor]":
    """Take out what wrappers put into keys, wherever it stands, and a `backbone.` before all.

    A `backbone.` beside a `head.` is a part of the network itself, for its family to judge.

    Raises: CheckpointError when two keys become one.
    """
    short: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        parts = [part for part in key.split(".") if part not in WRAPPERS]
        name = ".".join(parts) or key
        if name in short:
            raise CheckpointError(
                f"{path} holds '{name}' twice",
                f"'{key}' and another key are the same without {' and '.join(WRAPPERS)}",
                "Save the state dict of the network inside its wrapper",
            )
        short[name] = tensor
    while short and all(key.startswith(BACKBONE) for key in short):
        short = {key.removeprefix(BACKBONE): tensor for key, tensor in short.items()}
    return short
