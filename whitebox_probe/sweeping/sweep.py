"""`sweep`: every cell of a file measured, or gone on with, and one table of them all."""

import fnmatch
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core import stopping
from whitebox_probe._core.arguments import expect, expect_usual, optional, path, text, truth, whole
from whitebox_probe._core.errors import SweepError
from whitebox_probe._core.gate import Unfit, given_path, read_json
from whitebox_probe._core.lines import shown
from whitebox_probe._core.process import as_found
from whitebox_probe.probing.settings import Execution
from whitebox_probe.results.folder import expect_room
from whitebox_probe.results.kinds import SWEEP
from whitebox_probe.sweeping import place, table
from whitebox_probe.sweeping._schema import MOST_THREADS
from whitebox_probe.sweeping.cell import CELLS, Cell
from whitebox_probe.sweeping.engine import Engine, Job, engine_named
from whitebox_probe.sweeping.file import checked, read
from whitebox_probe.sweeping.grid import cells_of
from whitebox_probe.sweeping.measure import NOTES

if TYPE_CHECKING:
    import pandas

    from whitebox_probe.results.result import Result
    from whitebox_probe.results.run import Run

Ended = Callable[["Done", int, int], None]
"""Called with a cell that is over, its number among those of this call, and how many they are."""


@dataclass(frozen=True)
class Done:
    """A cell, and how far it is.

    Attributes: state: `done`, `failed` (see `failure`), `begun` (stopped, and gone on with by the
        next call), `lost` (what ran it ended), or `to do`. notes: what was assumed of its model.
    """

    cell: Cell
    folder: Path
    state: place.State
    failure: place.Failure | None = None
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        return self.cell.name

    @cached_property
    def run(self) -> "Run | None":
        """Where its result comes from, once it is done."""
        from whitebox_probe.results.folder import read_seal
        from whitebox_probe.results.result import RUN
        from whitebox_probe.results.run import Run

        if self.state != "done":
            return None
        return Run.of(read_seal(self.folder, RUN, what="result", fix=""))

    def result(self) -> "Result":
        """What was measured.

        Raises: ResultError when it is not done.
        """
        from whitebox_probe.results.result import Result

        return Result.load(self.folder)


@dataclass(frozen=True)
class Sweep:
    """The cells of a sweep, in the order of its file.

    Attributes: folder: that holds `summary.csv`, `summary.parquet`, `cells.csv`, and a folder a
        cell in `cells/`. cells: each with its state.
    """

    folder: Path
    cells: tuple[Done, ...]

    def __repr__(self) -> str:
        """One line: the folder, and how many cells are in which state."""
        return f"Sweep('{self.folder}', {told_states(self.cells)})"

    @cached_property
    def frame(self) -> "pandas.DataFrame":
        """Every number of the cells that are done, with what varies: summary.parquet."""
        return table.of_numbers(self.cells)

    @cached_property
    def table(self) -> "pandas.DataFrame":
        """One row a cell: what varies, its state, samples, seconds, and why it failed."""
        return table.of_cells(self.cells)

    def results(self) -> "dict[str, Result]":
        """The results of the cells that are done, by name."""
        return {each.name: each.result() for each in self.cells if each.state == "done"}

    def _repr_html_(self) -> str:
        return self.table._repr_html_()  # type: ignore[operator]


@as_found()
def sweep(
    file: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    engine: str | None = None,
    workers: int | None = None,
    threads: int | None = None,
    only: str | None = None,
    retry_failed: bool = False,
    progress: bool = True,
    ended: Ended | None = None,
) -> Sweep:
    """Measure every combination of models, data and settings that a file names (docs/sweep.md).

    A cell that is done is not measured again, one that was stopped goes on, and one that failed
    leaves the others alone: the same call goes on with a sweep. A cell is told by all that its
    numbers depend on, files by what they hold; what the file calls it, and how it is run, may
    change.

    Args:
        file: a YAML file, or a mapping of the same. Relative paths in a file start at its folder.
        out: folder of the sweep, in place of the file's own.
        engine: `serial`, `ray` or `slurm`. workers: cells at a time. threads: of torch, for each.
        only: a pattern, such as `vit*`, of the cells' names; the others are left as they are.
        retry_failed: measure those that failed once more.
        progress: show a bar for the cell at hand, where the engine runs in this process.
        ended: called as each cell ends.

    Returns: a `Sweep` of all cells.
    Raises: SweepError for a file that cannot be followed, or a folder that another sweep is at
        work in, or that holds files of yours called as its tables are; ProbeError for a model, data
        or settings that are known to be wrong before a cell is begun; KeyboardInterrupt, once what
        was measured is saved.
    """
    from whitebox_probe.probing.state_files import forget

    expect_usual(progress=progress)
    expect("threads", threads, optional(whole(1, most=MOST_THREADS)), "of torch, in each cell")
    expect("workers", workers, optional(whole(1)), "so many cells are measured at a time")
    expect("engine", engine, optional(text), "it says what runs the cells")
    expect("only", only, optional(text), "it is a pattern of the cells' names")
    expect("retry_failed", retry_failed, truth, "those that failed are measured again, or not")
    plan = planned(file, out=out)
    how = engine_named(engine or plan.engine)
    options = plan.options.get(how.name, {})
    given = {"workers": workers or plan.workers, "threads": threads or plan.threads}
    job = Job(out=plan.sweep.folder, options=options, progress=progress, **given)
    how.expect(job)
    chosen = [each for each in plan.sweep.cells if fits(each, only)]
    if not chosen:
        raise SweepError(
            f"no cell's name is like '{only}'",
            f"they are {', '.join(each.name for each in plan.sweep.cells[:5])}, ...",
            "See them with --dry-run",
        )
    folder = plan.sweep.folder
    expect_room(folder, SWEEP)
    place.expect_room(folder, [each.folder for each in chosen])
    lost: dict[Path, str] = {}
    with place.alone(folder, "a sweep"), _stopping():
        # Looked at again: another sweep may have been at work until now.
        states = {each.folder: place.state_of(each.folder, each.cell) for each in chosen}
        again = ("begun", "to do", "failed") if retry_failed else ("begun", "to do")
        for each in (one for one in chosen if states[one.folder] == "done"):
            forget(each.folder)  # states of one that was killed behind its last step
        todo = [each for each in chosen if states[each.folder] in again]
        for each in todo:
            place.describe(each.folder, each.cell, plan.execution)
        try:
            with closing(_ends(how, todo, job)) as running:
                for number, (where, why) in enumerate(running, start=1):
                    each = next(one for one in todo if one.folder == where)
                    now = _now(each, why)
                    if now.state == "lost":
                        lost[where] = why
                    if ended is not None:
                        ended(now, number, len(todo))
        except KeyboardInterrupt as stop:
            found = _saved(folder, plan.sweep.cells, lost)
            how_many = f"{told_states(found.cells)}. The same call goes on"
            raise type(stop)(f"stopped: {how_many}") from stop
        return _saved(folder, plan.sweep.cells, lost)


@dataclass(frozen=True)
class Plan:
    """A file, read: its cells as they are now, and how they are to be run."""

    sweep: Sweep
    execution: Mapping[str, Any]
    engine: str
    workers: int | None
    threads: int | None
    options: Mapping[str, Mapping[str, Any]]


def planned(file: str | Path | Mapping[str, Any], *, out: str | Path | None = None) -> Plan:
    """What a sweep of a file would do; nothing is written.

    Raises: as `sweep` does.
    """
    expect("out", out, optional(path), "the sweep is written there")
    if isinstance(file, Mapping):
        document, base = checked(file, "the sweep"), Path.cwd()
    else:
        expect("file", file, path, "it says what is measured")
        document, base = read(file), Path(file).absolute().parent
    if out is None and "out" not in document:
        raise SweepError("no folder is named", "a sweep writes one", "Add out: DIR, or pass out=")
    # As on the command line, a folder that is passed starts at the working directory.
    where = document["out"] if out is None else out
    try:
        folder = base / given_path(where) if out is None else given_path(where)
    except Unfit as why:
        told = f"the sweep cannot be written to {shown(str(where))}"
        raise SweepError(told, str(why), "Name another folder") from why
    execution = document.get("execution", {})
    Execution.of(**execution)
    cells = cells_of(document, base)
    of_each = [Done(cell, cell.folder(folder), "to do") for cell in cells]
    return Plan(
        sweep=Sweep(folder, tuple(_now(each) for each in of_each)),
        execution=execution,
        engine=document.get("engine", "serial"),
        workers=document.get("workers"),
        threads=document.get("threads"),
        options={name: document[name] for name in ("ray", "slurm") if name in document},
    )


def _ends(how: Engine, todo: Sequence[Done], job: Job) -> Generator[tuple[Path, str], None, None]:
    """Each cell as it ends; for none, no engine is started."""
    if todo:
        yield from how.run([each.folder for each in todo], job)


def fits(each: Done, only: str | None) -> bool:
    """Whether a pattern is like a cell's name, or that of its folder."""
    return only is None or any(
        fnmatch.fnmatchcase(name, only) for name in (each.name, each.folder.name)
    )


def told_states(cells: Sequence[Done]) -> str:
    """How many cells are in which state.

    >>> told_states([])
    '0 cells'
    """
    states = [each.state for each in cells]
    parts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return f"{len(cells)} cell{'s' * (len(cells) != 1)}{': ' * bool(parts)}{', '.join(parts)}"


def others_in(found: Sweep) -> int:
    """How many folders of cells are of an earlier file, or of files that have changed."""
    mine = {each.folder for each in found.cells}
    folders = (found.folder / CELLS).glob("*")
    return sum(folder not in mine for folder in folders if folder.is_dir())


def _now(each: Done, why: str = "") -> Done:
    """A cell as its folder tells; one without a result is lost where there is a reason."""
    state = place.state_of(each.folder, each.cell)
    failure = place.failure_of(each.folder) if state == "failed" else None
    if why and state not in ("done", "failed"):
        state, failure = "lost", place.Failure(why)
    try:
        notes = tuple(map(str, read_json(each.folder / NOTES)))
    except (Unfit, OSError, TypeError):
        notes = ()
    return replace(each, state=state, failure=failure, notes=notes)


def _saved(folder: Path, cells: Sequence[Done], lost: Mapping[Path, str]) -> Sweep:
    found = tuple(_now(each, lost.get(each.folder, "")) for each in cells)
    table.save(folder, found)
    return Sweep(folder, found)


@contextmanager
def _stopping() -> Iterator[None]:
    """SIGTERM as Ctrl-C, so that what runs is stopped in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        stopping.note(signal.SIGTERM)
        raise stopping.Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
