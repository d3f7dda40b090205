"""Where in a file a network's tensors are: the prefix under which its names stand, by matching.

A network inside another module has names such as `model.encoder.blocks.0...`. Which prefixes there
are is not listed: the ends of a file's names are compared with the names that a family knows.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from whitebox_probe import checkpoints
from whitebox_probe._core.errors import CheckpointError, LoadWarning
from whitebox_probe._core.lines import shown
from whitebox_probe.checkpoints import listed, without_wrappers
from whitebox_probe.models.family import Family

_MOST = 0.5  # the share of a network's names that tells a prefix


class Placed(NamedTuple):
    """The tensors of a network under its own names, and what a user should know of the others."""

    weights: dict[str, Tensor]
    notes: list[LoadWarning]


def read_placed(path: Path, *, wrapper: str | None, families: Iterable[Family]) -> Placed:
    """The tensors of a file under the names that one of the families knows.

    Names that no family knows stay as they are.

    Raises: CheckpointError as `read_weights` does, and for two networks under two prefixes.
    """
    known = list(families)

    def fits(tensors: Mapping[str, Tensor]) -> bool:
        shapes = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
        short = {without_wrappers(key): shape for key, shape in shapes.items()}
        return any(_prefixes_of(family, short) for family in known)

    weights, notes = checkpoints.read_weights(path, wrapper=wrapper, fits=fits)
    whole, prefix = weights, ""
    while inner := _prefix(path, known, {key: tuple(t.shape) for key, t in weights.items()}):
        prefix += inner
        weights = {k.removeprefix(inner): t for k, t in weights.items() if k.startswith(inner)}
    return Placed(weights, [*notes, *_beside(path, prefix, whole)])


def placed_as(path: Path, weights: Mapping[str, Tensor], expected: Sequence[str]) -> Placed | None:
    """The tensors under a network's own names, for a family that knows no marks; None if unclear.

    Raises: CheckpointError for two networks under two prefixes.
    """
    # Long names are of few places: those of the first and the last layer among them.
    anchors = sorted(expected, key=lambda key: (-key.count("."), key))
    found = {p for mark in (*anchors[:3], *anchors[-1:]) for p in _before(mark, weights)}
    shares = {p: sum(f"{p}{key}" in weights for key in expected) / len(expected) for p in found}
    good = _outermost(p for p, share in shares.items() if share >= _MOST)
    if len(good) > 1:
        raise _several(path, good)
    if not good or not good[0]:
        return None
    inside = {k.removeprefix(good[0]): t for k, t in weights.items() if k.startswith(good[0])}
    return Placed(inside, _beside(path, good[0], weights))


def _prefix(path: Path, families: Iterable[Family], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The one prefix under which a family's marks stand; empty where it is none.

    Raises: CheckpointError for several.
    """
    found: set[str] = set()
    for family in families:
        found |= _prefixes_of(family, shapes)
    good = _outermost(found)
    if len(good) > 1:
        raise _several(path, good)
    return good[0] if good else ""


def _prefixes_of(family: Family, shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
    """The prefixes under which a family has all marks of one of its formats."""
    found: set[str] = set()
    for marks in family.fingerprints:
        first, *others = sorted(marks, key=len, reverse=True)
        for prefix in _before(first, shapes):
            if all(len(shapes.get(f"{prefix}{k}", ())) == marks[k] for k in (first, *others)):
                found.add(prefix)
    if "" in found and (inner := family.wrapped(shapes)):
        found = (found - {""}) | {inner}
    return found


def _before(mark: str, names: Iterable[str]) -> set[str]:
    """What stands before a mark in the names that end with it."""
    return {
        name[: len(name) - len(mark)] for name in names if name == mark or name.endswith(f".{mark}")
    }


def _outermost(prefixes: Iterable[str]) -> list[str]:
    """The prefixes without those that continue another one."""
    kept: list[str] = []
    for prefix in sorted(set(prefixes), key=lambda prefix: (len(prefix), prefix)):
        if not any(prefix.startswith(other) for other in kept):
            kept.append(prefix)
    return kept


def _beside(path: Path, prefix: str, weights: Iterable[str]) -> list[LoadWarning]:
    """A note of the tensors that do not stand under a prefix, if there are any."""
    beside = [key for key in weights if not key.startswith(prefix)]
    if not beside:
        return []
    count = f"{len(beside)} tensors" if beside[1:] else "1 tensor"
    note = LoadWarning(
        f"of {path.name} the network under '{shown(prefix)}' was loaded",
        f"{count} beside it {'were' if beside[1:] else 'was'} left out: {listed(beside)}",
        "Nothing needs to be done if they are of a loss, or of a head outside of the network",
    )
    return [note]


def _several(path: Path, prefixes: Sequence[str]) -> CheckpointError:
    names = [prefix.rstrip(".") for prefix in prefixes]
    ways = [f"wrapper='{shown(name)}'" for name in names if name][:4]
    return CheckpointError(
        f"{path} holds {len(names)} networks",
        f"their names begin with {listed([f'{name}.' for name in names])}",
        f"Say which: {' or '.join(ways)}",
    )
