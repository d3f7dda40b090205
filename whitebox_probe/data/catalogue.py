"""Every kind of input, found by its place or added by another package, and the one that fits."""

import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import whitebox_probe.data as rooms
from whitebox_probe._core import discover
from whitebox_probe._core.errors import DataError, PluginError, ProbeError, nearest
from whitebox_probe._core.gate import named
from whitebox_probe.data.choices import Choices
from whitebox_probe.data.images import Transform
from whitebox_probe.data.kind import Kind, Opened
from whitebox_probe.data.names import Names, readers
from whitebox_probe.data.text import TextReader

GROUP = "whitebox_probe.data"
_TABLES = (".csv", ".tsv", ".parquet", ".json", ".jsonl", ".xlsx", ".feather", ".arrow")
_LONGEST = 200  # characters of a path that an error shows: it may be a whole text


@cache
def kinds() -> dict[str, Kind]:
    """The kinds of this folder, by name."""
    found = discover.subclasses(rooms, Kind)  # type: ignore[type-abstract]
    return {name: found[name]() for name in sorted(found)}


@cache
def added() -> dict[str, Kind]:
    """The kinds and named data sets that other packages add, by the name of the entry point.

    An entry point names a subclass of `Kind`, whose `name` it has, or a module of named data sets
    as `names` describes it.

    Raises: PluginError for a package whose kind cannot be had, or has a name that is taken.
    """
    return {name: _loaded(name) for name in _entries()}


@cache
def _entries() -> dict[str, list[EntryPoint]]:
    """Who adds what; nothing of theirs is imported."""
    return discover.plugins(GROUP)


def open_any(
    data: Any,
    transform: Transform | TextReader | None,
    choices: Choices = Choices(),  # noqa: B008 (frozen)
) -> Opened:
    """Open data by the one kind that takes them.

    Another package is imported only if no kind of this one takes them.

    Raises: DataError naming all kinds if none takes them; PluginError.
    """
    own = _taking(data, kinds())
    if own is not None:
        choices.expect(kinds()[own].options, kinds()[own].words)
        return kinds()[own].open_as(data, transform, choices)
    other = _taking(data, added())
    if other is None:
        raise _unknown(data)
    choices.expect(added()[other].options, added()[other].words)
    opened = _asked(other, added()[other].open_as, data, transform, choices)
    if not isinstance(opened, Opened):
        raise _unusable(other, f"it opens data as {type(opened).__name__}, not as Opened")
    return opened


def expect_known(data: Any, choices: Choices) -> None:
    """Check, without reading data, that a kind takes them and has the library that it needs.

    Raises: DataError, MissingDependency; PluginError.
    """
    own = _taking(data, kinds())
    if own is not None:
        choices.expect(kinds()[own].options, kinds()[own].words)
        kinds()[own].expect(data)
    elif _taking(data, added()) is None:
        raise _unknown(data)


def reader_of(name: str) -> Any:
    """The file that reads a named data set, of this package or of another; None for no name.

    Raises: PluginError.
    """
    if name in readers():
        return readers()[name]
    others = (kind.readers for kind in added().values() if isinstance(kind, Names))
    return next((known[name] for known in others if name in known), None)


def _taking(data: Any, known: Mapping[str, Kind]) -> str | None:
    """The name of the one kind that takes data: a general one only where no other does.

    Raises: DataError where several do, as nothing says which comes first.
    """
    for general in (False, True):
        asked = {name: kind for name, kind in known.items() if kind.general == general}
        taking = [name for name, kind in asked.items() if _asked(name, kind.takes, data)]
        if len(taking) > 1:
            raise DataError(
                f"data of type {type(data).__name__} are of several kinds",
                f"{' and '.join(taking)} take them",
                "Make the test of one of these kinds narrower",
            )
        if taking:
            return taking[0]
    return None


def _asked(name: str, method: Callable[..., Any], *arguments: Any) -> Any:
    """What a kind answers; whatever another package's raises is told in one line."""
    try:
        return method(*arguments)
    except ProbeError:
        raise
    except Exception as error:
        if name in kinds():
            raise  # a fault of ours
        raise _unusable(name, _line(error)) from error


def _loaded(name: str) -> Kind:
    """The kind that an entry point names, or a kind of the data sets of the module it names."""
    what = f"a subclass of Kind whose name is '{name}', or a module with NAMES"
    kind: Kind = discover.loaded(GROUP, name, kinds(), _made, what)
    return kind


def _made(name: str, thing: Any) -> Kind:
    if not hasattr(thing, "NAMES"):
        kind: Kind = discover.one_of(Kind, name, thing)()
        return kind
    for each in dict.fromkeys(thing.NAMES).keys() & readers().keys():
        raise discover.Unfit(f"whitebox-probe has a data set '{each}'")
    return Names(dict.fromkeys(thing.NAMES, thing))


def _line(error: Exception) -> str:
    return named(error)


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name if entry.dist else 'a package'} ({entry.value})"


def _unusable(name: str, why: str) -> PluginError:
    return PluginError(
        f"the data '{name}' of {_package(_entries()[name][0])} cannot be used",
        why,
        "Mend or uninstall that package",
    )


def _unknown(data: Any) -> DataError:
    """That no kind takes data, with what can be passed."""
    every = [*kinds().values(), *added().values()]
    known = [name for kind in every if isinstance(kind, Names) for name in kind.readers]
    by_path = isinstance(data, str | Path)
    told = [k.words for k in every if not isinstance(k, Names) and (k.by_path or not by_path)]
    others = f"{', '.join(told[:-1])} or {told[-1]}"
    if not by_path:
        return DataError(
            f"data of type {type(data).__name__} cannot be opened",
            f"a probe reads {Names.words}, {others}",
            f"Pass one of them, or a name: {', '.join(known)}",
        )
    name = str(data) if len(str(data)) <= _LONGEST else f"{str(data)[:_LONGEST]}..."
    if os.path.exists(data):
        end = Path(data).suffix
        ends = f"that ends in '{end}'" if end else "without an ending"
        why, fix = f"it is a file {ends}, by which no kind of data is known", f"Pass {others}"
        if end.lower() in _TABLES:
            fix = "Read it in Python, and pass its columns to wp.data: a DataFrame, or a mapping"
        return DataError(f"data '{name}' cannot be opened", why, fix)
    why = "it is neither a folder nor a known name"
    return DataError(f"data '{name}' cannot be opened", why, f"{nearest(name, known)}, or {others}")
