"""One cell measured in its folder: what every engine runs, in this process or in another."""

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import LoadWarning, ProbeError, ProcessError
from whitebox_probe._core.io import is_full, write_json
from whitebox_probe._core.memory import is_lack
from whitebox_probe.sweeping.cell import Cell
from whitebox_probe.sweeping.place import FAILED, MARK, Failure, alone, described, fail

if TYPE_CHECKING:
    from whitebox_probe.results.result import Result

NOTES = "notes.json"
_MEMORY = "out of memory: a batch did not fit. Use a smaller batch_size or limit."


def measure(folder: Path, *, threads: int | None = None, progress: bool = False) -> None:
    """Measure the cell that a folder describes, from where it was stopped; keep why if it fails.

    Args: threads: of torch, while it is measured; as many as it has if not given.
    Raises: KeyboardInterrupt, once what was measured is saved; SweepError when another process is
        at it; OSError when nothing can be written.
    """
    with alone(folder, "a cell"), _threads(threads), _noted() as notes:
        (folder / FAILED).unlink(missing_ok=True)
        (folder / NOTES).unlink(missing_ok=True)
        try:
            _measure(folder, notes, progress=progress)
        except ProbeError as error:
            if is_full(error.__cause__):
                raise error.__cause__ from None
            fail(folder, Failure(str(error)))
        except Exception as error:  # the others go on; the traceback is kept
            if is_full(error):
                raise  # nor is there room for theirs, or to say so
            full = is_lack(error)
            told = " ".join(str(error).split())
            line = _MEMORY if full else f"{type(error).__name__}: {told}"
            trace = "" if full else traceback.format_exc()
            fail(folder, Failure(line, fault=not full), trace)
        if notes:
            write_json(folder / NOTES, notes)


def _measure(folder: Path, notes: list[str], *, progress: bool) -> None:
    from whitebox_probe.probing.state_files import forget, states_in

    cell, execution = described(folder)
    execution["progress"] = progress
    try:
        result = _probed(cell, folder, execution)
    except ProcessError as error:
        if not states_in(folder):
            raise
        # What was begun with another version, or in other batches, cannot be gone on with.
        notes.append(f"begun anew: {error}")
        forget(folder)
        result = _probed(cell, folder, execution)
    marked = {**result.run.execution, MARK: cell.identity}  # a folder's name can be changed
    replace(result, run=replace(result.run, execution=marked)).save(folder)
    forget(folder)


def _probed(cell: Cell, folder: Path, execution: dict[str, Any]) -> "Result":
    """The same calls that `whitebox-probe run` makes of the same settings."""
    from whitebox_probe.data.given import data
    from whitebox_probe.models.load import load
    from whitebox_probe.probing.probe import probe

    model = {k: v for k, v in cell.model.items() if k not in ("model", "name", "set")}
    said = {k: v for k, v in cell.data.items() if k not in ("data", "name")}
    found = data(cell.data["data"], **said) if said else cell.data["data"]
    settings = {k: v for k, v in cell.settings.items() if k != "basis" or v != [None]}
    return probe(
        load(cell.model["model"], progress=False, **model, **cell.model.get("set", {})),
        found,
        cell.metrics,
        sites=cell.sites,
        name=cell.name,
        checkpoint=None if cell.data.get("stream") else folder,
        distributed=False,
        **settings,
        **execution,
    )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _noted() -> Iterator[list[str]]:
    """What should be known of a checkpoint or of data, as lines; other warnings are shown."""
    notes: list[str] = []

    def tell(message: Warning | str, *rest: Any, **more: Any) -> None:
        if isinstance(message, LoadWarning):
            notes.append(str(message))
        else:
            shown(message, *rest, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", LoadWarning)
        shown = warnings.showwarning
        warnings.showwarning = tell
        yield notes
