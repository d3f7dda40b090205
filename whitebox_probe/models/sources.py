"""The entry that a source names or describes, and the file of weights if it is one."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.checkpoints import Checkpoint
from whitebox_probe.models.fields import with_tokenizer
from whitebox_probe.models.hub import expect_timm, hub_entry
from whitebox_probe.models.recognise import recognised
from whitebox_probe.models.registry import family_of_timm
from whitebox_probe.models.trained import as_trained, fields_trained

TIMM = "timm:"
HF = "hf:"
_FILES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".safetensors", ".npz", ".onnx", ".json")


def entry_of(
    source: str | Path,
    arch: str | Mapping[str, Any] | None,
    wrapper: str | None,
    options: dict[str, Any],
) -> tuple[Checkpoint, Path | None]:
    """The registry entry that `source` names or that describes it, and its file if it is one."""
    if arch is not None:
        path = weights_at(Path(source))
        return _of_file(path, arch), path
    if str(source).startswith((TIMM, HF)):
        return _of_library(str(source)), None
    if str(source) not in checkpoints.registry() and Path(source).exists():
        if Path(source).is_dir() and checkpoints.of_transformers(Path(source)):
            return _of_library(f"{HF}{source}"), None
        path = weights_at(Path(source))
        return recognised(path, wrapper, options), path
    if str(source) not in checkpoints.registry() and Path(source).suffix in _FILES:
        gone = Path(source).is_symlink()
        why = "there is a link of that name, to nothing" if gone else "a path was given"
        raise CheckpointError(f"there is no file {source}", why, "Check the path")
    return checkpoints.entry(str(source)), None


def weights_at(path: Path) -> Path:
    """A file of weights, an index of several, or that which lies in a folder.

    Raises: CheckpointError for a part of a model, and for a folder without a choice.
    """
    if path.is_dir():
        return checkpoints.weights_in(path)
    checkpoints.expect_whole(path)
    return path


def _of_file(path: Path, arch: str | Mapping[str, Any]) -> Checkpoint:
    """A registry entry for a file of the user's own."""
    if not path.is_file():
        raise CheckpointError(
            f"there is no file {path}",
            "a checkpoint given with arch= is read from disk",
            "Check the path",
        )
    here = {"kind": "path", "path": str(path)}
    title = checkpoints.title(path)
    if isinstance(arch, Mapping):
        arguments = dict(arch)
        if "family" not in arguments:
            raise CheckpointError(
                "arch has no 'family'",
                "the arguments alone do not say which network they are of",
                "Add family, such as arch={'family': 'crate', ...}",
            )
        family = arguments.pop("family")
        if "model" in arguments and family.startswith("timm"):
            arguments = as_trained(path, arguments)
        return Checkpoint(name=title, family=family, arch=arguments, source=here)
    if arch.startswith((TIMM, HF)):
        like = _of_library(arch)
        if arch.startswith(TIMM):
            like = replace(like, arch=as_trained(path, like.arch))
        return replace(like, name=title, source=here)
    if arch in checkpoints.registry():
        like = checkpoints.entry(arch)
        if "model" in like.arch:
            arguments = as_trained(path, like.arch)
            stated = {**like.preprocess, **fields_trained(arguments)} if like.preprocess else {}
            like = replace(like, arch=arguments, preprocess=stated)
        changed = {"preprocess": with_tokenizer(like), "source": here}
        return replace(like, name=title, sha256=None, size=None, **changed)  # type: ignore[arg-type]
    family, arguments = checkpoints.architecture(arch)
    return Checkpoint(name=title, family=family, arch=arguments, source=here)


def _of_library(name: str) -> Checkpoint:
    """A registry entry for a model that timm or transformers names."""
    if name.startswith(HF):
        return hub_entry(name.removeprefix(HF))
    model = name.removeprefix(TIMM)
    expect_timm(model)
    return Checkpoint(
        name=model,
        family=family_of_timm(model),
        arch={"model": model},
        source={"kind": "timm", "name": model},
    )
