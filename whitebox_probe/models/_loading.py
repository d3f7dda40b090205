"""`load`: a registry name, a timm name, or a file and its architecture -> a model to probe."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whitebox_probe import checkpoints
from whitebox_probe._core import io
from whitebox_probe._core.errors import ArchitectureError, CheckpointError, ProbeError, nearest
from whitebox_probe.checkpoints import Checkpoint
from whitebox_probe.models._hf_hub import hub_entry
from whitebox_probe.models.base import (
    Preprocess,
    ProbeModel,
    TextPreprocess,
    build,
    families,
    family_named,
    family_of_timm,
)

TIMM = "timm:"
HF = "hf:"
TEXT = "text:"
IMAGENET = "imagenet"
HEAD_WIDTHS = (128, 80, 64, 48, 32, 24, 16)  # of every published model of these families


def load(
    source: str | Path,
    *,
    arch: str | Mapping[str, Any] | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: int = 0,
    name: str | None = None,
    wrapper: str | None = None,
    preprocess: Preprocess | TextPreprocess | str | None = None,
    progress: bool = True,
    **options: Any,
) -> ProbeModel:
    """Load a checkpoint, ready for probing, on the CPU and in evaluation mode.

    Args:
        source: a name from checkpoints.yaml, `timm:NAME` for any timm vision transformer, `hf:NAME`
            for a language model of the Hugging Face hub (or its folder), or a file (safetensors, a
            plain state dict, or a training checkpoint that holds one).
        arch: for a file: the name of an architecture or entry of checkpoints.yaml, `timm:NAME`,
            `hf:NAME`, or a mapping with `family` and the arguments of its network. Without it the
            family and its sizes are read from the file; what no file holds is asked for
            (`heads=6`).
        weights: `random` builds the same architecture without reading its weights (a null).
        seed: of random weights.
        name: what tables and figures call it.
        wrapper: the key of the state dict, for a file that holds several; that of the entry, if
            it names one and this does not.
        preprocess: how an image becomes its input, where a file does not say: a `Preprocess`, the
            name of a registry entry that was trained alike, or `imagenet` (resize, centre crop of
            7/8, ImageNet's means and spreads, at the network's own size or 224). For a language
            model a `TextPreprocess`, or `text:TOKENIZER@LENGTH`, such as `text:bytes@128`.
        progress: show a progress bar while downloading.
        options: arguments of the network that replace those of the entry, such as `lam=0.5`.

    Raises: CheckpointError, with every missing, unexpected and wrongly shaped key; RegistryError.

    Example:
        >>> load("crate-tiny-fmnist").layers
        8
    """
    known = str(source) in checkpoints.registry()
    if arch is not None:
        entry, path = _of_file(Path(source), arch), Path(source)
    elif str(source).startswith((TIMM, HF)):
        entry, path = _of_library(str(source)), None
    elif not known and Path(source).is_file():
        entry, path = _recognised(Path(source), wrapper, options), Path(source)
    else:
        entry, path = checkpoints.entry(str(source)), None
    if options:
        entry = replace(entry, arch={**entry.arch, **options})
    if name is not None:
        entry = replace(entry, name=name)
    if preprocess is not None:
        entry = replace(entry, preprocess=_prepared(preprocess, entry))
    if weights == "random":
        return _random(entry, seed)
    if path is None:
        path = checkpoints.fetch(entry, progress=progress)
    return _pretrained(entry, path, wrapper or entry.wrapper)


def _prepared(preprocess: Preprocess | TextPreprocess | str, entry: Checkpoint) -> dict[str, Any]:
    """The fields of a `Preprocess` or `TextPreprocess`, given or named."""
    if isinstance(preprocess, Preprocess | TextPreprocess):
        return asdict(preprocess)
    if preprocess.startswith(TEXT):
        tokenizer, _, length = preprocess.removeprefix(TEXT).partition("@")
        if not tokenizer or (length and not length.isdigit()):
            raise CheckpointError(
                f"the preprocessing '{preprocess}' is not understood",
                "it names a tokenizer, and the tokens of a window after an @",
                "Write text:bytes@128, or text:NAME for a tokenizer of transformers",
            )
        return {"tokenizer": tokenizer} | ({"length": int(length)} if length else {})
    if preprocess == IMAGENET:
        sizes = (entry.arch.get(key) for key in ("image_size", "img_size"))
        return asdict(Preprocess.imagenet(next((s for s in sizes if s), 224)))
    stating = {name for name, known in checkpoints.registry().items() if known.preprocess}
    if preprocess not in stating:
        raise CheckpointError(
            f"the preprocessing '{preprocess}' is not known",
            "it is neither 'imagenet' nor an entry that states its own",
            nearest(preprocess, [IMAGENET, *sorted(stating)]),
        )
    return dict(checkpoints.entry(preprocess).preprocess)


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
    if arch.startswith((TIMM, HF)):
        return replace(_of_library(arch), name=title, source=here)
    if arch in checkpoints.registry():
        like = checkpoints.entry(arch)
        changed = {"preprocess": _with_tokenizer(like), "source": here}
        return replace(like, name=title, sha256=None, size=None, **changed)  # type: ignore[arg-type]
    family, arguments = checkpoints.architecture(arch)
    return Checkpoint(name=title, family=family, arch=arguments, source=here)


def _recognised(path: Path, wrapper: str | None, options: dict[str, Any]) -> Checkpoint:
    """A registry entry for a file without `arch`: the family whose keys and shapes it has.

    What the file keeps of its training script's arguments fills `options` where they are silent.
    `heads` is taken out of `options` where it settles more than one argument.
    """
    found = checkpoints.read_state_dict(path, wrapper=wrapper)
    shapes = {key: tuple(tensor.shape) for key, tensor in found.items()}
    matching = [(f, seen) for f in families().values() if (seen := f.recognise(shapes)) is not None]
    if len(matching) != 1:
        raise CheckpointError(
            f"the family of {path} is not recognised",
            f"its keys ({', '.join(list(shapes)[:3])}, ...) are of "
            + (" and ".join(f.name for f, _ in matching) or "no family known here"),
            "Pass arch=, such as arch='crate_small'",
        )
    family, seen = matching[0]
    for key, value in family.stated(checkpoints.read_arguments(path)).items():
        options.setdefault(key, value)
    asked = dict(seen.ask)
    if seen.inner is not None:
        asked["heads"] = tuple(seen.inner // p for p in HEAD_WIDTHS if seen.inner % p == 0)
    missing = {key: choices for key, choices in asked.items() if key not in options}
    if missing:
        told = "; ".join(f"{key}={' or '.join(map(str, c))}" for key, c in missing.items())
        raise ArchitectureError(
            f"{path} is of family '{family.name}', but not all of its architecture is known",
            f"no file holds {', '.join(missing)}",
            f"Pass {told}, or arch=",
            missing,
        )
    arch = dict(seen.arch)
    if seen.inner is not None:
        heads = options.pop("heads")
        if not isinstance(heads, int) or heads < 1 or seen.inner % heads:
            raise CheckpointError(
                f"{path} cannot have {heads} heads",
                f"they share a width of {seen.inner}",
                f"Use one of: {', '.join(map(str, asked['heads']))}",
            )
        arch |= family.head_arguments(heads, seen.inner)
    title = path.name.split(".")[0]
    return Checkpoint(
        name=title, family=family.name, arch=arch, source={"kind": "path", "path": str(path)}
    )


def _of_library(name: str) -> Checkpoint:
    """A registry entry for a model that timm or transformers names."""
    if name.startswith(HF):
        return hub_entry(name.removeprefix(HF))
    model = name.removeprefix(TIMM)
    return Checkpoint(
        name=model,
        family=family_of_timm(model),
        arch={"model": model},
        source={"kind": "timm", "name": model},
    )


def _random(entry: Checkpoint, seed: int) -> ProbeModel:
    """The same architecture, freshly initialised, without touching the global random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build(entry.family, entry.arch, source=entry.name)
    return _finish(replace(entry, name=f"{entry.name}-random"), module, None)


def load_random(model: ProbeModel, *, seed: int = 0) -> ProbeModel:
    """The architecture of a loaded model with random weights: a null.

    Raises: ProbeError for a module that was wrapped, whose construction is not known.
    """
    if model.entry is None:
        raise ProbeError(
            f"random weights of {model.name} cannot be drawn",
            "a wrapped module does not say how it was built",
            "Wrap an untrained module of the same architecture and probe it",
        )
    return _random(model.entry, seed)


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
    stated: Preprocess | TextPreprocess | None
    if "tokenizer" in entry.preprocess:
        stated = TextPreprocess(**_with_tokenizer(entry))
    elif entry.preprocess:
        stated = Preprocess(**entry.preprocess)
    else:
        stated = family.preprocess(module)
    return ProbeModel(
        module=module.requires_grad_(False),
        family=family,
        name=entry.name,
        preprocess=stated,
        entry=entry,
        sha256=sha256,
    )


def _with_tokenizer(entry: Checkpoint) -> dict[str, Any]:
    """An entry's preprocessing, with the path of a tokenizer that lies beside its weights."""
    stated = dict(entry.preprocess)
    tokenizer = str(stated.get("tokenizer", ""))
    weights = checkpoints.locate(entry) if tokenizer.endswith(".json") else None
    if weights is not None and not Path(tokenizer).is_absolute():
        stated["tokenizer"] = str(weights.with_name(tokenizer))
    return stated
