"""What has to be the same for a pass to go on, by the name that a user knows it by."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.versions import version_of
from whitebox_probe.data.source import Source
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.offloaded import is_offloaded, named_tensors
from whitebox_probe.probing.closures import UNKNOWN as UNKNOWN
from whitebox_probe.probing.closures import Reach
from whitebox_probe.probing.hashing import RAW, add_raw, add_tensor, update
from whitebox_probe.probing.plan import Plan
from whitebox_probe.probing.settings import Execution, Settings

HASHES = ("weights", "data", "layout", "hooks", "measurements", "samples")
SPREAD = 256
"""What is too long to be told: that it changed is said, and not from what to what."""
# Public attributes of modules that no output depends on, or that a forward pass sets.
_PASSING = frozenset(
    {"training", "grad_checkpointing", "gradient_checkpointing", "max_seq_len_cached"}
    | {"name_or_path", "transformers_version"}
)
# Whose code makes the features and the numbers of a pass: a run goes on beside the same ones only.
_COMPUTED_BY = ("whitebox-probe", "torch", "torchvision", "timm", "transformers")
_REGISTERED = frozenset({"_parameters", "_buffers", "_modules"})


def identity(
    model: ProbeModel,
    network: Mapping[str, Any],
    source: Source,
    plan: Plan,
    settings: Settings,
    execution: Execution,
    device: torch.device,
    fit: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Everything that a pass depends on.

    Args: network: what `held` read before the first batch. fit: the data of fitted bases.
    """
    kept = settings.told()
    return {
        **network,
        "family": [model.anatomy.name, asdict(model.dims)],
        "places of tokens": [list(model.extra_tokens), model.class_index],
        "stated of the module": dict(model.anatomy.stated()),
        "preprocess": None if model.preprocess is None else model.preprocess.told(),
        "data": [source.name, source.fingerprint],
        **{name: value[0] if _alone(value) else value for name, value in kept.items()},
        "metrics": list(dict.fromkeys(m.measure.name for m in plan)),
        "sites": plan.places(),
        "measurements": [m.told() for m in plan],
        "places of the sites": places(model, plan),
        "batch_size": execution.batch_size,
        "device": device.type,
        "versions": {name: version_of(name) for name in _COMPUTED_BY},
        "data of the fit": fit,
    }


def spread(source: Source, workers: int, *, classes: bool = False) -> dict[str, Any]:
    """What tells samples apart, of all, or of so many that lie evenly among them.

    Args: classes: those of the samples too, as class-wise measures depend on them.

    Each process reads others: that all have the same images can only be known by reading some of
    them everywhere.
    """
    count = len(source.numbers)
    some = [source.numbers[i * count // SPREAD] for i in range(SPREAD)] if count > SPREAD else None
    numbers = source.numbers if some is None else some
    found = None if source.identities is None else source.identities(numbers, workers)
    told = {"numbers of samples": count, "samples": found}
    if classes and source.classes is not None:
        told["samples' classes"] = source.classes(numbers, workers)
    return told


def _alone(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 1


def places(model: ProbeModel, plan: Plan) -> dict[str, str]:
    """Where the sites are read, by the first layer: a mapping of one's own can be changed."""
    taps = model.layer(1).taps
    return {site: f"{taps[site].module}:{taps[site].side}" for site in plan.sites if site in taps}


def held(module: nn.Module) -> dict[str, Any]:
    """All that decides a network's output: a digest of its tensors, its `constants`, and its hooks.

    To be read before the first batch, and without the hooks of a probe: a module may keep what it
    was last given. What hooks, and functions in attributes, hold where nothing can read it is named
    under `UNKNOWN`.
    """
    return {**_plainly(module), **Reach(module, _plainly).told()}


def _plainly(module: nn.Module) -> dict[str, Any]:
    return {"weights": digest(module), **constants(module)}


def digest(module: nn.Module) -> str:
    """Hash of all tensors that a network holds, with their names.

    Beside parameters and buffers these are tensors and arrays in attributes of its parts, in lists
    and mappings, too, and what the parts save of themselves: packed weights, extra state.
    """
    found = hashlib.blake2b(digest_size=16)
    named = dict((*module.named_parameters(), *module.named_buffers()))
    away = is_offloaded(module)
    for name, tensor in named_tensors(module) if away else named.items():
        add_tensor(found, name, tensor)
    # A probe runs in inference mode: a loose tensor made there is a result, and no constant.
    made_there = not any(tensor.is_inference() for tensor in named.values())
    for path, part in module.named_modules():
        for name, value in vars(part).items():
            if name not in _REGISTERED:
                _add_held(found, f"{path}.{name}", value, made_there, ())
    for name, value in module.state_dict().items():
        if name not in named:
            _add_held(found, f"saved {name}", value, made_there, ())
    return found.hexdigest()


def _add_held(found: Any, name: str, value: Any, made_there: bool, within: tuple[int, ...]) -> None:
    """Hash the tensors, arrays and bytes in a value; a container that holds itself is not read."""
    if isinstance(value, Tensor):
        if not (made_there and value.is_inference()):
            add_tensor(found, name, value)
    elif isinstance(value, RAW):
        add_raw(found, name, value)
    elif isinstance(value, Mapping | list | tuple) and id(value) not in within:
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, each in items:
            _add_held(found, f"{name}.{key}", each, made_there, (*within, id(value)))
    elif name.startswith("saved ") and (_is_plain(value) or isinstance(value, torch.dtype)):
        update(found, name, repr(value))


def constants(module: nn.Module) -> dict[str, Any]:
    """What decides a network's output besides its tensors: the plain values that its parts hold.

    Step sizes, sparsity weights, numbers of heads and the like are in no tensor. Of each part of
    the network its public attributes are read, and those of a `config` that it has; what is neither
    plain nor a function is left out. Hooks that are set on it count by their names here, and by
    what they do and hold in `held`.

    Returns: `Class.attribute` -> its value, or a list of them in the order of the parts where they
        differ; and the `layout of the network`, a hash of all paths, classes and attributes' names.
    """
    values: dict[str, list[Any]] = {}
    layout = hashlib.blake2b(digest_size=16)
    for path, part in module.named_modules():
        kind = type(part).__name__
        own = _plain(part)
        layout.update(f"{path} {kind} {sorted(own)} {_hooks(part)}".encode())
        for name, value in own.items():
            values.setdefault(f"{kind}.{name}", []).append(value)
    found = {
        name: each[0] if all(value == each[0] for value in each) else each
        for name, each in values.items()
    }
    return found | {"layout of the network": layout.hexdigest()}


def _hooks(part: nn.Module) -> list[str]:
    """Names of the functions, or of the kinds of objects, that change what a part computes."""
    hooks = (*part._forward_pre_hooks.values(), *part._forward_hooks.values())
    return [str(getattr(hook, "__qualname__", type(hook).__qualname__)) for hook in hooks]


def _plain(part: Any) -> dict[str, Any]:
    """The public attributes of an object that are plain values or functions, by name."""
    found: dict[str, Any] = {}
    for name, value in vars(part).items():
        if name.startswith("_") or name in _PASSING:
            continue
        if name == "config" and hasattr(value, "__dict__"):
            found |= {f"config.{key}": each for key, each in _plain(value).items()}
        elif isinstance(value, FunctionType | BuiltinFunctionType):
            found[name] = value.__qualname__
        elif _is_plain(value):
            found[name] = value
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)
