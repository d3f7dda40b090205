"""The files of a pass that is not finished: what they are called, and which of them are ours."""

import re
from contextlib import suppress
from pathlib import Path

from whitebox_probe._core.gate import Unfit
from whitebox_probe._core.io import tidy
from whitebox_probe.results.folder import is_own_file

ARGUMENTS, CELL = "arguments.json", "cell.json"
"""What `run` and `sweep` write beside states: a folder that holds one of them is ours."""
_STATE = re.compile(r"state-(\d+)-of-(\d+)\.npz", re.ASCII)
_HELD = frozenset({"about", "ids", "values"})
"""Arrays that every state has had, whatever its version."""


def name_of(rank: int, count: int) -> str:
    """The name of a process' state.

    >>> name_of(0, 1)
    'state-0-of-1.npz'
    """
    return f"state-{rank}-of-{count}.npz"


def processes_of(path: Path) -> int:
    """How many processes began the pass that a state is of."""
    match = _STATE.fullmatch(path.name)
    assert match is not None, "a path of `states_in`"
    return int(match[2])


def states_in(folder: Path) -> list[Path]:
    """The files of a folder that are called as states are, by name."""
    return sorted(path for path in folder.glob("state-*.npz") if _STATE.fullmatch(path.name))


def foreign_in(folder: Path) -> list[Path]:
    """Those called as states are that are none: a user's own."""
    if any(is_own_file(folder / name) for name in (ARGUMENTS, CELL)):
        return []  # a damaged state is one all the same
    return [path for path in states_in(folder) if not _is_state(path)]


def forget(folder: Path) -> None:
    """Remove all states of ours from a folder, and what a kill left of one being written."""
    tidy(folder)
    foreign = foreign_in(folder)
    for path in states_in(folder):
        if path not in foreign:
            path.unlink(missing_ok=True)


def _is_state(path: Path) -> bool:
    from whitebox_probe._core.arrays import read_arrays

    names: list[str] = []

    def noted(found: list[str]) -> list[str]:
        names.extend(found)
        return []  # the names are enough: nothing is read

    with suppress(Unfit):
        read_arrays(path, only=noted)
    return set(names) >= _HELD
