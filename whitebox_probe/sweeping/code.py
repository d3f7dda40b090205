"""The code that makes a model: its file, and what that imports from beside it."""

import ast
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import SweepError
from whitebox_probe._core.gate import Unfit, gate, is_file, read_bytes

_imported: dict[Path, str] = {}
"""Of each file that is imported here, what it held when a sweep first saw it so."""


def of_reference(text: str, digest: Callable[[Path], str]) -> list[Any]:
    """What tells what makes a module: the code's content, and its name there.

    Python finds the modules beside the file first, or those of the working directory for
    `package.module:make`. What is installed counts by its name.

    Raises: SweepError for a file that is not there, or that has changed since it was imported.
    """
    where, _, what = text.rpartition(":")
    by_file = where.endswith(".py")
    if by_file and not is_file(Path(where)):
        raise SweepError(f"there is no file {where}", f"'{text}' names it", "Check the path")
    folder = Path(where).resolve().parent if by_file else Path.cwd()
    first = [Path(where).resolve()] if by_file else list(_found(folder, where))
    beside = _reached(first, folder)
    told = [[path.relative_to(folder).as_posix(), digest(path)] for path in beside]
    for path, (_, held) in zip(beside, told, strict=True):
        if not (by_file and path in first):  # a file that is named is run anew each time
            _expect_as_imported(path, held)
    own: list[Any] = [digest(Path(where)), what] if by_file else [where, what]
    more = [
        each for path, each in zip(beside, told, strict=True) if not by_file or path != first[0]
    ]
    return [*own, more] if more else own


def _reached(first: list[Path], folder: Path) -> list[Path]:
    """The files, and those in the folder that are imported by them, at whatever remove."""
    waiting, seen = list(first), set(first)
    while waiting:
        for path in _imports(waiting.pop(), folder):
            if path not in seen:
                seen.add(path)
                waiting.append(path)
    return sorted(seen)


def _imports(path: Path, folder: Path) -> Iterator[Path]:
    """The files in a folder that a file has an import of, anywhere in its code."""
    try:
        with gate(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the code; they are shown when it is run
            nodes = list(ast.walk(ast.parse(read_bytes(path))))
    except Unfit:  # it is no Python: told when it is run
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            for each in node.names:
                yield from _found(folder, each.name)
        elif isinstance(node, ast.ImportFrom):
            inside = path.parents[node.level - 1 : node.level] if node.level else [folder]
            if inside and inside[0].is_relative_to(folder):
                for each in node.names:
                    yield from _found(inside[0], ".".join(filter(None, (node.module, each.name))))


def _found(folder: Path, name: str) -> Iterator[Path]:
    """The files of a dotted name, and of the packages that it is in."""
    here = folder
    for part in name.split("."):
        here = here / part
        yield from filter(is_file, (here.with_name(f"{part}.py"), here / "__init__.py"))


def _expect_as_imported(path: Path, held: str) -> None:
    """Refuse a file whose old code this process would go on with.

    Raises: SweepError.
    """
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    if str(path) not in files:
        _imported[path] = held
    elif _imported.setdefault(path, held) != held:
        raise SweepError(
            f"{path} has changed since it was imported",
            "this process still has the old code",
            "Start Python anew",
        )
