"""`load`: a registry name, a timm name, or a file and its architecture -> a model to probe."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import (
    AssumedWarning,
    CheckpointError,
    LoadWarning,
    ProbeError,
    nearest,
)
from whitebox_probe.checkpoints import Checkpoint
from whitebox_probe.models.factory import OWN, is_reference, made, made_random, reference_in
from whitebox_probe.models.family import Family
from whitebox_probe.models.hub import (
    WEIGHTS,
    adapters_beside,
    expect_weights,
    fetched,
    hub_entry,
)
from whitebox_probe.models.model import ProbeModel, sizes_of
from whitebox_probe.models.placing import Placed, placed_as, read_placed
from whitebox_probe.models.plausible import expect_heads
from whitebox_probe.models.preprocess import Preprocess, TextPreprocess
from whitebox_probe.models.recognise import recognised
from whitebox_probe.models.registry import build, family_named, family_of_timm
from whitebox_probe.models.verify import verified

TIMM = "timm:"
HF = "hf:"
TEXT = "text:"
IMAGENET = "imagenet"
_FILES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".safetensors", ".npz", ".onnx", ".json")


def load(
    source: str | Path,
    *,
    arch: str | Mapping[str, Any] | None = None,
    weights: Literal["pretrained", "random"] = "pretrained",
    seed: int = 0,
    name: str | None = None,
    wrapper: str | None = None,
    preprocess: Preprocess | TextPreprocess | str | None = None,
    mapping: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> ProbeModel:
    """Load a checkpoint, ready for probing, on the CPU and in evaluation mode.

    Args:
        source: a name from checkpoints.yaml, `timm:NAME` for any timm vision transformer, `hf:NAME`
            for a model of the Hugging Face hub (or its folder), of text or of images, a file
            (safetensors, a plain state dict, a training checkpoint that holds one, or the index of
            a sharded model), a folder that holds one such file, or what makes a module of your own,
            `package.module:make` or `file.py:make`.
        arch: for a file: the name of an architecture or entry of checkpoints.yaml, `timm:NAME`,
            `hf:NAME`, a mapping with `family` and the arguments of its network, or what makes the
            network (`file.py:make`), called with the options; its code is run. Without it the
            family and its sizes are read from the file; what no file holds is asked for
            (`heads=6`), and what every published model has alike is taken from those, with a
            warning (`AssumedWarning`) unless it is passed (`eta=0.1, lam=0.1`).
        weights: `random` builds the same architecture without reading its weights (a null).
        seed: of random weights.
        name: what tables and figures call it.
        wrapper: the key of the state dict, for a file that holds several, or what the names of
            the tensors begin with, for one that holds several networks (`teacher`); that of the
            entry, if it names one and this does not.
        preprocess: how an image becomes its input, where a file does not say: a `Preprocess`, the
            name of a registry entry that was trained alike, or `imagenet` (resize, centre crop of
            7/8, ImageNet's means and spreads, at the network's own size or 224). For a language
            model a `TextPreprocess`, or `text:TOKENIZER@LENGTH`, such as `text:bytes@128`.
        mapping: of a module that `file.py:make` makes, where its sites are: the name of a mapping
            that comes with the package, or a YAML file; see `wrap`.
        progress: show a progress bar while downloading.
        options: arguments of the network that replace those of the entry, such as `lam=0.5`.

    Raises: CheckpointError, with every missing, unexpected and wrongly shaped key, or for a number
        of heads that the weights contradict; RegistryError.

    Example:
        >>> load("crate-tiny-fmnist").layers
        8
    """
    if mapping is not None or is_reference(source) or is_reference(arch):
        own = _own(source, arch, weights, name, wrapper, preprocess, mapping, options)
        if weights == "random":
            return load_random(own, seed=seed)
        return own
    guessed = arch is not None or "heads" in options
    entry, path = _entry(source, arch, wrapper, options)
    if options:
        entry = replace(entry, arch={**entry.arch, **options})
    if name is not None:
        entry = replace(entry, name=name)
    if preprocess is not None:
        entry = replace(entry, preprocess=_prepared(preprocess, entry))
    elif "size" in entry.preprocess and (size := _size(options)) is not None:
        # The network's own input: the entry's size is that of the images it was trained on.
        entry = replace(entry, preprocess={**entry.preprocess, "size": size})
    family = family_named(entry.family)
    assumed = {k: v for k, v in family.assumed(entry.arch).items() if k not in entry.arch}
    entry = replace(entry, arch={**entry.arch, **assumed})
    if weights == "random":
        model = _random(entry, seed)
    else:
        if path is None and (str(source).startswith(HF) or Path(source).is_dir()):
            expect_weights(Path(str(source).removeprefix(HF)))
        if path is None and str(source).startswith(HF):
            file = fetched(entry, progress=progress)
        else:
            file = path or checkpoints.fetch(entry, progress=progress)
        model, notes = _pretrained(entry, file, wrapper or entry.wrapper, own=path is not None)
        if path is not None and guessed:
            expect_heads(model)
        # Any file may lie among others' folders; what save_pretrained wrote has a folder alone.
        if path is not None and (
            adapters := adapters_beside(path.parent, below=path.name == WEIGHTS)
        ):
            note = LoadWarning(
                f"{path.name} was loaded without the adapter beside it",
                f"{', '.join(adapters)} would change its weights",
                "Merge it with peft (merge_and_unload) if the model was used with it",
            )
            notes.append(note)
        for note in notes:
            warnings.warn(note, stacklevel=2)
    # An architecture or entry that is named is a published one: there the values are its own.
    if assumed and path is not None and not isinstance(arch, str):
        warnings.warn(AssumedWarning(str(path), assumed, family.assumed_from), stacklevel=2)
    return model


def _own(
    source: str | Path,
    arch: str | Mapping[str, Any] | None,
    weights: str,
    name: str | None,
    wrapper: str | None,
    preprocess: Preprocess | TextPreprocess | str | None,
    mapping: str | Path | None,
    options: Mapping[str, Any],
) -> ProbeModel:
    """A module of the user's own, with the weights that it is made with, or those of a file.

    Raises: what `reference_in` and `made` raise.
    """
    reference = reference_in(source, arch)
    of_file = not is_reference(source)

    def prepared(module: nn.Module) -> Preprocess | TextPreprocess | None:
        if preprocess is None or not isinstance(preprocess, str):
            return preprocess
        size = {"image_size": getattr(module, "image_size", None)}  # as torchvision keeps it
        reads = _prepared(preprocess, Checkpoint("", OWN, {**size, **options}, {}))
        return TextPreprocess(**reads) if "tokenizer" in reads else Preprocess(**reads)

    found = made(
        reference,
        options,
        weights=_weights_at(Path(source)) if of_file else None,
        mapping=mapping,
        name=name,
        wrapper=wrapper,
        prepared=prepared,
    )
    for note in found.notes:
        warnings.warn(note, stacklevel=3)
    return found.model


def _entry(
    source: str | Path,
    arch: str | Mapping[str, Any] | None,
    wrapper: str | None,
    options: dict[str, Any],
) -> tuple[Checkpoint, Path | None]:
    """The registry entry that `source` names or that describes it, and its file if it is one."""
    if arch is not None:
        path = _weights_at(Path(source))
        return _of_file(path, arch), path
    if str(source).startswith((TIMM, HF)):
        return _of_library(str(source)), None
    if str(source) not in checkpoints.registry() and Path(source).exists():
        if Path(source).is_dir() and checkpoints.of_transformers(Path(source)):
            return _of_library(f"{HF}{source}"), None
        path = _weights_at(Path(source))
        return recognised(path, wrapper, options), path
    if str(source) not in checkpoints.registry() and Path(source).suffix in _FILES:
        raise CheckpointError(f"there is no file {source}", "a path was given", "Check the path")
    return checkpoints.entry(str(source)), None


def _weights_at(path: Path) -> Path:
    """A file of weights, an index of several, or that which lies in a folder.

    Raises: CheckpointError for a part of a model, and for a folder without a choice.
    """
    if path.is_dir():
        return checkpoints.weights_in(path)
    checkpoints.expect_whole(path)
    return path


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
        return asdict(Preprocess.imagenet(_size(entry.arch) or 224))
    stating = {name for name, known in checkpoints.registry().items() if known.preprocess}
    if preprocess not in stating:
        raise CheckpointError(
            f"the preprocessing '{preprocess}' is not known",
            "it is neither 'imagenet' nor an entry that states its own",
            nearest(preprocess, [IMAGENET, *sorted(stating)]),
        )
    return dict(checkpoints.entry(preprocess).preprocess)


def _size(arch: Mapping[str, Any]) -> int | tuple[int, int] | None:
    """The size of the images that an architecture is for, (height, width) if they are no squares.

    None if it states none.
    """
    size = next((arch[key] for key in ("image_size", "img_size") if arch.get(key)), None)
    if isinstance(size, Sequence) and len(set(size)) == 1:
        size = size[0]
    if isinstance(size, Sequence) and len(size) == 2:
        return int(size[0]), int(size[1])
    return size if isinstance(size, int) else None


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
    if model.entry.family == OWN:
        return made_random(model, model.entry, seed)
    return _random(model.entry, seed)


def _pretrained(
    entry: Checkpoint, path: Path, wrapper: str | None, *, own: bool
) -> tuple[ProbeModel, list[LoadWarning]]:
    """The model with a file's weights, and what a user should know of the file.

    Args: own: whether it is a user's file, which may differ from the architecture that is named.
    """
    family = family_named(entry.family)
    placed: Placed | None = None
    if own and "model" in entry.arch:
        placed = read_placed(path, wrapper=wrapper, families=[family])
        shapes = {key: tuple(tensor.shape) for key, tensor in placed.weights.items()}
        entry = replace(entry, arch={**entry.arch, **family.settled(entry.arch, shapes)})
    module = build(entry.family, entry.arch, source=entry.name)
    sizes_of(family.anatomy, module)  # told before keys that do not fit
    weights, notes = placed or read_placed(path, wrapper=wrapper, families=[family])
    found = family.convert(weights, module, source=entry.source)
    expected: dict[str, Tensor] = module.state_dict()
    if any(key not in found for key in expected):
        again = placed_as(path, weights, list(expected))
        if again is not None:
            weights, notes = again.weights, [*notes, *again.notes]
            module = build(entry.family, entry.arch, source=entry.name)  # convert may change it
            found = family.convert(weights, module, source=entry.source)
            expected = module.state_dict()
    notes = [*notes, *family.notes(weights, module, source=entry.source)]
    _expect_fit(family, expected, found, path)
    module.load_state_dict(found, strict=True)
    return _finish(entry, module, checkpoints.digest(path)), notes


def _expect_fit(
    family: Family, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path
) -> None:
    shapes = {key: tuple(tensor.shape) for key, tensor in expected.items()}
    fix = "Give the architecture it was trained with"
    if any(k in found and found[k].shape != shapes.get(k) for k in family.positions):
        fix += (
            ", or resample its position embeddings with interpolate_positions=True "
            "(--set interpolate_positions=true)"
        )
    lacking = [key for key in shapes if key not in found]
    if lacking and all(key.startswith("head.") for key in lacking):
        fix += ", or leave the head out with num_classes=0 (--set num_classes=0)"
    checkpoints.check_keys(
        shapes,
        found,
        source=str(path),
        floating=[key for key, tensor in expected.items() if tensor.is_floating_point()],
        fix=f"{fix}; nothing was loaded",
    )


def _finish(entry: Checkpoint, module: nn.Module, sha256: str | None) -> ProbeModel:
    family = family_named(entry.family)
    stated: Preprocess | TextPreprocess | None
    if "tokenizer" in entry.preprocess and not family.anatomy.takes_ids(module):
        stated = family.anatomy.preprocess(module)
        entry = replace(entry, preprocess={} if stated is None else asdict(stated))
    elif "tokenizer" in entry.preprocess:
        stated = TextPreprocess(**_with_tokenizer(entry))
    elif entry.preprocess:
        stated = Preprocess(**entry.preprocess)
    else:
        stated = family.anatomy.preprocess(module)
    model = ProbeModel(
        module=module.requires_grad_(False),
        anatomy=family.anatomy,
        name=entry.name,
        family=family,
        preprocess=stated,
        entry=entry,
        sha256=sha256,
    )
    return verified(model)


def _with_tokenizer(entry: Checkpoint) -> dict[str, Any]:
    """An entry's preprocessing, with the path of a tokenizer that lies beside its weights."""
    stated = dict(entry.preprocess)
    tokenizer = str(stated.get("tokenizer", ""))
    weights = checkpoints.locate(entry) if tokenizer.endswith(".json") else None
    if weights is not None and not Path(tokenizer).is_absolute():
        stated["tokenizer"] = str(weights.with_name(tokenizer))
    return stated
