"""A sweep's file, read and checked: plain values, and nothing that YAML would make of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import SweepError, nearest
from whitebox_probe._core.gate import NotText, Unfit, checker, load_yaml, read_text

MOST_BYTES = 1 << 20
MOST_VALUES = 100_000
"""Values of a file, each alias counted as often as it is used."""


def read(file: str | Path) -> dict[str, Any]:
    """What a YAML file says, checked against the schema.

    Raises: SweepError for a file that cannot be read, is too large, or says what is not known.
    """
    path = Path(file)
    try:
        text = read_text(path, most=MOST_BYTES).removeprefix("\ufeff")
    except Unfit as why:
        fix = why.fix if isinstance(why, NotText) else "Check the path"
        raise SweepError(f"{path} cannot be read", str(why), fix) from why
    document = _parsed(text, str(path))
    if document is None:
        told = "a sweep's file names models, data and settings"
        raise SweepError(f"{path} is empty", told, "Write them into it: see docs/sweep.md")
    return checked(document, str(path))


def checked(document: Any, where: str) -> dict[str, Any]:
    """The same values, with names as texts and `null` as it is meant.

    Args: where: names the file in messages.
    Raises: SweepError, which names the place, the value, and the nearest name.
    """
    import fastjsonschema

    from whitebox_probe.sweeping._schema import SCHEMA

    _expect_small(document, where)
    found: dict[str, Any] = _named(document)
    try:
        checker(SCHEMA)(found)
    except fastjsonschema.JsonSchemaValueException as error:
        raise _told(error, where) from error
    return found


def _parsed(text: str, where: str) -> Any:
    try:
        return load_yaml(text)  # a key may be `null`, which is a setting's name
    except Unfit as why:
        raise SweepError(
            f"{where} cannot be understood", str(why), "Mend that place in the file"
        ) from why


def _expect_small(document: Any, where: str) -> None:
    """Aliases of aliases stand for more values than any memory holds: they are counted first."""
    sizes: dict[int, int] = {}

    def size(value: Any, within: tuple[int, ...]) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) in within or len(within) > 50:
            raise SweepError(f"{where} is nested without end", "a value holds itself", "Mend it")
        if id(value) not in sizes:
            each = value.values() if isinstance(value, dict) else value
            sizes[id(value)] = 1 + sum(size(one, (*within, id(value))) for one in each)
        return sizes[id(value)]

    if (count := size(document, ())) > MOST_VALUES:
        raise SweepError(
            f"{where} holds {count} values", f"it may hold {MOST_VALUES}", "Say less in it"
        )


def _named(value: Any) -> Any:
    """Keys as texts: YAML reads the name `null` as no value."""
    if isinstance(value, Mapping):
        return {"null" if k is None else str(k): _named(v) for k, v in value.items()}
    return [_named(each) for each in value] if isinstance(value, list | tuple) else value


def _told(error: Any, where: str) -> SweepError:
    """The first thing that does not follow the schema, by its place."""
    path = [str(part) for part in error.path[1:]]
    place = "".join(f"[{int(p) + 1}]" if p.isdigit() else f".{p}" for p in path).lstrip(".")
    at = f"'{place}' of {where}" if place else where
    known = list(error.definition.get("properties", ()))
    names = list(error.value) if isinstance(error.value, dict) else []
    unknown = [name for name in names if name not in known]
    if error.rule in ("required", "additionalProperties") and unknown:
        fix = nearest(unknown[0], known)
        return SweepError(f"unknown key '{unknown[0]}' in {at}", "nothing would read it", fix)
    if error.rule == "required":
        lacks = next(name for name in error.rule_definition if name not in error.value)
        return SweepError(f"{at} has no '{lacks}'", "it is needed", f"Add {lacks}: ...")
    message = str(error.message).removeprefix(str(error.name)).strip()
    if error.rule == "anyOf":
        message = "must be a value, or a list of values"
    value = "it" if isinstance(error.value, dict | list) else repr(error.value)
    return SweepError(f"{at} is not understood", f"{value} {message}", "See docs/sweep.md")
