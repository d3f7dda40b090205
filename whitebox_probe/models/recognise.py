"""A file without `arch`: the family whose keys it has, and what has to be asked for."""

import re
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch

from whitebox_probe import checkpoints
from whitebox_probe._core.arguments import told as printed
from whitebox_probe._core.errors import ArchitectureError, CheckpointError
from whitebox_probe._core.gate import Unfit, gate
from whitebox_probe._core.lines import shown
from whitebox_probe.checkpoints import Checkpoint, listed
from whitebox_probe.models.family import Family, Recognised
from whitebox_probe.models.keys.counts import flat_patch
from whitebox_probe.models.placing import read_placed
from whitebox_probe.models.registry import build, families, family_named, family_of_timm, is_own
from whitebox_probe.models.stated import stated
from whitebox_probe.models.trained import Trained, trained

HEAD_WIDTHS = (128, 80, 64, 48, 32, 24, 16)  # of every published model of these families
_FORMS = (
    "Pass arch=, such as arch='crate_small', 'timm:vit_small_patch16_224' or "
    "'hf:openai-community/gpt2'"
)

Shapes = Mapping[str, tuple[int, ...]]


def recognised(path: Path, wrapper: str | None, options: dict[str, Any]) -> Checkpoint:
    """A registry entry for a file without `arch`: the family whose keys and shapes it has.

    What is written of it, in the file or in a config.json beside it, fills `options` where they are
    silent.
    `heads` is taken out of `options` where it settles more than one argument.

    Raises: CheckpointError where no family, or several, have such keys, or where what is written
        or asked for is of another network than the tensors; ArchitectureError, with
        the choices, where something that no file holds is not among the options.
    """
    found = read_placed(path, wrapper=wrapper, families=families().values()).weights
    shapes = {key: tuple(tensor.shape) for key, tensor in found.items()}
    try:
        family, seen = _matching(path, shapes)
    except CheckpointError:
        named = _of_timm(path)
        if named is None:
            raise
        return named
    if (known := trained(path)) is not None and family_of_timm(known.name) == family.name:
        named = _named(path, known)
        _settle_heads(path, named, options)
        return named
    seen = _of_channels(seen, options.get("channels"))
    written = stated(path, family, seen)
    heads = written.get("heads", seen.arch.get("num_heads"))
    if heads is not None and options.get("heads", heads) != heads:
        raise _other_heads(path, heads, options["heads"])
    if "num_heads" in seen.arch:
        options.pop("heads", None)
    for key, value in written.items():
        options.setdefault(key, value)
    asked = dict(seen.ask)
    if seen.inner is not None:
        asked["heads"] = head_choices(seen.inner)
    missing = {key: choices for key, choices in asked.items() if key not in options}
    if missing:
        words = "; ".join(f"{key}={' or '.join(map(str, c))}" for key, c in missing.items())
        raise ArchitectureError(
            f"{path} is of family '{family.name}', but not all of its architecture is known",
            f"it does not say {', '.join(missing)}, and neither does a config.json beside it",
            f"Pass {words}, or arch=",
            missing,
        )
    arch = dict(seen.arch)
    if seen.inner is not None:
        heads = options.pop("heads")
        _check_heads(path, heads, seen.inner)
        arch |= family.head_arguments(heads, seen.inner)
    return Checkpoint(
        name=checkpoints.title(path),
        family=family.name,
        arch=arch,
        source={"kind": "path", "path": str(path)},
    )


def _other_heads(path: Path, heads: Any, asked: Any) -> CheckpointError:
    return CheckpointError(
        f"{path} has {heads} heads",
        f"its shapes or what is written of it say so, and {asked} are asked for",
        "Leave out heads=, or pass arch= if it is of another network",
    )


def _of_channels(seen: Recognised, channels: Any) -> Recognised:
    """The same patches with the channels that are asked for, where keys do not tell how many."""
    if not seen.flat or not isinstance(channels, int) or channels == seen.arch["channels"]:
        return seen
    old = seen.arch["patch_size"]
    width = seen.arch["channels"] * old**2
    found, new = flat_patch(width, channels)
    if found * new**2 != width:
        return seen  # the tensors contradict it, and are told to
    arch = {**seen.arch, "channels": found, "patch_size": new}
    if "image_size" in arch:
        arch["image_size"] = arch["image_size"] // old * new
    ask = {k: ("[HEIGHT,WIDTH]",) if k == "image_size" else v for k, v in seen.ask.items()}
    return replace(seen, arch=arch, ask=ask)


def _of_timm(path: Path) -> Checkpoint | None:
    """An entry for a file that is of no plain network, and whose training names a model of timm."""
    import timm

    if (known := trained(path)) is not None:
        return _named(path, known)
    told = checkpoints.read_arguments(path)
    names = [told[key] for key in checkpoints.ARCHITECTURES if isinstance(told.get(key), str)]
    name = next((name for name in names if timm.is_model(name)), None)
    return None if name is None else _named(path, Trained(name, {}))


def _named(path: Path, known: Trained) -> Checkpoint:
    """An entry for a file of the network that timm has by this name."""
    return Checkpoint(
        name=checkpoints.title(path),
        family=family_of_timm(known.name),
        arch={"model": known.name, **known.arguments},
        source={"kind": "path", "path": str(path)},
    )


def _settle_heads(path: Path, named: Checkpoint, options: dict[str, Any]) -> None:
    """Take `heads` out of the options, where the name settles how many there are.

    Raises: CheckpointError where it settles another number.
    """
    if "heads" not in options:
        return
    asked = options.pop("heads")
    with torch.device("meta"):
        network = build(named.family, {**named.arch, **options}, source=str(path))
    heads = family_named(named.family).anatomy.dims(network).heads
    if heads != asked:
        raise _other_heads(path, heads, asked)


def head_choices(inner: int) -> tuple[int, ...]:
    """The numbers of heads that share a width of K*p as published models do, or evenly at all."""
    published = tuple(inner // p for p in HEAD_WIDTHS if inner % p == 0)
    return published or _dividing(inner)


def _dividing(inner: int) -> tuple[int, ...]:
    """All numbers of heads that share a width of K*p: the weights are of each of them alike."""
    return tuple(K for K in range(1, inner + 1) if inner % K == 0)


def _check_heads(path: Path, heads: Any, inner: int) -> None:
    whole = isinstance(heads, int) and not isinstance(heads, bool)
    if whole and heads >= 1 and inner % heads == 0:
        return
    raise CheckpointError(
        f"{path} cannot have {shown(printed(heads))} heads",
        f"they share a width of {inner}"
        if whole
        else f"{shown(printed(heads))} is no whole number",
        f"Give the number it was trained with, one of: {', '.join(map(str, _dividing(inner)))}",
    )


def _matching(path: Path, shapes: Shapes) -> tuple[Family, Recognised]:
    """The one family that recognises a file; of several, this package's own comes first."""
    matching = [
        (f, seen) for f in families().values() if (seen := _seen(f, path, shapes)) is not None
    ]
    own = [(family, seen) for family, seen in matching if is_own(family)]
    if len(own or matching) == 1:
        return (own or matching)[0]
    if not matching:
        raise _unknown(path, shapes)
    names = [family.name for family, _ in matching]
    raise CheckpointError(
        f"the family of {path} is not recognised",
        f"its keys ({listed(list(shapes)[:3])}, ...) are of {' and '.join(names)}",
        f"Pass arch= with family, such as arch={{'family': '{names[0]}', ...}}",
    )


def _seen(family: Family, path: Path, shapes: Shapes) -> Recognised | None:
    """What a family recognises.

    Raises: CheckpointError for tensors of its names whose sizes no network has.
    """
    why = ""
    try:
        with gate():
            seen = family.recognise(shapes)
    except Unfit as error:
        seen, why = None, str(error)
    marks = {key for marks in family.fingerprints for key in marks}
    empty = [f"{key} {shapes[key]}" for key in marks if 0 in shapes.get(key, ())]
    if why or (seen is not None and empty):
        raise CheckpointError(
            f"{path} has the keys of '{family.name}', and not its shapes",
            f"{len(empty)} of them are empty: {listed(sorted(empty))}" if empty else why,
            "Get the file again, or pass arch= if it is of another network",
        )
    return seen


def _unknown(path: Path, shapes: Shapes) -> CheckpointError:
    """Why no family recognises a file: the nearest one, and where the file departs from it."""
    what = f"the family of {path} is not recognised"
    near = _nearest(shapes)
    if near is None:
        keys = listed(list(shapes)[:3])
        return CheckpointError(what, f"its keys ({keys}, ...) are of no family known here", _FORMS)
    name, marks = near
    missing = [key for key in marks if key not in shapes]
    # The same key of another layer is a neighbour of what is missing, and no misspelling of it.
    known = {re.sub(r"\d+", "", key) for key in marks}
    others = [key for key in shapes if re.sub(r"\d+", "", key) not in known]
    renamed = [k for key in missing for k in get_close_matches(key, others, n=1, cutoff=0.8)]
    wrong = [
        f"{key} {shapes[key]} where {rank} dimensions are expected"
        for key, rank in marks.items()
        if key in shapes and len(shapes[key]) != rank
    ]
    kinds = {
        "missing": missing,
        "unexpected": list(dict.fromkeys(renamed)),
        "wrongly shaped": wrong,
    }
    told = [f"{len(keys)} {kind}: {listed(keys)}" for kind, keys in kinds.items() if keys]
    return CheckpointError(
        what,
        f"it is nearest to '{name}', of whose marks "
        + ("; ".join(told) or "each is there, but their shapes do not fit each other"),
        f"Mend the keys; or {_FORMS[0].lower()}{_FORMS[1:]}",
    )


def _nearest(shapes: Shapes) -> tuple[str, Mapping[str, int]] | None:
    """The family most of whose marks a file has, and these marks; None if it has few of any."""
    ranked = []
    for family in families().values():
        for marks in family.fingerprints:
            there = sum(key in shapes for key in marks)
            # One that has them all as they should be, and refused the file, is not what is meant
            # where another lacks a single one.
            whole = all(len(shapes.get(key, ())) == rank for key, rank in marks.items())
            ranked.append(((there - 1.5 * whole) / len(marks), there, family.name, marks))
    share, there, name, marks = max(ranked, key=lambda found: found[:2], default=(0, 0, "", {}))
    return (name, marks) if share >= 0.5 and there >= 2 else None
