"""What keywords of figures may be: their annotations say it, and are held to in one place.

    named = checked("tokens", inspect.signature(tokens), {"sort": True, "layers": np.arange(1, 3)})

A figure thus gets plain values: NumPy's numbers as Python's, and lists of what can be gone through.
What an annotation does not say (the range, axes, results) each figure sees to itself.
"""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as SequenceOf
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from whitebox_probe._core.arguments import (
    LARGEST,
    bounded,
    finite,
    is_several,
    is_whole,
    lone,
    one_of,
    plain,
    text,
    told,
    truth,
)
from whitebox_probe._core.errors import ProbeError, SettingError, nearest
from whitebox_probe._core.gate import Unfit, parse_json

_SPELLED = {"True": True, "False": False, "None": None}
"""Python's words, beside those of JSON."""
_SEVERAL = (SequenceOf, Iterable, list)


class _OtherKindError(Exception):
    """A value that is not of the kind that an annotation says."""


def _whole(value: Any) -> str:
    return "" if is_whole(value) and abs(value) <= LARGEST else "Use a whole number"


_PLAIN: dict[Any, tuple[Callable[[Any], str], str]] = {
    bool: (truth, "True or False"),
    int: (_whole, "whole number"),
    float: (finite, "number"),
    str: (text, "text"),
    NoneType: (lambda value: "" if value is None else "Use None", "None"),
}


def checked(
    name: str, signature: inspect.Signature, given: Mapping[str, Any], names: Mapping[str, Any]
) -> dict[str, Any]:
    """The keywords that a figure is given, as plain values.

    Args: names: what annotations that are texts may name.
    Raises: ProbeError for one that it does not have, or needs; SettingError for one that is not
        what its annotation says.
    """
    _expect_known(name, signature, given)
    hints = hints_of(signature, names)
    return {key: held_to(name, key, value, hints[key]) for key, value in given.items()}


def takes_checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose keywords are held to their annotations."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def held(*args: Any, **named: Any) -> Any:
        kept = checked(function.__name__, signature, named, function.__globals__)
        return function(*args, **kept)

    return held


def hints_of(signature: inspect.Signature, names: Mapping[str, Any]) -> dict[str, Any]:
    """What each parameter may be; Any where that cannot be known.

    Args: names: what annotations that are texts may name.
    """
    return {
        key: _resolved(parameter.annotation, names)
        for key, parameter in signature.parameters.items()
    }


def read(written: str, hint: Any) -> Any:
    """What a text of the command line is to a keyword: a value of JSON, a list, or the text.

    >>> read("False", bool), read("null", str | None), read("2026", str | None)
    (False, None, '2026')
    >>> read('"l0"', str), read("l0", str)
    ('l0', 'l0')
    >>> read("l0,hoyer", SequenceOf[str] | None), read("[1, 2]", SequenceOf[int])
    (['l0', 'hoyer'], [1, 2])
    """
    value = _json(written)
    if value is not written and _fits(value, hint):
        return value
    listed = written.startswith("[") and written.endswith("]")
    each = next((get_args(h)[0] for h in _parts(hint) if _takes_several(h)), None)
    if each is not None and ("," in written or listed):
        row = written[1:-1] if listed else written
        return [
            part if each is Any else read(part, each) for part in map(str.strip, row.split(","))
        ]
    return written if _fits(written, hint) else value


def _json(written: str) -> Any:
    if written in _SPELLED:
        return _SPELLED[written]
    try:
        return parse_json(written)
    except Unfit:
        return written


def _resolved(hint: Any, names: Mapping[str, Any]) -> Any:
    """An annotation; Any for none, and for one whose names are imported for type checkers alone."""
    if not isinstance(hint, str):
        return Any if hint is inspect.Parameter.empty else hint
    try:
        return eval(hint, dict(names))
    except Exception:
        return Any


def _expect_known(name: str, signature: inspect.Signature, given: Mapping[str, Any]) -> None:
    allowed = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    places = [p.name for p in signature.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    for key in given:
        if key not in (*allowed, *places):
            raise ProbeError(
                f"the figure '{name}' has no keyword '{key}'",
                "it is none of its options",
                nearest(key, allowed),
            )
    needed = [k for k in allowed if signature.parameters[k].default is inspect.Parameter.empty]
    for key in needed:
        if key not in given:
            raise ProbeError(
                f"the figure '{name}' needs {key}=",
                "it cannot know which one is meant",
                f"Pass {key}=",
            )


def held_to(name: str, key: str, value: Any, hint: Any) -> Any:
    """A value of a figure's keyword, as its annotation says it.

    Raises: ProbeError for another value; SettingError for one of another kind.
    """
    choices = _choices(hint)
    if choices and (fix := one_of(*choices)(plain(value))):
        shown = value if isinstance(value, str) else told(value)
        raise ProbeError(f"unknown {key} '{shown}'", f"the figure '{name}' knows others", fix)
    try:
        return _held(key, value, hint)
    except _OtherKindError:
        why = f"the figure '{name}' takes no such value"
        fix = f"Use {' or '.join(dict.fromkeys(map(_words, _parts(hint))))}"
        raise SettingError(f"{key} is {told(value)}", why, fix, setting=key) from None


def _choices(hint: Any) -> tuple[Any, ...]:
    """What may stand at a keyword that names a few values; nothing for one that takes others."""
    parts = _parts(hint)
    of = {bool: (True, False), NoneType: (None,)}
    each = [get_args(p) if get_origin(p) is Literal else of.get(p) for p in parts]
    few = None not in each and any(get_origin(p) is Literal for p in parts)
    return tuple(value for found in each for value in found or ()) if few else ()


def _parts(hint: Any) -> tuple[Any, ...]:
    """The kinds of which a value may be any."""
    if get_origin(hint) in (Union, UnionType):
        return get_args(hint)
    return (NoneType if hint is None else hint,)


def _takes_several(hint: Any) -> bool:
    several = get_origin(hint) is tuple or get_origin(hint) in _SEVERAL
    return several and bool(get_args(hint))


def _fits(value: Any, hint: Any) -> bool:
    try:
        _held("", value, hint)
    except _OtherKindError:
        return False
    return True


def _held(key: str, value: Any, hint: Any) -> Any:
    """A value of one of an annotation's kinds.

    Raises: _OtherKindError; SettingError for more values than are read.
    """
    first, *others = _parts(hint)
    try:
        return _of_kind(key, value, first)
    except _OtherKindError:
        if not others:
            raise
    return _held(key, value, Union[tuple(others)])  # noqa: UP007 - made of several


def _of_kind(key: str, value: Any, kind: Any) -> Any:
    origin = get_origin(kind)
    if kind in _PLAIN:
        value = lone(value)
        if _PLAIN[kind][0](value):
            raise _OtherKindError
    elif origin is Literal:
        value = plain(value)
        if one_of(*get_args(kind))(value):
            raise _OtherKindError
    elif origin in (Mapping, dict):
        if not isinstance(value, Mapping):
            raise _OtherKindError
        return {k: _held(key, v, get_args(kind)[1]) for k, v in bounded(key, value.items())}
    elif origin is tuple and Ellipsis not in get_args(kind):
        # Of a row of one length its figure tells the range too, and so what it is.
        return tuple(map(lone, _each(key, value))) if is_several(value) else value
    elif _takes_several(kind):
        return [_held(key, each, get_args(kind)[0]) for each in _each(key, value)]
    return value


def _each(key: str, value: Any) -> list[Any]:
    if not is_several(value):
        raise _OtherKindError
    return bounded(key, value)


def _words(kind: Any) -> str:
    """What may stand at a keyword, in an error's words."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        word = _PLAIN[kind][1]
        return word if kind in (bool, NoneType) else f"a {word}"
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (Mapping, dict):
        return "a mapping"
    if origin is tuple and Ellipsis not in inner:
        return "a row of numbers"
    if _takes_several(kind):
        of = _PLAIN[inner[0]][1] if inner[0] in _PLAIN else ""
        return f"a list of {of}s" if of else "a list"
    return f"a {getattr(kind, '__name__', 'value')}"
