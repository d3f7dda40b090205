"""`load`: a registry name, a timm name, or a file and its architecture -> a model to probe."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from whitebox_probe import checkpoints
from whitebox_probe._core import arguments
from whitebox_probe._core.errors import AssumedWarning, LoadWarning, ProbeError
from whitebox_probe._core.process import as_found
from whitebox_probe._core.randomness import kept
from whitebox_probe.checkpoints import Checkpoint
from whitebox_probe.models.factory import OWN, is_reference, made, made_random, reference_in
from whitebox_probe.models.fields import fields_named, size_stated
from whitebox_probe.models.filled import expect_understood, pretrained, random_of, settled
from whitebox_probe.models.folders import adapters_beside, expect_weights
from whitebox_probe.models.hub import WEIGHTS, fetched, is_here
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.plausible import expect_heads
from whitebox_probe.models.preprocess import PREPARING, Preprocess, TextPreprocess
from whitebox_probe.models.registry import family_named
from whitebox_probe.models.sources import HF, entry_of, weights_at

KINDS_OF_WEIGHTS = ("pretrained", "random")


@as_found()
@kept()
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

    Raises: SettingError for an argument that cannot be; CheckpointError, with every missing,
        unexpected and wrongly shaped key, or for a number of heads that the weights contradict;
        RegistryError.

    Example:
        >>> load("crate-tiny-fmnist").layers
        8
    """
    _check(source=source, arch=arch, weights=weights, wrapper=wrapper, mapping=mapping)
    arguments.expect("preprocess", preprocess, *PREPARING)
    arguments.expect_usual(name=name, progress=progress)
    seed = arguments.expect("seed", seed, *arguments.SEED)
    if mapping is not None or is_reference(source) or is_reference(arch):
        own = _own(source, arch, weights, name, wrapper, preprocess, mapping, options)
        if weights == "random":
            return load_random(own, seed=seed)
        return own
    guessed = arch is not None or "heads" in options
    entry, path = entry_of(source, arch, wrapper, options)
    if options:
        entry = replace(entry, arch={**entry.arch, **options})
    if name is not None:
        entry = replace(entry, name=name)
    placed, changed = None, dict(options)
    if path is not None:
        entry, found, placed = settled(entry, path, wrapper or entry.wrapper)
        changed |= found
    if preprocess is not None:
        entry = replace(entry, preprocess=fields_named(preprocess, entry))
    elif "size" in entry.preprocess and (size := size_stated(changed)) is not None:
        # The network's own input: the entry's size is that of the images it was trained on.
        entry = replace(entry, preprocess={**entry.preprocess, "size": size})
    family = family_named(entry.family)
    assumed = {k: v for k, v in family.assumed(entry.arch).items() if k not in entry.arch}
    entry = replace(entry, arch={**entry.arch, **assumed})
    if weights == "random":
        model = random_of(entry, seed)
    else:
        if path is None and (str(source).startswith(HF) or Path(source).is_dir()):
            expect_weights(Path(str(source).removeprefix(HF)))
        if path is None and not is_here(entry):
            expect_understood(entry)
        if path is None and str(source).startswith(HF):
            file = fetched(entry, progress=progress)
        else:
            file = path or checkpoints.fetch(entry, progress=progress)
        model, notes = pretrained(entry, file, wrapper or entry.wrapper, placed=placed)
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
            warnings.warn(note, stacklevel=4)  # behind two decorators
    # An architecture or entry that is named is a published one: there the values are its own.
    if assumed and path is not None and not isinstance(arch, str):
        warnings.warn(AssumedWarning(str(path), assumed, family.assumed_from), stacklevel=4)
    return model


def _check(**given: Any) -> None:
    """Check what is named, before anything is read.

    Raises: SettingError.
    """
    a_path, named = arguments.path, isinstance(given["arch"], str)
    known: dict[str, tuple[arguments.Check, str]] = {
        "source": (a_path, "it names a checkpoint, or where one is"),
        "arch": (
            arguments.optional(arguments.text if named else arguments.mapping),
            "it says what the network is",
        ),
        "weights": (arguments.one_of(*KINDS_OF_WEIGHTS), "weights are read, or drawn anew"),
        "wrapper": (arguments.optional(arguments.text), "it is a key of the file"),
        "mapping": (arguments.optional(a_path), "it says where the sites of a module are"),
    }
    for name, value in given.items():
        arguments.expect(name, value, *known[name])


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
        reads = fields_named(preprocess, Checkpoint("", OWN, {**size, **options}, {}))
        return TextPreprocess(**reads) if "tokenizer" in reads else Preprocess(**reads)

    found = made(
        reference,
        options,
        weights=weights_at(Path(source)) if of_file else None,
        mapping=mapping,
        name=name,
        wrapper=wrapper,
        prepared=prepared,
    )
    for note in found.notes:
        warnings.warn(note, stacklevel=5)
    return found.model


def load_random(model: ProbeModel, *, seed: int = 0) -> ProbeModel:
    """The architecture of a loaded model with random weights: a null.

    Raises: ProbeError for a module that was wrapped, whose construction is not known; SettingError.
    """
    seed = arguments.expect("seed", seed, *arguments.SEED)
    if model.entry is None:
        raise ProbeError(
            f"random weights of {model.name} cannot be drawn",
            "a wrapped module does not say how it was built",
            "Wrap an untrained module of the same architecture and probe it",
        )
    if model.entry.family == OWN:
        return made_random(model, model.entry, seed)
    return random_of(model.entry, seed)
