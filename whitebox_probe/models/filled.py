"""An entry's network with the weights of a file, or with random ones, as a model to probe."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError, LoadWarning
from whitebox_probe._core.gate import Unfit, gate
from whitebox_probe._core.randomness import drawn_by
from whitebox_probe.checkpoints import Checkpoint
from whitebox_probe.models.fields import with_tokenizer
from whitebox_probe.models.model import ProbeModel, sizes_of
from whitebox_probe.models.placing import Placed, placed_as, read_placed
from whitebox_probe.models.preprocess import Preprocess, TextPreprocess
from whitebox_probe.models.registry import build, family_named
from whitebox_probe.models.verify import verified


def random_of(entry: Checkpoint, seed: int) -> ProbeModel:
    """The same architecture, freshly initialised, without touching the global random state."""
    with drawn_by(seed):
        module = build(entry.family, entry.arch, source=entry.name)
    return _finish(replace(entry, name=f"{entry.name}-random"), module, None)


def expect_understood(entry: Checkpoint) -> None:
    """Refuse an architecture of no family before its weights are fetched.

    Raises: ProbeError, SiteError.
    """
    family = family_named(entry.family)
    try:
        with torch.device("meta"):
            module = build(entry.family, entry.arch, source=entry.name)
    except CheckpointError as error:
        if error.__cause__ is None:
            raise
        return  # some compute with numbers while they are made: told once they are really made
    sizes_of(family.anatomy, module)


def settled(
    entry: Checkpoint, path: Path, wrapper: str | None
) -> tuple[Checkpoint, dict[str, Any], Placed | None]:
    """The entry with what a user's file has otherwise than the architecture that is named.

    With it come these arguments, and the file's tensors where they were looked at.
    """
    if "model" not in entry.arch:
        return entry, {}, None
    family = family_named(entry.family)
    placed = read_placed(path, wrapper=wrapper, families=[family])
    try:
        changed = family.settled(entry.arch, _shapes(placed.weights))
    except (
        *(TypeError, RuntimeError, AssertionError, ValueError, LookupError, ArithmeticError),
        AttributeError,
    ):
        return entry, {}, placed  # it cannot be built, which `build` tells
    return replace(entry, arch={**entry.arch, **changed}), changed, placed


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def pretrained(
    entry: Checkpoint, path: Path, wrapper: str | None, *, placed: Placed | None = None
) -> tuple[ProbeModel, list[LoadWarning]]:
    """The model with a file's weights, and what a user should know of the file.

    Args: placed: its tensors, where they were read before.
    """
    family = family_named(entry.family)
    module = build(entry.family, entry.arch, source=entry.name)
    sizes_of(family.anatomy, module)  # told before keys that do not fit
    weights, notes = placed or read_placed(path, wrapper=wrapper, families=[family])
    found = _converted(entry, weights, module, path)
    expected: dict[str, Tensor] = module.state_dict()
    if any(key not in found for key in expected) and not family.is_part(module):
        again = placed_as(path, weights, list(expected))
        if again is not None:
            weights, notes = again.weights, [*notes, *again.notes]
            module = build(entry.family, entry.arch, source=entry.name)  # convert may change it
            found = _converted(entry, weights, module, path)
            expected = module.state_dict()
    notes = [*notes, *family.notes(weights, module, source=entry.source)]
    _expect_fit(entry, expected, found, path)
    _expect_floating(entry, weights, module, found, path)
    module.load_state_dict(found, strict=True)
    return _finish(entry, module, checkpoints.digest(path)), notes


def _converted(
    entry: Checkpoint, weights: dict[str, Tensor], module: nn.Module, path: Path
) -> dict[str, Tensor]:
    """A file's tensors under the network's names, as the family converts them.

    Raises: CheckpointError where they cannot be put together.
    """
    try:
        with gate():
            return family_named(entry.family).convert(weights, module, source=entry.source)
    except Unfit as why:
        raise CheckpointError(
            f"the tensors of {path} do not fit together as those of '{entry.family}' do",
            str(why),
            "Get the file again, or pass arch= if it is of another network",
        ) from why


def _expect_floating(
    entry: Checkpoint,
    weights: Mapping[str, Tensor],
    module: nn.Module,
    found: Mapping[str, Tensor],
    path: Path,
) -> None:
    """Raise where whole numbers, or those of 8 bits, became weights when a file was converted.

    Joined to others they are floats, and their type tells nothing any more: NaN in their place
    shows into what they went.

    Raises: CheckpointError.
    """
    odd = [key for key, tensor in weights.items() if not checkpoints.is_floating(tensor)]
    if not odd:
        return
    marked = {key: weights[key].new_full((), math.nan, dtype=torch.float32) for key in odd}
    marked = {key: nan.expand(weights[key].shape) for key, nan in marked.items()}
    refusal = checkpoints.not_floating(path, {key: weights[key] for key in odd})
    try:
        traced = _converted(entry, {**weights, **marked}, module, path)
    except CheckpointError as error:
        raise refusal from error
    joined = [key for key, tensor in found.items() if tensor.is_floating_point()]
    if any(key not in traced or bool(traced[key].isnan().any()) for key in joined):
        raise refusal


def _expect_fit(
    entry: Checkpoint, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path
) -> None:
    family, shapes = family_named(entry.family), _shapes(expected)
    fix = "Give the architecture it was trained with"
    if changes := family.fitting(shapes, _shapes(found)):
        words = ", ".join(f"{key}={value}" for key, value in changes.items())
        flags = " ".join(f"--set {key}={value}" for key, value in changes.items())
        fix = f"Its shapes are those of {words}: pass it ({flags})"
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
        stated = TextPreprocess(**with_tokenizer(entry))
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
