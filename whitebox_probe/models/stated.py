"""What is written in a file or beside it of an architecture that its tensors do not settle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whitebox_probe import checkpoints
from whitebox_probe._core.arguments import told as printed
from whitebox_probe._core.errors import CheckpointError
from whitebox_probe._core.lines import shown
from whitebox_probe.models.family import Family, Recognised

_CHANGED = frozenset({"image_size", "img_size", "classes", "num_classes", "channels", "in_chans"})
"""What is often another than in the architecture that is named: of other data."""
_CHANGED_TOO = frozenset({"vocabulary", "block_size", "positions", "global_pool", "extra_head"})


def stated(path: Path, family: Family, seen: Recognised) -> dict[str, Any]:
    """Arguments of the network, `heads` among them, that are written in the file or beside it.

    Raises: CheckpointError where what is written is of another network than the tensors.
    """
    told = checkpoints.read_arguments(path)
    found = _of_name(path, family, seen, told)
    heads = next((told[k] for k in checkpoints.HEADS if isinstance(told.get(k), int)), None)
    found |= {} if heads is None else {"heads": heads}
    found |= family.stated(told)
    _expect_same(path, "its configuration", seen.arch, found)
    wanted = {*seen.ask, *family.assumed({**seen.arch, **found})}
    found |= {key: told[key] for key in wanted if key in told}
    heads = found.get("heads")
    if seen.inner is None:
        found.pop("heads", None)
    elif isinstance(heads, int) and "dim_head" in found and heads * found["dim_head"] != seen.inner:
        raise _other(path, "its configuration", {"K p": (heads * found["dim_head"], seen.inner)})
    found.pop("dim_head", None)
    return {key: value for key, value in found.items() if key not in seen.arch}


def _of_name(
    path: Path, family: Family, seen: Recognised, told: Mapping[str, Any]
) -> dict[str, Any]:
    """What the architecture that is named settles beside the tensors; empty if it is not known."""
    names = [told[key] for key in checkpoints.ARCHITECTURES if isinstance(told.get(key), str)]
    for name in names:
        arch = _named(family, name)
        if arch is None:
            continue
        _expect_same(path, f"'{name}', which it names,", seen.arch, arch)
        kept = {*seen.ask, *family.assumed(seen.arch), "heads", "dim_head"}
        return {key: value for key, value in arch.items() if key in kept}
    return {}


def _named(family: Family, name: str) -> dict[str, Any] | None:
    """The arguments of an architecture of this family by its name here, or in timm."""
    known = {each.lower(): each for each in checkpoints.architectures()}
    if name.lower() in known:
        of, arch = checkpoints.architecture(known[name.lower()])
        return dict(arch) if of == family.name else None
    return family.named(name)


def _expect_same(
    path: Path, whose: str, seen: Mapping[str, Any], stated: Mapping[str, Any]
) -> None:
    differing = {
        key: (stated[key], seen[key])
        for key in seen
        if key in stated and stated[key] != seen[key] and key not in _CHANGED | _CHANGED_TOO
    }
    if differing:
        raise _other(path, whose, differing)


def _other(path: Path, whose: str, differing: Mapping[str, tuple[Any, Any]]) -> CheckpointError:
    told = "; ".join(
        f"{key}: {shown(printed(a))}, the weights {printed(b)}" for key, (a, b) in differing.items()
    )
    return CheckpointError(
        f"{path} is not what is written of it",
        f"{whose} says {told}",
        "Pass arch= for the network that it is of",
    )
