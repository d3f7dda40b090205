"""Where in a file's contents its state dict is, and keys without what wrappers put into them."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import CheckpointError, LoadWarning
from whitebox_probe._core.lines import shown
from whitebox_probe.checkpoints._pickles import Made, odd_tensor
from whitebox_probe.checkpoints._tensors import same

if TYPE_CHECKING:
    from torch import Tensor

    Fits = Callable[[Mapping[str, Tensor]], bool]

SHOWN, WIDTH = 10, 150
_PARTS = 1 << 16  # of modules and dicts in one another, that are looked at
# What DataParallel, torch.compile, FSDP and checkpointing put into keys: a name of this form.
_WRAPPER = re.compile(r"module|_\w*(module|mod)")
BACKBONE = "backbone."
PLAIN, AVERAGE = "state_dict", "state_dict_ema"  # in the files of timm's training
# What a wrapper that averages weights counts with, beside those weights.
_COUNTS = ("n_averaged", "num_updates", "initted", "step", "decay")


def listed(keys: list[str]) -> str:
    """The first of some keys, and how many more there are."""
    first: list[str] = []
    for key in (shown(each) or "''" for each in keys[:SHOWN]):
        if first and sum(map(len, first)) + len(key) > WIDTH:
            break
        first.append(key)
    more = f" and {len(keys) - len(first)} more" if len(keys) > len(first) else ""
    return ", ".join(first) + more


def _is_tensors(thing: Any) -> bool:
    import torch

    return (
        isinstance(thing, Mapping)
        and bool(thing)
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in thing.items())
    )


def _weights(thing: Any) -> Any:
    """A state dict of what a file holds: of a module's, that which it would give."""
    if isinstance(thing, Made) and "_modules" in thing.fields:
        return _of_module(thing)
    if isinstance(thing, Mapping) and any(_is_state(key) for key in thing):
        return {key: value for key, value in thing.items() if not _is_state(key)}
    return thing


def _is_state(key: Any) -> bool:
    """Whether it is that of a module's own state of Python, which is no weight."""
    return isinstance(key, str) and key.rpartition(".")[2] == "_extra_state"


def _of_module(
    made: Made, prefix: str = "", depth: int = 0, left: list[int] | None = None
) -> "dict[str, Tensor]":
    """The parameters and buffers of a module that a pickle describes; it is not built.

    Args: left: how many parts may still be looked at, as a part may stand in many places.
    """
    import torch

    left = [_PARTS] if left is None else left
    left[0] -= 1
    fields = made.fields
    passing = fields.get("_non_persistent_buffers_set")
    passing = [] if passing is None else passing  # a set is read as a list
    named = isinstance(passing, list) and all(isinstance(name, str) for name in passing)
    parameters, buffers = _dict(fields, "_parameters"), _dict(fields, "_buffers")
    if not named or set(parameters) & set(buffers):
        raise CheckpointError(
            f"a {shown(made.by)} of the file is no module as torch makes them",
            "a parameter and a buffer of it have one name"
            if named
            else "which of its buffers are saved is no set of names",
            "Save model.state_dict()",
        )
    held = {**parameters, **buffers}
    found = {
        f"{prefix}{name}": value
        for name, value in held.items()
        if isinstance(value, torch.Tensor) and name not in passing
    }
    for name, inner in _dict(fields, "_modules").items():
        if isinstance(inner, Made) and depth < 64 and left[0] > 0:
            found |= _of_module(inner, f"{prefix}{name}.", depth + 1, left)
    return found


def _dict(fields: Mapping[Any, Any], name: str) -> dict[Any, Any]:
    held = fields.get(name)
    return held if isinstance(held, dict) else {}


def unwrap(
    loaded: Any,
    path: Path,
    wrapper: str | None,
    fits: "Fits | None" = None,
    notes: list[LoadWarning] | None = None,
) -> "dict[str, Tensor]":
    """The state dict that a file holds, or that `wrapper` names.

    Of several, the only one that `fits` is taken; of the weights of timm's training and their
    average, the average, as timm does, and a note says so.

    Raises: CheckpointError for none, or several; it says what was found instead.
    """
    loaded = _weights(loaded)
    if not isinstance(loaded, Mapping):
        name = loaded.by if isinstance(loaded, Made) else type(loaded).__name__
        raise no_weights(path, f"it holds a {shown(name)}")
    modules = {str(key) for key, value in loaded.items() if isinstance(value, Made)}
    loaded = {key: _weights(value) for key, value in loaded.items()}
    if wrapper is not None:
        return _chosen(loaded, path, wrapper)
    # Looked at first: a training checkpoint may keep its best accuracy as a tensor at the top.
    held = {str(key): value for key, value in loaded.items() if _is_tensors(value)}
    # A module beside a state dict is a loss, or the network before it was trained.
    held = {key: value for key, value in held.items() if key not in modules} or held
    if len(held) > 1 and fits is not None:
        held = {key: value for key, value in held.items() if fits(value)} or held
    for key, inner in held.items():
        _expect_alone(loaded, key, inner, path)
    if set(held) == {PLAIN, AVERAGE}:
        if notes is not None:
            notes.append(_averaged(path))
        return dict(held[AVERAGE])
    if len(held) > 1:
        raise CheckpointError(
            f"{path} holds several state dicts",
            f"each of {listed(list(held))} could be meant",
            f"Say which, such as wrapper='{shown(next(iter(held)))}'",
        )
    for key, inner in held.items():
        others = {name: v for name, v in loaded.items() if name != key and name not in modules}
        left = _left(others, key, inner, path)
        if notes is not None:
            notes += left
        return dict(inner)
    if _is_tensors(loaded):
        return dict(loaded)
    raise no_weights(path, _told(loaded))


def _expect_alone(
    loaded: Mapping[Any, Any], key: str, inner: "Mapping[str, Tensor]", path: Path
) -> None:
    """Refuse other weights beside a state dict that have the names of its own.

    A counter may stand in both, and the same numbers.

    Raises: CheckpointError.
    """
    import torch

    own = {without_wrappers(name): tensor for name, tensor in inner.items()}
    for name, value in loaded.items():
        other = own.get(without_wrappers(str(name)))
        is_weight = isinstance(value, torch.Tensor) and value.numel() > 1
        if is_weight and other is not None and not same(value, other):
            raise CheckpointError(
                f"{path} holds '{shown(str(name))}' twice",
                f"once in its state dict '{shown(key)}', and once beside it",
                f"Pass wrapper='{shown(key)}' for what is inside, or save the one that is meant",
            )


def _left(
    others: Mapping[Any, Any], key: str, inner: "Mapping[str, Tensor]", path: Path
) -> list[LoadWarning]:
    """A note of each other state dict of the same network, which does not fit.

    Raises: CheckpointError for one that is damaged, as it may be the one that is meant; timm's
        average, which is taken where it is whole, is so wherever it does not fit.
    """
    own = {without_wrappers(name): tensor.shape for name, tensor in inner.items()}
    notes = []
    for name, held in others.items():
        if not isinstance(held, Mapping) or not held:
            continue
        is_average = (key, name) == (PLAIN, AVERAGE)
        if not (is_average or 2 * _common(held, own) >= len(own)):
            continue
        told, whole = shown(str(name)), _is_tensors(held)
        if is_average or not whole:
            there = {without_wrappers(str(each)) for each in held}
            lacking = [each for each in own if each not in there]
            why = f"lacks {listed(lacking)}" if lacking else "has other tensors, or other shapes"
            mixed = "" if whole else _mixed(f"its '{told}'", held)
            raise CheckpointError(
                f"{path} holds '{shown(key)}' and '{told}', of which one is not whole",
                mixed or f"its '{told}' {why if whole else 'holds no tensors'}",
                f"Pass wrapper='{shown(key)}' if that is the one that is meant",
            )
        notes.append(
            LoadWarning(
                f"of {path.name} the weights under '{shown(key)}' were loaded",
                f"those under '{told}' have the same names, and do not fit the network",
                f"Pass wrapper='{shown(key)}' to say so",
            )
        )
    return notes


def _common(held: Mapping[Any, Any], own: Mapping[str, Any]) -> int:
    """How many tensors of a dict have the name and the shape of another's."""
    import torch

    tensors = {name: value for name, value in held.items() if isinstance(value, torch.Tensor)}
    return sum(own.get(without_wrappers(str(n))) == tensor.shape for n, tensor in tensors.items())


def _averaged(path: Path) -> LoadWarning:
    return LoadWarning(
        f"of {path.name} the averaged weights were loaded",
        f"it holds '{PLAIN}' and their average '{AVERAGE}', of which timm takes the average, too",
        f"Pass wrapper='{PLAIN}' for the others, or wrapper='{AVERAGE}' to say so",
    )


def _chosen(loaded: Mapping[Any, Any], path: Path, wrapper: str) -> "dict[str, Tensor]":
    """The state dict at a key, at keys one in another (a.b), or of the keys with a prefix."""
    held: Any = loaded
    for part in [wrapper] if wrapper in loaded else wrapper.split("."):
        held = _weights(held.get(part)) if isinstance(held, Mapping) else None
    if _is_tensors(held):
        return dict(held)
    dicts = {str(key): value for key, value in loaded.items() if _is_tensors(value)}
    dicts = dicts or ({"": loaded} if _is_tensors(loaded) else {})
    wanted = wrapper.rstrip(".")
    found = {key: _of_prefix(value, wanted, path) for key, value in dicts.items()}
    if not any(found.values()):  # the state dict may be named before it
        found = {
            key: _of_prefix(value, wanted.removeprefix(f"{key}."), path)
            for key, value in dicts.items()
            if wanted.startswith(f"{key}.")
        }
    several = [f"{key}.{wanted}" for key, inside in found.items() if inside]
    if len(several) > 1:
        raise CheckpointError(
            f"{path} holds '{shown(wrapper)}' in several state dicts",
            f"each of {listed(several)} could be meant",
            f"Say which, such as wrapper='{shown(several[0])}'",
        )
    if several:
        return next(filter(None, found.values()))
    there = f"; {told}" if (told := _inside(loaded, wrapper)) else ""
    keys = f"its keys are {listed([str(key) for key in loaded])}{there}"
    flat = _is_tensors(loaded)
    raise CheckpointError(
        f"{path} has no {'' if flat else 'state dict '}'{shown(wrapper)}'",
        f"a file of its kind holds one state dict, and {keys}" if flat else keys,
        "Give wrapper= one that holds tensors, or what their names begin with",
    )


def _of_prefix(tensors: "Mapping[str, Tensor]", wanted: str, path: Path) -> "dict[str, Tensor]":
    """The tensors whose names begin with a prefix, with or without what wrappers put before it.

    Raises: CheckpointError when two keys become one.
    """
    prefix, found = f"{wanted}.", {}
    for key, tensor in tensors.items():
        name = key if key.startswith(prefix) else without_wrappers(key)
        if not name.startswith(prefix):
            continue
        if (short := name.removeprefix(prefix)) in found:
            raise _twice(path, name, key)
        found[short] = tensor
    return found


def _twice(path: Path, name: str, key: str) -> CheckpointError:
    return CheckpointError(
        f"{path} holds '{shown(name)}' twice",
        f"'{shown(key)}' and another key are the same without what a wrapper adds",
        "Save the state dict of the network inside its wrapper",
    )


def _told(loaded: Mapping[Any, Any]) -> str:
    """What is found in place of a state dict."""
    import torch

    named = {key: value for key, value in loaded.items() if not isinstance(key, str)}
    if any(isinstance(value, torch.Tensor) for value in named.values()):
        return "its tensors have numbers for names"
    if loaded and all(isinstance(v, Made) and v.by == "torch.Tensor" for v in loaded.values()):
        return "its tensors were written by pickle.dump, and not by torch.save"
    odd = {key: kind for key, value in loaded.items() if (kind := odd_tensor(value))}
    if odd and len(odd) == len(loaded):
        return f"its tensors are no plain arrays: {listed([f'{k} ({v})' for k, v in odd.items()])}"
    near = [_mixed("it", loaded), *(_inside(loaded, key) for key in loaded)]
    told = "; ".join(list(filter(None, near))[:2])
    if not told and (paths := list(_deep(loaded, (), [_PARTS]))):
        example = shown(".".join(paths[0]))
        return (
            f"its state dicts are further down, at {listed([' -> '.join(path) for path in paths])} "
            f"(wrapper='{example}' takes the first)"
        )
    return told or f"its keys are {listed([str(key) for key in loaded]) or 'none'}"


def _deep(
    held: Mapping[Any, Any], above: tuple[str, ...], left: list[int]
) -> Iterator[tuple[str, ...]]:
    """The keys, one in another, under which state dicts lie in a file's dicts."""
    for key, value in held.items():
        left[0] -= 1
        if left[0] < 0:
            return
        if _is_tensors(value):
            yield (*above, str(key))
        elif isinstance(value, Mapping) and len(above) < 6:
            yield from _deep(value, (*above, str(key)), left)


def _inside(loaded: Mapping[Any, Any], key: Any) -> str:
    """What is found under a key that nearly holds a state dict; empty if nothing of the kind."""
    held = loaded.get(key)
    if not isinstance(held, Mapping):
        return ""
    deeper = [f"{key} -> {name}" for name, value in held.items() if _is_tensors(value)]
    if deeper:
        example = deeper[0].replace(" -> ", ".")
        return (
            f"its state dicts are two levels down, at {listed(deeper)} "
            f"(wrapper='{shown(example)}' takes the first)"
        )
    return _mixed(f"its '{shown(str(key))}'", held)


def _mixed(who: str, held: Mapping[Any, Any]) -> str:
    """What stands among the tensors of a dict; empty where there are no tensors."""
    import torch

    named = {k: v for k, v in held.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    others = [f"{key} ({_kind(value)})" for key, value in held.items() if key not in named]
    count = len(named)
    if not count:
        return ""
    return f"{who} holds {count} tensor{'s' * (count > 1)}, and beside them {listed(others)}"


def _kind(value: Any) -> str:
    """The type of a value, or that which a file names for it."""
    if (odd := odd_tensor(value)) is not None:
        return f"a tensor, {odd}"
    return value.by.rpartition(".")[2] if isinstance(value, Made) else type(value).__name__


def no_weights(path: Path, why: str) -> CheckpointError:
    """The refusal of a file without a state dict."""
    return CheckpointError(
        f"{path} holds no state dict", why, "Save model.state_dict(), or a dict that holds it"
    )


def without_wrappers(key: str) -> str:
    """A tensor's name without what DataParallel, torch.compile and their like put into it.

    >>> without_wrappers("module._orig_mod.blocks.0.weight")
    'blocks.0.weight'
    """
    parts = [part for part in key.split(".") if not _WRAPPER.fullmatch(part)]
    return ".".join(parts) or key


def stripped(tensors: "Mapping[str, Tensor]", path: Path) -> "dict[str, Tensor]":
    """Take out what wrappers put into keys, wherever it stands, and a `backbone.` before all.

    A `backbone.` beside a `head.` is a part of the network itself, for its family to judge. What an
    averaging wrapper counts with is no weight, and left out.

    Raises: CheckpointError when two keys become one.
    """
    wrapped = {
        ".".join(parts[:at])
        for parts in (key.split(".") for key in tensors)
        for at, part in enumerate(parts)
        if _WRAPPER.fullmatch(part)
    }
    short: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = without_wrappers(key)
        inside, _, last = key.rpartition(".")
        if last in _COUNTS and inside in wrapped and tensor.ndim == 0:
            continue
        if name in short:
            raise _twice(path, name, key)
        short[name] = tensor
    while short and all(key.startswith(BACKBONE) for key in short):
        short = {key.removeprefix(BACKBONE): tensor for key, tensor in short.items()}
    return short
