"""Wrappers around a model: taken off where the model inside computes the same, else refused."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.process import Shared

_INSIDE = {
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.optim.swa_utils.AveragedModel": "module",
    "timm.utils.model_ema.ModelEma": "ema",
    "timm.utils.model_ema.ModelEmaV2": "module",
    "timm.utils.model_ema.ModelEmaV3": "module",
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.CheckpointWrapper": (
        "_checkpoint_wrapped_module"
    ),
}
"""Wrappers whose model computes the same without them -> where it is."""
_PROGRAMS = (
    *("torch.jit._script.RecursiveScriptModule", "torch.jit._trace.TopLevelTracedModule"),
    "torch.jit._script.ScriptModule",
)
_SHARDED = ("FullyShardedDataParallel", "FSDPModule")


def is_compiled(module: nn.Module) -> bool:
    """Whether a module is compiled, in whole or in part: hooks inside would be compiled with it."""
    return any(
        getattr(part, "_compiled_call_impl", None) is not None or hasattr(part, "_orig_mod")
        for part in module.modules()
    )


@contextmanager
def as_written(module: nn.Module) -> Iterator[None]:
    """Run what is compiled as it is written: no hook may be set inside compiled code.

    A compiled wrapper around the module is such too, and only its library tells that there may be
    one.
    """
    if not is_compiled(module) and "torch._dynamo" not in sys.modules:
        yield
        return
    with _EAGER:
        yield


# All of the process: a compiled function of another thread is run as it is written meanwhile.
_EAGER = Shared(lambda: torch.compiler.set_stance("force_eager"))


def is_wrapper(thing: object) -> bool:
    """Whether it is a wrapper around a module; timm's first average is no module itself."""
    return any(f"{kind.__module__}.{kind.__qualname__}" in _INSIDE for kind in type(thing).__mro__)


def inside(module: nn.Module) -> nn.Module:
    """A module without the wrappers around it that change nothing of what it computes.

    Copies on several devices, averages, compilation and recomputation for gradients are such, and
    peft's, whose adapters are in the layers.
    """
    while True:
        names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__]
        found = next((_INSIDE[name] for name in names if name in _INSIDE), None)
        if found is not None:
            module = getattr(module, found)
        elif _is_peft(module) and not _prompts(module):
            module = module.get_base_model()  # type: ignore[operator]
        else:
            return module


def bare(module: nn.Module) -> nn.Module:
    """The model that is measured: without wrappers that change nothing.

    Raises: ProbeError for wrappers without which the model is another, or has no weights.
    """
    module = inside(module)
    _refuse_programs(module)
    _refuse_adapters(module)
    _refuse_shards(module)
    _refuse_quantised(module)
    return module


def without_wrapper(paths: Any, given: object, module: nn.Module) -> Any:
    """Paths of parts as the module that is measured has them, where they are the wrapper's.

    Args: paths: a path, or some by name; anything else, such as a function, stays as it is.
        given: what the user gave, perhaps a wrapper around the module.
    """
    if isinstance(paths, Mapping):
        return {name: without_wrapper(path, given, module) for name, path in paths.items()}
    if not isinstance(paths, str) or not isinstance(given, nn.Module):
        return paths
    at = next((path for path, part in given.named_modules() if part is module), "")
    if not at or hasattr(module, at.partition(".")[0]):  # of two that it may be, the module's own
        return paths
    return paths.removeprefix(f"{at}.")


def kind_of(module: nn.Module) -> str:
    """The name of a part's class; of the class in it where a library made a class of it."""
    part = inside(module)
    made = any(kind.__name__ == "FSDPModule" for kind in type(part).__mro__)
    return type(part).__mro__[2 if made else 0].__name__


def _refuse_adapters(module: nn.Module) -> None:
    prompts = _prompts(module)
    if prompts:
        raise ProbeError(
            f"a {type(module).__name__} with {', '.join(prompts)} cannot be probed",
            "what it has learned is put in front of the tokens or the keys by the wrapper, and the "
            "model inside it is the base model without it",
            "Use an adapter that is in the layers, such as LoRA; .get_base_model() measures the "
            "base model alone",
        )


def _is_peft(module: nn.Module) -> bool:
    return any(kind.__name__ in ("PeftModel", "PeftMixedModel") for kind in type(module).__mro__)


def _refuse_programs(module: nn.Module) -> None:
    """TorchScript, whose parts run as one: hooks in it are not called."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__}
    if not kinds.isdisjoint(_PROGRAMS):
        raise ProbeError(
            f"a {type(module).__name__} cannot be probed",
            "it is TorchScript, whose parts are run as one program",
            "Wrap the model that it was made of; its state_dict() fits there",
        )


def _refuse_quantised(module: nn.Module) -> None:
    """Linear maps in whole numbers, scaled by the largest activation of all tokens together."""
    for path, part in module.named_modules():
        if type(part).__module__.startswith(("torch.ao.nn.quantized", "torch.nn.quantized")):
            raise ProbeError(
                f"a {type(module).__name__} with quantised layers cannot be probed",
                f"'{path}' is a {type(part).__module__}.{type(part).__name__}, which rounds all "
                "tokens together, and keeps no weight that a subspace can be read from",
                "Wrap the model as it was before torch.ao quantised it",
            )


def _prompts(module: nn.Module) -> list[str]:
    """The kinds of a peft wrapper's adapters that are in no layer: prompts and prefixes."""
    configs = getattr(module, "peft_config", None)
    if not isinstance(configs, Mapping):
        return []
    found = [c for c in configs.values() if getattr(c, "is_prompt_learning", False)]
    return list(dict.fromkeys(type(config).__name__.removesuffix("Config") for config in found))


def _refuse_shards(module: nn.Module) -> None:
    """Weights in shards: no process has the subspaces outside a forward pass."""
    kinds = (kind.__name__ for part in module.modules() for kind in type(part).__mro__)
    if any(name in _SHARDED for name in kinds) or any(map(_is_shard, module.parameters())):
        raise ProbeError(
            f"a {type(module).__name__} whose weights are in shards cannot be probed",
            "FSDP and tensor parallelism keep a part of each weight in each process, and "
            "subspaces are read from whole ones",
            "Gather its state dict (torch.distributed.checkpoint.state_dict.get_model_state_dict "
            "with full_state_dict=True) into the same model without shards",
        )


def _is_shard(tensor: Any) -> bool:
    return any(kind.__name__ == "DTensor" for kind in type(tensor).__mro__)
