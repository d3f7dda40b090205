"""`watch`: the measures of each layer while a model is trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from whitebox_probe._core.arguments import (
    Check,
    expect,
    expect_usual,
    finite,
    optional,
    truth,
    whole,
)
from whitebox_probe._core.errors import (
    BasisError,
    DataError,
    ProbeError,
    SiteError,
    nearest,
)
from whitebox_probe._core.process import as_found
from whitebox_probe.data.given import expected
from whitebox_probe.data.source import Batches, Source
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.wrappers import inside
from whitebox_probe.probing.forward import opened
from whitebox_probe.probing.plan import Plan, Wanted, planned
from whitebox_probe.probing.probe import Pass, as_model
from whitebox_probe.probing.settings import Execution, Settings
from whitebox_probe.results.result import Result
from whitebox_probe.watching.pace import SHARE, Pace
from whitebox_probe.watching.sinks import Sink, sinks
from whitebox_probe.watching.untouched import untouched
from whitebox_probe.watching.watcher import Watcher

MEASURES = ("compression", "coding_rate", "l0", "hoyer")
"""What is measured if nothing is named: rates by Cholesky factors, and sparsity."""
SAMPLES = 16
"""Of the data, drawn once: enough to see a layer change, and a small part of a training batch."""

To = str | Path | Sink | Callable[[int, Result], object]


@as_found()
def watch(
    model: ProbeModel | nn.Module,
    data: Any = None,
    *,
    every: int | None = None,
    metrics: Wanted | Sequence[Wanted] | None = None,
    to: To | Sequence[To] | None = None,
    limit: int = SAMPLES,
    share: float = SHARE,
    first_step: int = 0,
    resume: bool = False,
    name: str | None = None,
    sites: Mapping[str, str | Sequence[str]] | None = None,
    batch_size: int = 32,
    **settings: Any,
) -> "Watcher":
    """Measure the layers of a model while it is trained, and leave the training as it is.

    Call it when the model is ready to be trained: it measures the model at once, so that whatever
    does not fit is told before the first step. Then, in a loop of your own:

        with wp.watch(model, images, to="watch.csv") as watcher:
            for batch in loader:
                ...
                optimizer.step()
                watcher.step()
        wp.plots.over_steps(*watcher.results(), metric="l0")

    or as a callback of Lightning (`watcher.lightning_callback()`) or of transformers' Trainer
    (`watcher.transformers_callback()`). Weights, gradients, buffers, modes and random numbers are
    those of a training without it, bit for bit. Of several processes the first one measures.

    Args:
        model: that is trained: a module, or one from `wp.wrap` or `wp.load`.
        data: held out from the training, as for `probe`; the samples are drawn and prepared once.
        every: steps from one measurement to the next. Not given: as often as `share` allows, at
            multiples of 1, 2, 5, 10, 20, 50, ... steps, by the times that both take. It then
            depends on the machine: name it where trainings are to be compared.
        metrics: as for `probe`; of `MEASURES` those that the model has if not given.
        to: where each step is logged: a `.csv` file, `tensorboard` or `tensorboard:DIR`, a
            SummaryWriter, `wandb` or a run of it, a function of (step, Result), or several in a
            list. `watcher.results()` has them too.
        limit: how many samples.
        share: of the steps' time that measuring may take, if `every` is not given.
        first_step: the number of the state before the first `step()`, such as that of a checkpoint.
        resume: go on with logs that are there: rows from the first step on are replaced.
        name: what results are called, with the step behind it: `NAME@STEP`.
        sites, batch_size, settings: of `probe`, such as `convention`, `basis`, `eps` or `seed`.

    Raises: ProbeError as `probe` does, for no data, and for a place that nothing can be logged to;
        MissingDependency for a library that is not installed. A measurement that fails later is a
        `WatchWarning`, and the training goes on.
    """
    if data is None:
        raise DataError(
            "nothing says which data to watch",
            "layers are measured on samples",
            "Pass a few that are held out from the training, as in watch(model, images)",
        )
    expect_usual(name=name)
    expect("resume", resume, truth, "logs that are there are gone on with, or not")
    every = expect("every", every, *_PACE["every"])
    share = expect("share", share, *_PACE["share"])
    first_step = expect("first_step", first_step, *_PACE["first_step"])
    _check_settings(settings)
    places = sinks(to, resume=resume)
    found = expected(data)
    module = _module(model)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with untouched(module, device):  # what a trial leaves behind would be met in training
        whole = as_model(model)
    how = Settings.of(**{"basis": whole.default_basis, "limit": limit} | settings)
    execution = Execution.of(batch_size=batch_size, progress=False, distributed=False)
    plan = _planned(whole, metrics, how, sites)
    title = name or whole.name
    source = _held(
        opened(whole, found, limit=limit, seed=how.seed, on_error=how.on_error),
        execution.batch_size,
    )

    def measured() -> Result:
        return Pass(whole, found, plan, how, execution, None, title, source).result()

    return Watcher(whole, title, measured, places, Pace(every, share), first_step)


def _module(model: ProbeModel | nn.Module) -> nn.Module:
    """The module that is trained.

    Raises: ProbeError for anything else.
    """
    if isinstance(model, ProbeModel):
        return model.module
    if isinstance(model, nn.Module):
        return inside(model)
    raise ProbeError(
        f"a {type(model).__name__} cannot be watched",
        "it is no module that is trained",
        "Pass the module, or wp.wrap of it",
    )


def _check_settings(settings: Mapping[str, Any]) -> None:
    known = [each.name for each in fields(Settings) if each.name != "limit"]
    for name in settings:
        if name not in known:
            raise ProbeError(
                f"watch takes no '{name}'", "a probe has no such setting", nearest(name, known)
            )


def _share(value: Any) -> str:
    return "" if finite(value) == "" and value > 0 else "Use 0.02, say"


_PACE: dict[str, tuple[Check, str]] = {
    "every": (optional(whole(1)), "it is the number of steps from one measurement to the next"),
    "share": (_share, "it is the part of the steps' time that measuring may take"),
    "first_step": (whole(0), "it is the number of steps that the model was trained for"),
}


def _planned(
    model: ProbeModel,
    metrics: Wanted | Sequence[Wanted] | None,
    settings: Settings,
    sites: Mapping[str, str | Sequence[str]] | None,
) -> Plan:
    """What is measured each time; of `MEASURES`, those that the model has.

    Raises: ProbeError, as `probe` does.
    """
    if metrics is not None:
        return planned(model, metrics, settings, sites)
    having: list[str] = []
    for name in MEASURES:
        try:
            planned(model, [name], settings, {})
        except (SiteError, BasisError):
            continue
        having.append(name)
    return planned(model, having or list(MEASURES), settings, sites)


def _held(source: Source, batch_size: int) -> Source:
    """The same data, read and prepared once."""
    kept = list(source.batches(batch_size, 0))

    def batches(*_: Any, **__: Any) -> Batches:
        yield from kept

    return replace(source, batches=batches)
