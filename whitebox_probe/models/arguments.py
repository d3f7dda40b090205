"""Arguments of a network, looked at before anything is built: names, kinds, and how large they are.

They come from the command line, from files and from registries alike. What a library would do with
an argument that is not known here is never found out.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from whitebox_probe._core.arguments import told as printed
from whitebox_probe._core.errors import CheckpointError, nearest
from whitebox_probe._core.lines import shown

LAYERS, SIZE, LARGEST = 1024, 1 << 20, 1 << 26
"""At most so many layers, so wide, and any other whole number: more is a slip of the hand."""
_SIZES = frozenset(
    {
        *("image_size", "img_size", "patch_size", "channels", "in_chans"),
        *("dim", "embed_dim", "heads", "num_heads", "n_head", "dim_head", "vocabulary"),
        *("block_size", "positions", "hidden", "atoms", "hidden_size", "n_embd", "vocab_size"),
        *("num_attention_heads", "intermediate_size", "max_position_embeddings"),
    }
)
# A layer that is chosen (`vision_feature_layer`) may be counted from the last one.
_DEPTH = re.compile(
    r"(^|_)(n_|num_)?(?<!feature_)(?<!select_)(layers?|depths?|blocks)($|_token_only)"
)
_NOT_SIZES = re.compile(r"seed|eps|epsilon|_id$|_ids$|factor|theta|base|temperature|length|limit")
_STEPS = frozenset({"eta", "lam"})
_EPS = re.compile(r"(^|_)(eps|epsilon)($|_)")
_LONGEST, _ENTRIES, _DEEPEST = 256, 1 << 17, 8


class Kind(NamedTuple):
    """What an argument may be: whether a value is such a one, and the words for it."""

    fits: Callable[[Any], bool]
    words: str


def _truth(value: Any) -> bool:
    return isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()


TRUTH, WHOLE, NUMBER = (
    Kind(_truth, "true or false"),
    Kind(_whole, "a whole number"),
    Kind(_number, "a number"),
)
TEXT = Kind(_text, "a short text")
ANYTHING = Kind(lambda value: True, "a value")
"""Of an argument without an annotation, as in a family of another package."""
NOTHING = Kind(lambda value: value is None, "none")


def several(one: Kind, *counts: int) -> Kind:
    """So many of a kind, one after the other."""

    def fits(value: Any) -> bool:
        is_row = isinstance(value, list | tuple) and (not counts or len(value) in counts)
        return is_row and len(value) <= _LONGEST and all(map(one.fits, value))

    words = f"{' or '.join(map(str, counts)) or 'several'} of them in a list"
    return Kind(fits, words)


def any_of(*kinds: Kind) -> Kind:
    """A value of one of several kinds."""
    words = " or ".join(dict.fromkeys(kind.words for kind in kinds))
    return Kind(lambda value: any(kind.fits(value) for kind in kinds), words)


def one_of(*choices: Any) -> Kind:
    """One of a few values."""
    words = f"one of {', '.join(map(str, choices))}"
    return Kind(lambda value: any(type(value) is type(c) and value == c for c in choices), words)


def kinds_of(network: type) -> dict[str, Kind]:
    """The arguments of a class's constructor, by its annotations."""
    hints = get_type_hints(network.__init__)  # type: ignore[misc]
    named = inspect.signature(network).parameters.values()
    names = [p.name for p in named if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {name: _of_hint(hints[name]) if name in hints else ANYTHING for name in names}


def _of_hint(hint: Any) -> Kind:
    if get_origin(hint) in (Union, UnionType):
        return any_of(*map(_of_hint, get_args(hint)))
    if get_origin(hint) is Literal:
        return one_of(*get_args(hint))
    if get_origin(hint) in (list, tuple, Sequence):
        return several(_of_hint(get_args(hint)[0]), 2)
    return {bool: TRUTH, int: WHOLE, float: NUMBER, str: TEXT, NoneType: NOTHING}[hint]


def expect_arguments(
    arch: Mapping[str, Any], known: Mapping[str, Kind] | None, *, family: str, source: str
) -> None:
    """Check the arguments of a network.

    Args: known: what each may be; None where the family looks at them itself.
    Raises: CheckpointError that names the argument, its value, and what may stand there.
    """
    for name, value in arch.items():
        if known is not None and name not in known:
            raise CheckpointError(
                f"the architecture of {source} cannot be built",
                f"'{shown(name)}' is no argument of a network of family '{family}'",
                nearest(str(name), known),
            )
        need = None if known is None or known[name].fits(value) else known[name].words
        need = need or needed(str(name), value)
        if need:
            raise CheckpointError(
                f"the architecture of {source} cannot be built",
                f"{shown(name)} is {shown(_told(value))}",
                f"Give {need}",
            )


def _told(value: Any) -> str:
    if value == "":
        return "empty"
    if isinstance(value, str):
        return value
    plain = value is None or isinstance(value, int | float | list | tuple)
    return printed(value) if plain else type(value).__name__


def is_size(name: str) -> bool:
    """Whether an argument is one that no network can do without: a size, a depth, an eps."""
    return name in _SIZES or bool(_DEPTH.search(name) or _EPS.search(name))


def needed(name: str, value: Any) -> str:
    """What has to stand there, for a value that no network's argument has; empty for another."""
    if isinstance(value, list | tuple):
        return next((need for each in value if (need := needed(name, each))), "")
    size, depth = name in _SIZES, bool(_DEPTH.search(name))
    if isinstance(value, bool):
        return "a whole number" if size or depth else "a number" if name in _STEPS else ""
    if isinstance(value, int):
        return _needed_whole(name, value, size=size, depth=depth)
    if name in _STEPS and not isinstance(value, float):
        return "a number"
    if isinstance(value, float):
        if size or depth:
            return "a whole number"
        if not math.isfinite(value):
            return "a finite number"
        return _needed_number(name, value)
    if isinstance(value, str) and not _text(value):
        return f"a text of at most {_LONGEST} characters"
    return ""


def _needed_whole(name: str, value: int, *, size: bool, depth: bool) -> str:
    if depth and not (0 if "_" in name else 1) <= value <= LAYERS:
        return f"a whole number from 1 to {LAYERS}"
    if size and not 1 <= value <= (LARGEST if name.startswith("vocab") else SIZE):
        return f"a whole number from 1 to {SIZE}"
    most = 1 << 63 if _NOT_SIZES.search(name) else LARGEST
    if abs(value) >= most:
        return f"a whole number below {most}"
    return _needed_number(name, value)


def _needed_number(name: str, value: float) -> str:
    if name in _STEPS and value < 0:
        return "a number from 0 on"
    if _EPS.search(name) and not 0 <= value <= 1:
        return "a number from 0 to 1"
    return ""


def expect_values(stated: Mapping[str, Any], *, family: str, source: str) -> None:
    """Check plain values at any depth of a configuration by their names.

    Raises: CheckpointError.
    """
    waiting: list[tuple[Mapping[str, Any], int]] = [(stated, 0)]
    count = 0
    while waiting:
        held, depth = waiting.pop()
        count += len(held)
        if count > _ENTRIES or depth > _DEEPEST:
            raise CheckpointError(
                f"the architecture of {source} cannot be built",
                "its configuration holds more than any network's",
                "Check the file",
            )
        expect_arguments(
            {k: v for k, v in held.items() if not isinstance(v, Mapping)},
            None,
            family=family,
            source=source,
        )
        waiting += [(v, depth + 1) for v in held.values() if isinstance(v, Mapping)]
        waiting += [
            (each, depth + 1)
            for v in held.values()
            if isinstance(v, list)
            for each in v
            if isinstance(each, Mapping)
        ]
