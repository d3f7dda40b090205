"""The folder of a cell: what is to be done there, how far it is, and who is at it."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from whitebox_probe._core.errors import ResultError, SweepError
from whitebox_probe._core.gate import Unfit, expect, gate, is_file, is_folder, read_mapping
from whitebox_probe._core.io import write_json
from whitebox_probe.probing.state_files import CELL, states_in
from whitebox_probe.results.folder import finish, is_own_file, read_seal
from whitebox_probe.results.result import RUN
from whitebox_probe.results.run import Run
from whitebox_probe.sweeping.cell import CELLS, Cell
from whitebox_probe.sweeping.table import FILES

FAILED, LOCK = "failed.json", ".lock"
FORMAT = 1
MARK = "cell"
"""The key of a result's `execution` that holds the identity of the cell it is of."""
_FAILURE = {
    "type": "object",
    "properties": {"line": {"type": "string"}, "fault": {"type": "boolean"}},
    "required": ["line", "fault"],
}
State = Literal["done", "failed", "begun", "lost", "to do"]


@dataclass(frozen=True)
class Failure:
    """Why a cell has no result: one line, and whether it is a fault of the program."""

    line: str
    fault: bool = False


def state_of(folder: Path, cell: Cell) -> State:
    """How far a cell is in its folder.

    A folder may have been renamed, copied or edited: what is in it counts where its description is
    of this cell, and a result where it is whole and says itself that it is this cell's.
    """
    with suppress(OSError):  # what is not there is measured again
        finish(folder)
    try:
        if described(folder)[0].identity != cell.identity:
            return "to do"
    except SweepError:
        return "to do"
    if _has_result(folder, cell):
        return "done"
    if (folder / FAILED).is_file():
        return "failed"
    return "begun" if states_in(folder) else "to do"


def _has_result(folder: Path, cell: Cell) -> bool:
    if not is_file(folder / RUN):
        return False
    try:
        run = Run.of(read_seal(folder, RUN, what="result", fix=""))
    except ResultError:
        return False
    return run.execution.get(MARK) == cell.identity


def expect_room(folder: Path, cells: Iterable[Path]) -> None:
    """Check that a sweep can write into its folder, and would write over its own tables alone.

    Args: cells: the folders of those that are to be measured.
    Raises: SweepError.
    """
    for path in (*reversed(folder.parents), folder, folder / CELLS, *cells):
        if (path.exists() or path.is_symlink()) and not is_folder(path):
            raise SweepError(
                f"the sweep cannot be written to {folder}",
                f"{path} is no folder",
                "Move it away, or name another out",
            )
    found = [n for n in FILES if (folder / n).exists() or (folder / n).is_symlink()]
    if found and not any(map(is_own_file, (folder / CELLS).glob(f"*/{CELL}"))):
        raise SweepError(
            f"{folder} holds {', '.join(found)}, and no sweep",
            "the tables of a sweep have such names, and would take the place of yours",
            "Move them away, or name another out",
        )
    if folders := [name for name in found if is_folder(folder / name)]:
        raise SweepError(
            f"the sweep cannot be written to {folder}",
            f"{folders[0]} in it is a folder, in the way of a table",
            "Move it away, or name another out",
        )


def failure_of(folder: Path) -> Failure | None:
    """Why the cell failed, if it did."""
    if not (folder / FAILED).is_file():
        return None
    try:
        told = read_mapping(folder / FAILED)
        expect(_FAILURE, told, name=FAILED)
    except Unfit as why:
        return Failure(f"{folder / FAILED} cannot be read: {why}")
    return Failure(told["line"], told["fault"])


def fail(folder: Path, failure: Failure, trace: str = "") -> None:
    """Keep why a cell failed, with the traceback of a fault of the program."""
    told = {"line": failure.line, "fault": failure.fault}
    write_json(folder / FAILED, told | ({"traceback": trace.splitlines()} if trace else {}))


def describe(folder: Path, cell: Cell, execution: Mapping[str, Any]) -> None:
    """Write what is to be measured in a folder."""
    about = {"format": FORMAT, "identity": cell.identity}
    write_json(folder / CELL, about | {"cell": cell.to_dict(), "execution": dict(execution)})


def described(folder: Path) -> tuple[Cell, dict[str, Any]]:
    """The cell of a folder, and how its pass is run.

    Raises: SweepError.
    """
    try:
        told = read_mapping(folder / CELL)
        with gate():
            if told["format"] != FORMAT:
                raise Unfit(f"it is of format {told['format']}, not {FORMAT}")
            cell = Cell.of(told["cell"])
            if cell.identity != told["identity"]:
                raise Unfit("it was edited")
            return cell, told["execution"]
    except Unfit as error:
        raise SweepError(
            f"{folder / CELL} cannot be read", str(error), "Run the sweep again"
        ) from error


@contextmanager
def alone(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder's lock, which the system lets go of when the process ends, however it does.

    Args: what: uses the folder, for messages.
    Raises: SweepError when another process holds it.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise SweepError(
            f"{what} in {folder} is at work already",
            "another process holds it",
            "Wait for it, or stop it",
        ) from error
    try:
        yield
    finally:
        lock.release()
