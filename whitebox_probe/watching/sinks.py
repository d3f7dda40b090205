"""Where the measures of a training go: a CSV file, TensorBoard, Weights & Biases, a function."""

import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from whitebox_probe._core.arguments import LARGEST
from whitebox_probe._core.errors import MissingDependency, ProbeError, ResultError
from whitebox_probe._core.gate import Unfit, is_folder, size_of
from whitebox_probe._core.io import atomic_path
from whitebox_probe._core.lines import shown
from whitebox_probe.results.result import Result
from whitebox_probe.results.table import COLUMNS, keys_of

STEP = "step"
_NO_TAG = re.compile(r"[^\w.\-/]+")
_TENSORBOARD, _WANDB = "tensorboard", "wandb"
_ALL = "Use a .csv file, 'tensorboard', 'tensorboard:DIR', 'wandb', a writer, a run, or a function"


class Sink(ABC):
    """What is told of each step that was measured, by the first process alone."""

    def open(self, step: int) -> None:  # noqa: B027 - nothing to do, unless a place has something
        """Begin, or go on, from this step: none of it or behind it is in a log that is kept."""

    @abstractmethod
    def write(self, step: int, result: Result) -> None:
        """Log a step, so that it is not lost when the process is killed."""

    def close(self) -> None:  # noqa: B027
        """The training has ended."""


def sinks(to: Any, *, resume: bool) -> list[Sink]:
    """What stands for each place, checked before any work.

    Args: resume: whether logs that are there are gone on with.
    Raises: ProbeError for what is no place, or is there already; MissingDependency.
    """
    several = to if isinstance(to, list | tuple) else [] if to is None else [to]
    return [_sink(each, resume=resume) for each in several]


def _sink(to: Any, *, resume: bool) -> Sink:
    if isinstance(to, Sink):
        return to
    name, _, folder = to.partition(":") if isinstance(to, str) else ("", "", "")
    if name == _TENSORBOARD or hasattr(to, "add_scalar"):
        return TensorBoard(to if name == "" else folder or None, resume=resume)
    if to == _WANDB or (hasattr(to, "define_metric") and hasattr(to, "log")):
        return WeightsAndBiases(None if to == _WANDB else to)
    if isinstance(to, str | Path) and Path(to).suffix.lower() == ".csv":
        return Csv(Path(to), resume=resume)
    if callable(to):
        return Function(to)
    raise ProbeError(f"nothing is logged to {to!r}", "no such place is known", _ALL)


class Csv(Sink):
    """A table of all steps: the column `step`, then those of `Result.frame`.

    A step is added whole and brought to the disk; of one that was cut off, the rows are dropped
    when the log is gone on with.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path, self._first = path.absolute(), 0  # a training may change its folder
        self._going_on = resume
        self._ready = False
        if why := _no_place(path):
            raise ProbeError(
                f"nothing can be logged to {shown(str(path))}", why, "Name a file in a folder"
            )
        if path.exists() and not resume:
            raise ProbeError(
                f"{path} is there already",
                "it may be the log of another training",
                "Pass resume=True to go on with it, or name another file",
            )

    def open(self, step: int) -> None:
        """The first step whose rows are new."""
        self._first, self._ready = step, False

    def write(self, step: int, result: Result) -> None:
        """Add the rows of a step, or leave the log as it was, as on a full disk."""
        rows = numbered(step, result)
        rows["model"] = [shown(name, None) for name in rows["model"]]  # a row is one line
        if not self._ready:
            self._prepare(len(rows))
        left = memoryview(rows.to_csv(index=False, header=False, lineterminator="\n").encode())
        with self.path.open("ab", buffering=0) as file:  # no buffer is written as it is closed
            whole = file.seek(0, os.SEEK_END)
            try:
                while left:
                    left = left[file.write(left) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(whole)  # to half a row the next step would be joined
                raise
        self._ready = self._going_on = True

    def _prepare(self, count: int) -> None:
        """A file with the header, and of earlier steps the whole ones before the first new one.

        Raises: ResultError for a file that is no such log, or of other measures.
        """
        header = ",".join([STEP, *COLUMNS]) + "\n"
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        except UnicodeDecodeError as error:
            raise self._another("it is no text in UTF-8") from error
        lines = list(StringIO(text))  # other than splitlines, at line feeds alone
        if lines and lines[0] != header and not header.startswith(text):
            raise self._another("its columns are others")
        whole = [line for line in lines[1:] if line.endswith("\n")]
        steps = [line.partition(",")[0] for line in whole]
        if not all(map(_is_step, steps)):
            raise self._another("a row of it does not begin with a step")
        sizes = Counter(map(int, steps))
        last = int(steps[-1]) if steps else 0
        if any(n != count and not (at == last and n < count) for at, n in sizes.items()):
            raise self._another(f"a step has {count} rows, and some step of it has more or fewer")
        kept = [
            line
            for line, at in zip(whole, map(int, steps), strict=True)
            if at < self._first and sizes[at] == count
        ]
        if not text.startswith(header) or len(kept) + 1 < len(lines):
            with atomic_path(self.path) as path:
                path.write_text(header + "".join(kept), encoding="utf-8", newline="")

    def _another(self, why: str) -> ResultError:
        return ResultError(
            f"{self.path} cannot be gone on with",
            f"{why}: it is another log",
            "Name another file, or watch the same measures with the same settings",
        )


def _is_step(told: str) -> bool:
    """Whether a row begins with a step, of no more digits than are read."""
    return told.isdecimal() and len(told) <= len(str(LARGEST)) and int(told) <= LARGEST


def _no_place(path: Path) -> str:
    """Why no log can be kept at a path; empty if one can."""
    try:
        size_of(path)
    except Unfit as why:
        if not isinstance(why.__cause__, FileNotFoundError | NotADirectoryError):
            return str(why)
        return "" if is_folder(path.parent) else "its folder is not there"
    return ""


class TensorBoard(Sink):
    """Scalars `METRIC/layer_NN`, by torch's SummaryWriter.

    Args: to: a writer, which stays open; or a folder of events, torch's own choice if None.
    Raises: MissingDependency.
    """

    def __init__(self, to: Any, *, resume: bool) -> None:
        self._own = to is None or isinstance(to, str)
        self._folder: str | None = to if self._own else None
        self._writer: Any = None if self._own else to
        self._resume = resume
        if self._own:
            expect_library(_TENSORBOARD, "logging to TensorBoard")

    def open(self, step: int) -> None:
        """A writer; what an earlier run wrote at this step and behind it is hidden by it."""
        if self._own and self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            purge = step if self._resume else None
            self._writer = SummaryWriter(self._folder, purge_step=purge)
            self._resume = True

    def write(self, step: int, result: Result) -> None:
        """Add a scalar for each row, and flush them."""
        assert self._writer is not None, "it was opened"
        for name, value in scalars(result).items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the writer if it is our own."""
        if self._own and self._writer is not None:
            self._writer.close()
            self._writer = None


class WeightsAndBiases(Sink):
    """Values `METRIC/layer_NN` of a run of wandb, against `whitebox_probe/step` of their own.

    Args: run: of wandb, or None for the one that is under way when the training starts.
    Raises: MissingDependency.
    """

    _STEP = "whitebox_probe/step"

    def __init__(self, run: Any) -> None:
        self._run = run
        if run is None:
            expect_library(_WANDB, "logging to Weights & Biases")

    def open(self, step: int) -> None:
        """The run, whose own steps are left to the training.

        Raises: ProbeError when no run is under way.
        """
        if self._run is None:
            import wandb

            self._run = wandb.run
        if self._run is None:
            raise ProbeError(
                "no run of wandb is under way", "wandb.init was not called", "Call it first"
            )
        self._run.define_metric(self._STEP, hidden=True)
        self._run.define_metric("whitebox_probe/*", step_metric=self._STEP)

    def write(self, step: int, result: Result) -> None:
        """Log the values of a step together."""
        values = {f"whitebox_probe/{name}": value for name, value in scalars(result).items()}
        self._run.log({self._STEP: step} | values)


class Function(Sink):
    """A function of the user's, called with the step and its `Result`."""

    def __init__(self, call: Callable[[int, Result], object]) -> None:
        self._call = call

    def write(self, step: int, result: Result) -> None:
        """Call it."""
        self._call(step, result)


def numbered(step: int, result: Result) -> pd.DataFrame:
    """The frame of a step's result, with the step in front and the model without it."""
    frame = result.frame.assign(model=result.model.rpartition("@")[0] or result.model)
    frame.insert(0, STEP, step)
    return frame


def scalars(result: Result) -> dict[str, float]:
    """`METRIC/layer_NN` -> the mean of each row; a metric measured in several ways says which."""
    frame = result.frame
    names: dict[str, str] = {}
    keys = keys_of(frame)
    for metric, rows in frame.groupby("metric", sort=False):
        ways = {key.rpartition(":")[0] for key in keys[rows.index]}
        names |= {way: str(metric) if len(ways) == 1 else _tag(way) for way in ways}
    return {
        f"{names[key.rpartition(':')[0]]}/layer_{layer:02d}": float(mean)
        for key, layer, mean in zip(keys, frame["layer"], frame["mean"], strict=True)
    }


def _tag(way: str) -> str:
    """A name that TensorBoard takes: `compression[eps=0.5]@z_half` -> `compression_eps_0.5_z_half`.

    >>> _tag("compression[eps=0.5]@z_half")
    'compression_eps_0.5_z_half'
    """
    return _NO_TAG.sub("_", way).strip("_")


def expect_library(module: str, what: str) -> None:
    """Check that an optional library is installed, without importing it.

    Raises: MissingDependency.
    """
    if find_spec(module) is None:
        raise MissingDependency(
            f"{what} needs {module}",
            "it is not installed",
            f"Run: pip install 'whitebox-probe[{module}]'",
        )
