"""Files of timm's models: what a tuned one has otherwise, its positions, a release's own names."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError, LoadWarning
from whitebox_probe._core.lines import shown
from whitebox_probe.checkpoints import listed, same
from whitebox_probe.models.families._timm import create
from whitebox_probe.models.keys import dinov3
from whitebox_probe.models.keys.positions import grid_of, resample

_NO_PART = "mask_token"  # which training alone puts in the place of others
_PROJECTION = "visual.proj"
_RESIZED = ("pos_embed", "patch_embed.proj.weight")


def settled(arch: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What a file of a named model settles otherwise than the name: head, channels, image, pooling.

    What is among the arguments already stays as it is asked for.
    """
    if "model" not in arch:
        return {}
    with torch.device("meta"):
        usual: Any = create(arch, nn.Module)
    own = {key: tuple(tensor.shape) for key, tensor in usual.state_dict().items()}
    told: dict[str, Any] = {}
    head, patch = _head(shapes), shapes.get("patch_embed.proj.weight", ())
    if head is None or len(head) == 2:
        told["num_classes"] = 0 if head is None else head[0]
    if len(patch) == 4:
        told["in_chans"] = patch[1]
    if "fc_norm.weight" in shapes and "fc_norm.weight" not in own:
        told["global_pool"] = "avg"
    table = shapes.get("pos_embed", ())
    if len(table) == 3 and len(patch) == 4 and "pos_embed" in own:
        grid = grid_of(table[1] - _unplaced(usual), usual.patch_embed.grid_size)
        if grid is not None and "dynamic_img_size" not in arch:
            high, wide = (n * side for n, side in zip(grid, patch[2:], strict=True))
            told["img_size"] = high if high == wide else (high, wide)
    usual_size = tuple(getattr(getattr(usual, "patch_embed", None), "img_size", None) or ())
    known = {
        "num_classes": own.get("head.weight", (0,))[0],
        "in_chans": own.get("patch_embed.proj.weight", (0, 0))[1],
        "img_size": usual_size[0] if len(set(usual_size)) == 1 else usual_size,
    }
    return {k: v for k, v in told.items() if k not in arch and known.get(k) != v}


def _head(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape of a head, which timm makes of a release's projection into a space of text, too."""
    if "head.weight" in shapes:
        return shapes["head.weight"]
    return shapes[_PROJECTION][::-1] if _PROJECTION in shapes else None


def fitting(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    """Depth, width and registers of a file, where they are others than the network's."""
    told = {}
    for name, count in (("depth", _depth), ("embed_dim", _width), ("reg_tokens", _registers)):
        here, there = count(found), count(expected)
        if here is not None and here != there:
            told[name] = here
    return told


def _depth(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    blocks = {key.split(".")[1] for key in shapes if key.startswith("blocks.")}
    return len(blocks) or None


def _width(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    patch = shapes.get("patch_embed.proj.weight")
    return patch[0] if patch else None


def _registers(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    table = shapes.get("reg_token", (1, 0))
    return table[1] if len(table) > 1 else None


def _unplaced(network: Any) -> int:
    """How many rows of a position table are of tokens that are no patches."""
    if getattr(network, "no_embed_class", False):
        return 0
    return int(getattr(network, "num_prefix_tokens", 1))


def fitted_positions(weights: dict[str, Tensor], module: Any) -> dict[str, Tensor]:
    """A file's weights, with its positions at the network's own resolution where that is asked for.

    Raises: CheckpointError where the rows of the file's table are no grid that is known.
    """
    by, table = getattr(module, "interpolate_positions", None), weights.get("pos_embed")
    if by is None or table is None or table.ndim != 3 or getattr(module, "pos_embed", None) is None:
        return weights
    prefix, (high, wide) = _unplaced(module), module.patch_embed.grid_size
    old = grid_of(table.shape[1] - prefix, (high, wide))
    if table.shape[1] == module.pos_embed.shape[1] and old != (high, wide):
        return weights  # as many, on the network's own grid
    if old is None:
        raise CheckpointError(
            f"{table.shape[1] - prefix} position embeddings cannot be resampled to {high} x {wide}",
            "they are no square grid, and none of the same shape as the new one",
            "Choose an img_size with the shape of the images that it was trained on",
        )
    fitted = resample(table, old=old, new=(int(high), int(wide)), prefix=prefix, by=by)
    return weights | {"pos_embed": fitted}


def as_timm_names(
    weights: dict[str, Tensor], module: nn.Module, names: Callable[..., Any]
) -> dict[str, Tensor]:
    """A file under a release's original names, through the filter that timm has for them.

    The filters resample what does not fit without a word; then the weights stay as they are, to be
    refused with every key that does not fit.

    Args: names: timm's `checkpoint_filter_fn` of the network's module.
    Raises: CheckpointError where two tensors have one name.
    """
    found = _released(weights, module, names)
    if found is None:
        return weights
    # The filters keep the last of several tensors of one name: in another order it is another.
    others = _filtered(dict(reversed(weights.items())), module, names) or {}
    for name, tensor in found.items():
        if name not in others or not same(tensor, others[name]):
            raise _twice(name, "timm takes whichever stands last in the file")
    for name in found.keys() & weights.keys():
        if same(weights[name], found[name]):
            continue
        without = {key: tensor for key, tensor in weights.items() if key != name}
        others = _filtered(without, module, names) or {}
        if name in others and same(found[name], others[name]):
            raise _twice(name, "one has this name already, and timm gives it to another")
    return found


def left_out(
    weights: Mapping[str, Tensor], module: nn.Module, names: Callable[..., Any]
) -> list[LoadWarning]:
    """A note of what a release's file holds, and timm's filter takes nothing of.

    It may be a text tower, or the same network once more with other numbers: nobody can tell.
    """
    if _released(weights, module, names) is None:
        return []
    # Each tensor is followed by a number of its own, which takes no memory.
    marks = {
        key: torch.tensor(float(number)).expand(tensor.shape)
        for number, (key, tensor) in enumerate(weights.items(), 1)
    }
    found = _numbers(_filtered(marks, module, names))
    seen = {number for numbers in found.values() for number in numbers}
    of_dinov3 = dinov3.MARK in weights
    unseen = [
        key
        for number, key in enumerate(marks, 1)
        if number not in seen and key != _NO_PART and not (of_dinov3 and dinov3.is_compared(key))
    ]

    def is_idle(keys: Sequence[str]) -> bool:
        without = set(keys)
        kept = {key: mark for key, mark in marks.items() if key not in without}
        return found == _numbers(_filtered(kept, module, names))

    told = _idle(unseen, is_idle)
    if not told:
        return []
    warning = LoadWarning(
        f"{len(told)} tensors of the file were left out",
        f"timm takes none of them for the network: {listed(told)}",
        "Nothing needs to be done if they are of a text tower, a head or a loss",
    )
    return [warning]


def _idle(keys: Sequence[str], is_idle: Callable[[Sequence[str]], bool]) -> list[str]:
    """The keys that change nothing: of what is added to another one, the number is not seen.

    Halves are tried, as a file may hold thousands of a text tower, and a filter reads each.
    """
    if not keys or is_idle(keys):
        return [*keys]
    if len(keys) == 1:
        return []
    half = len(keys) // 2
    return _idle(keys[:half], is_idle) + _idle(keys[half:], is_idle)


def _numbers(found: Mapping[str, Tensor] | None) -> dict[str, list[float]]:
    """The numbers that stand in each tensor; of one that repeats a number, that one."""
    few = {key: t if any(t.stride()) else t.flatten()[:1] for key, t in (found or {}).items()}
    return {key: tensor.unique().tolist() for key, tensor in few.items()}


def _released(
    weights: Mapping[str, Tensor], module: nn.Module, names: Callable[..., Any]
) -> dict[str, Tensor] | None:
    """What a filter makes of a release's file; None where the tensors stay as they are."""
    expected = module.state_dict()
    if all(key in weights for key in expected):
        return None
    found = _filtered(weights, module, names)
    if found is None:
        return None
    resized = any(key in found and not _is_of(weights, found[key]) for key in _RESIZED)
    gained = sum(key in found for key in expected) > sum(key in weights for key in expected)
    return found if gained and not resized else None


def _is_of(weights: Mapping[str, Tensor], made: Tensor) -> bool:
    """Whether a tensor has the numbers of one of the file, in whatever order, and no others.

    Or the last rows of one: BEiT-3's tables begin with two that it never uses.
    """
    if made.is_complex():
        return False
    if any(_ends(each, made) for each in weights.values()):
        return True
    as_large = [t for t in weights.values() if t.numel() == made.numel() and not t.is_complex()]
    ordered = made.double().flatten().sort().values
    return any(
        torch.equal(ordered[-1:], each.amax()[None])  # sorting takes longer
        and torch.equal(ordered, each.sort().values)
        for each in (t.double().flatten() for t in as_large if t.numel())
    )


def _ends(table: Tensor, made: Tensor) -> bool:
    if table.ndim != 2 or made.ndim < 2:
        return False
    rows = made.flatten(0, -2)
    return same(table[-len(rows) :], rows)


def _twice(name: str, why: str) -> CheckpointError:
    return CheckpointError(
        f"two tensors of the file are '{shown(name)}' of the network",
        why,
        "Leave out the one that does not belong to it",
    )


def _filtered(
    weights: Mapping[str, Tensor], module: nn.Module, names: Callable[..., Any]
) -> dict[str, Tensor] | None:
    """What a filter makes of a file's tensors; None where they are of no release that it knows."""
    try:
        with redirect_stdout(StringIO()):  # one of them prints the errors that it expects
            return dict(names(dict(weights), module))
    except (KeyError, RuntimeError, AttributeError, ValueError, TypeError, IndexError):
        return None
