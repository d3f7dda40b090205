"""A training that is watched: when it is measured, what was found, and where it is logged."""

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Any

import pandas as pd
import torch

from whitebox_probe._core import launch
from whitebox_probe._core.arguments import expect, lone, whole
from whitebox_probe._core.errors import LoadWarning, ProbeError
from whitebox_probe._core.gate import named
from whitebox_probe._core.process import as_found
from whitebox_probe.models.guest import state
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.results.result import Result
from whitebox_probe.watching.pace import Pace
from whitebox_probe.watching.sinks import Sink, numbered
from whitebox_probe.watching.untouched import untouched


class WatchWarning(LoadWarning):
    """A measurement that failed; the training goes on."""


class Watcher:
    """A training that is watched; made by `watch`.

    Attributes: model: that is measured. pace: its `interval`, `step_seconds`, `cost` and `spent`.
    """

    def __init__(
        self,
        model: ProbeModel,
        name: str,
        measured: Callable[[], Result],
        places: Sequence[Sink],
        pace: Pace,
        first_step: int,
    ) -> None:
        self.model, self.name, self.pace = model, name, pace
        self._measured, self._places = measured, places
        self._results: dict[int, Result] = {}
        self._step = first_step
        self._running = False
        self._warned: set[str] = set()
        self._before: Result | None = self._timed()
        if pace.every is None:
            self._before = self._timed()  # a first pass prepares what later ones find
        self._state = state(model.module)

    def __repr__(self) -> str:
        """One line: the model, how often it is measured, and how often it was."""
        every = self.pace.interval or f"at most {self.pace.share:.0%} of the time"
        return f"Watcher('{self.name}', every={every}, measured={len(self._results)})"

    def start(self, step: int | None = None) -> "Watcher":
        """Log the model as it is, before the first step; `with` and a trainer do so by themselves.

        Raises: ProbeError where logs cannot be gone on with; SettingError as `step`.
        """
        if self._running:
            return self
        self._step = self._step if step is None else _whole(step)
        self._running = True
        if _first():
            if self._before is None or self._state != state(self.model.module):
                self._before = self._timed()
            self._results = {at: r for at, r in self._results.items() if at < self._step}
            for place in self._places:
                place.open(self._step)
            self._log(self._step, self._before)
        self._before = None
        self.pace.run()
        return self

    def step(self, step: int | None = None) -> bool:
        """Tell that the optimiser has made a step, the next one or that of this number.

        Returns: whether the model was measured after it.
        Raises: SettingError for what is no number of a step.
        """
        self.start()
        self._step = self._step + 1 if step is None else _whole(step)
        self.pace.step()
        due = _first() and self._step not in self._results and self.pace.due(self._step)
        if due:
            self._try(between=True)
        self.pace.run()
        return due

    def close(self, *, last: bool = True) -> None:
        """End: measure the model once more if its last step was not, and close the logs.

        Args: last: False leaves that out, as after an error.
        """
        if not self._running:
            return
        self._running = False
        if _first():
            if last and self._step not in self._results:
                self._try(between=False)
            for place in self._places:
                place.close()

    def __enter__(self) -> "Watcher":
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(last=kind is None)

    def results(self) -> list[Result]:
        """A result a step that was measured, called `NAME@STEP`, in their order."""
        return [self._results[step] for step in sorted(self._results)]

    @property
    def frame(self) -> pd.DataFrame:
        """The rows of all results, with the column `step`: what a CSV file holds."""
        tables = [numbered(step, self._results[step]) for step in sorted(self._results)]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def lightning_callback(self) -> Any:
        """A callback for Lightning's Trainer.

        Raises: MissingDependency.
        """
        from whitebox_probe.watching.callbacks import of_lightning

        return of_lightning(self)

    def transformers_callback(self) -> Any:
        """A callback for transformers' Trainer.

        Raises: MissingDependency.
        """
        from whitebox_probe.watching.callbacks import of_transformers

        return of_transformers(self)

    @as_found()
    def _timed(self, *, between: bool = False) -> Result:
        """The model as it is; how long that took is told to the pace."""
        device = self.model.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # the training's own work is not the measurement's
        start = time.perf_counter()
        with untouched(self.model.module, device):
            result = self._measured()
        self.pace.measured(time.perf_counter() - start, between=between)
        return result

    def _try(self, *, between: bool) -> None:
        """Measure and log; what fails is told once, and does not end the training."""
        try:
            result = self._timed(between=between)
        except (ProbeError, OSError) as error:
            self._warn(str(error))
            return
        except Exception as error:  # of a module that the training has changed: another shape, say
            self._warn(named(error))
            return
        try:
            self._log(self._step, result)
        except (ProbeError, OSError) as error:
            self._warn(str(error))

    def _warn(self, told: str) -> None:
        if told not in self._warned:
            self._warned.add(told)
            what = f"step {self._step} of {self.name} is not logged"
            warnings.warn(WatchWarning(what, told, "The training goes on"), stacklevel=4)

    @as_found()
    def _log(self, step: int, result: Result) -> None:
        named = f"{self.name}@{step}"
        result = replace(
            result, frame=result.frame.assign(model=named), run=replace(result.run, model=named)
        )
        self._results[step] = result
        for place in self._places:
            place.write(step, result)


def _whole(step: Any) -> int:
    """The number of a step, which a trainer may hold as a fraction or a tensor.

    Raises: SettingError for what is no whole number, or none that 64 bits hold.
    """
    with suppress(Exception):  # of a tensor that has no numbers: refused as what it is
        step = lone(step)
    step = int(step) if isinstance(step, float) and step.is_integer() else step
    return int(expect("step", step, whole(0), "it is the number of a training's step"))


def _first() -> bool:
    """Whether this process is the one that measures."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank() == 0
    return launch.rank() == 0
