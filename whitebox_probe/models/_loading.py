"""`load`: a registry name, a timm name, or a file and its architecture -> a model to probe."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whitebox_probe import checkpoints
from whitebox_probe._core import io
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.checkpoints import Checkpoint
from whitebox_probe.models.base import Preprocess, ProbeModel, build, family_named

TIMM = "timm:"


def load(
    source: str | Path,
    *,
    arch: str | Mapping[str, Any] | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: int = 0,
    name: str | None = None,
    wrapper: str | None = None,
    progress: bool = True,
) -> ProbeModel:
    """Load a checkpoint, ready for probing, on the CPU and in evaluation mode.

    Args:
        source: a name from checkpoints.yaml, `timm:NAME` for any timm VisionTransformer, or a file
            (safetensors, a plain state dict, or a training checkpoint that holds one).
        arch: for a file: the name of an architecture or entry of checkpoints.yaml, `timm:NAME`, or
            a mapping with `family` and the arguments of its network.
        weights: `random` builds the same architecture without reading its weights (a null).
        seed: of random weights.
        name: what tables and figures call it.
        wrapper: the key of the state dict, for a file that holds several.
        progress: show a progress bar while downloading.

    Raises: CheckpointError, with every missing, unexpected and wrongly shaped key; RegistryError.

    Example:
        >>> load("crate-tiny-fmnist").layers
        8
    """
    if arch is not None:
        entry, path = _of_file(Path(source), arch), Path(source)
    elif str(source).startswith(TIMM):
        entry, path = _of_timm(str(source)), None
    else:
        if str(source) not in checkpoints.registry() and Path(source).is_file():
            raise CheckpointError(
                f"the architecture of {source} is not known",
                "a file does not say it",
                "Pass arch=, such as arch='crate_small'",
            )
        entry, path = checkpoints.entry(str(source)), None
    if name is not None:
        entry = replace(entry, name=name)
    if weights == "random":
        return _random(entry, seed)
    if path is None:
        path = checkpoints.fetch(entry, progress=progress)
    return _pretrained(entry, path, wrapper)


def _of_file(path: Path, arch: str | Mapping[str, Any]) -> Checkpoint:
    """A registry entry for a file of the user's own."""
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {path}",
            "a checkpoint given with arch= is read from disk",
            "Check the path",
        )
    here = {"kind": "path", "path": str(path)}
    title = path.name.split(".")[0]
    if isinstance(arch, Mapping):
        arguments = dict(arch)
        if "family" not in arguments:
            raise CheckpointError(
                "arch has no 'family'",
                "the arguments alone do not say which network they are of",
                "Add family, such as arch={'family': 'crate', ...}",
            )
        return Checkpoint(name=title, family=arguments.pop("family"), arch=arguments, source=here)
    if arch.startswith(TIMM):
        return replace(_of_timm(arch), name=title, source=here)
    if arch in checkpoints.registry():
        return replace(checkpoints.entry(arch), name=title, source=here, sha256=None, size=None)
    family, arguments = checkpoints.architecture(arch)
    return Checkpoint(name=title, family=family, arch=arguments, source=here)


def _of_timm(name: str) -> Checkpoint:
    model = name.removeprefix(TIMM)
    return Checkpoint(
        name=model,
        family="timm_vit",
        arch={"model": model},
        source={"kind": "timm", "name": model},
    )


def _random(entry: Checkpoint, seed: int) -> ProbeModel:
    """The same architecture, freshly initialised, without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(entry.family, entry.arch, source=entry.name)
    return _finish(replace(entry, name=f"{entry.name}-random"), module, None)


def _pretrained(entry: Checkpoint, path: Path, wrapper: str | None) -> ProbeModel:
    module = build(entry.family, entry.arch, source=entry.name)
    found = checkpoints.read_state_dict(path, wrapper=wrapper)
    found = family_named(entry.family).convert(found, module, source=entry.source)
    expected: dict[str, Tensor] = module.state_dict()
    checkpoints.check_keys(
        {key: tuple(tensor.shape) for key, tensor in expected.items()}, found, source=str(path)
    )
    module.load_state_dict(found, strict=True)
    return _finish(entry, module, io.sha256(path))


def _finish(entry: Checkpoint, module: nn.Module, sha256: str | None) -> ProbeModel:
    family = family_named(entry.family)
    stated = Preprocess(**entry.preprocess) if entry.preprocess else family.preprocess(module)
    return ProbeModel(
        module=module.requires_grad_(False),
        family=family,
        name=entry.name,
        preprocess=stated,
        entry=entry,
        sha256=sha256,
    )
