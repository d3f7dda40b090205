"""The folder of a cell: what is to be done there, how far it is, and who is at it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from whitebox_probe._core.errors import ResultError, SweepError
from whitebox_probe._core.gate import Unfit, expect, read_mapping
from whitebox_probe._core.io import write_json
from whitebox_probe.probing.state_files import CELL, states_in
from whitebox_probe.results.folder import finish, read_seal
from whitebox_probe.results.result import RUN
from whitebox_probe.sweeping.cell import Cell

FAILED, LOCK = "failed.json", ".lock"
FORMAT = 1
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


def state_of(folder: Path) -> State:
    """How far the cell of a folder is; a result that is not whole is none."""
    with suppress(OSError):  # what is not there is measured again
        finish(folder)
    if (folder / RUN).is_file():
        try:
            read_seal(folder, RUN, what="result", fix="")
        except ResultError:
            return "to do"
        return "done"
    if (folder / FAILED).is_file():
        return "failed"
    return "begun" if states_in(folder) else "to do"


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
        if told["format"] != FORMAT:
            raise ValueError(f"format {told['format']}, not {FORMAT}")
        cell = Cell.of(told["cell"])
        if cell.identity != told["identity"]:
            raise ValueError("it was edited")
        return cell, told["execution"]
    except (Unfit, OSError, ValueError, KeyError, TypeError) as error:
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
