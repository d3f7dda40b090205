"""Files that a path or a pattern names: `{000..009}` and `{a,b}` as shells have them, and globs."""

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from whitebox_probe._core.errors import DataError
from whitebox_probe._core.gate import Unfit, size_of

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST = 100_000
"""Files that a pattern may name: a slip of the hand must not fill the memory."""


def files_of(path: Path) -> list[Path]:
    """The files, sorted; a file of that very name is taken before any pattern.

    Folders that a pattern names are passed over, as `**` names them too.

    Raises: DataError where there is none, or one is no file: a link to nothing, a pipe.
    """
    if path.is_file():
        return [path]
    found: list[str] = []
    for each in _expanded(str(path)):
        if glob.has_magic(each):
            found += sorted(p for p in glob.glob(each, recursive=True) if not Path(p).is_dir())
        else:
            found.append(each)
        if len(found) > _MOST:
            raise DataError(f"{path} names too many files", f"more than {_MOST}", "Narrow it")
    if not found:
        raise DataError(f"{path} cannot be read", "no file fits the pattern", "Check the path")
    for each in found:
        _expect_file(each)
    return [Path(each) for each in dict.fromkeys(found)]


def _expect_file(path: str) -> None:
    try:
        size_of(Path(path))
    except Unfit as why:
        told = str(why) if os.path.lexists(path) else "there is no such file"
        raise DataError(f"{path} cannot be read", told, "Check the path") from why


def _expanded(text: str) -> Iterator[str]:
    """The texts that braces stand for, in their order."""
    found = _BRACES.search(text)
    if found is None:
        yield text
        return
    inner = found[1]
    span = _RANGE.fullmatch(inner)
    if span is not None:
        first, last = int(span[1]), int(span[2])
        if abs(last - first) > _MOST:
            raise DataError(f"{text} names too many files", f"more than {_MOST}", "Narrow it")
        step = 1 if first <= last else -1
        parts = [str(n).zfill(len(span[1])) for n in range(first, last + step, step)]
    else:
        parts = inner.split(",")
    for part in parts:
        for rest in _expanded(text[found.end() :]):
            yield text[: found.start()] + part + rest
