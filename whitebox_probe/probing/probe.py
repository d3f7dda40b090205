"""`probe`: one streaming pass of a model over data, every measure at every layer."""

import json
import platform
import time
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import closing, nullcontext
from datetime import datetime, timezone
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from whitebox_probe._core.arguments import expect_usual
from whitebox_probe._core.errors import DataError, LoadWarning
from whitebox_probe._core.lines import in_characters
from whitebox_probe._core.process import as_found
from whitebox_probe._core.progress import bar
from whitebox_probe._core.randomness import Draws
from whitebox_probe._core.versions import version_of
from whitebox_probe.data._digest import combined
from whitebox_probe.data._left_out import LeftOutWarning
from whitebox_probe.data.given import Data, expected
from whitebox_probe.data.source import Batch, Source, classed
from whitebox_probe.metrics._linalg import unguarded
from whitebox_probe.models.hooks import attach_taps
from whitebox_probe.models.model import ProbeModel, expect_model, read_once
from whitebox_probe.probing import null as nulls
from whitebox_probe.probing import outcome
from whitebox_probe.probing.bases import FITTED, Bases, bases_of
from whitebox_probe.probing.collector import Collector, Parts
from whitebox_probe.probing.fitting import Fit
from whitebox_probe.probing.forward import opened, ready, run_batch
from whitebox_probe.probing.identity import UNKNOWN, held, identity, spread
from whitebox_probe.probing.norms import norms_of
from whitebox_probe.probing.padding import left_padding
from whitebox_probe.probing.plan import Plan, Wanted, heads_site, planned
from whitebox_probe.probing.processes import Processes, current
from whitebox_probe.probing.settings import Execution, Settings
from whitebox_probe.probing.state import Saver, members_in, unread
from whitebox_probe.probing.table import Table
from whitebox_probe.results.forms import NULL_SEPARATOR
from whitebox_probe.results.result import Result, named_matrices
from whitebox_probe.results.run import Run
from whitebox_probe.results.table import tabulate

OneOrMore = float | Sequence[float]


@as_found()
def probe(
    model: ProbeModel | nn.Module | str,
    data: Any,
    metrics: Wanted | Sequence[Wanted] | None = None,
    *,
    sites: Mapping[str, str | Sequence[str]] | None = None,
    convention: str | Sequence[str] = "paper",
    basis: str | Sequence[str] | None = None,
    orthonormal: bool | Sequence[bool] = False,
    prenorm: bool | Sequence[bool] = True,
    class_token: bool | Sequence[bool] = True,
    eps: float | Sequence[float] = 0.1,
    lam: float | Sequence[float] = 0.1,
    null: str | Sequence[str | None] | None = None,
    fit_data: Any = None,
    fit_limit: int = 256,
    nonfinite: str = "raise",
    on_error: str = "stop",
    limit: int | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device | None = None,
    dtype: str = "float32",
    fast: bool = True,
    seed: int = 0,
    name: str | None = None,
    progress: bool = True,
    checkpoint: str | PathLike[str] | None = None,
    save_every: float = 60.0,
    distributed: bool = True,
) -> Result:
    """Measure every layer of a model on data, in one pass.

    Of `convention`, `basis`, `orthonormal`, `prenorm`, `class_token`, `eps`, `lam` and `null`
    several values may be given: each measure is then taken with each value that it depends on, in
    the same pass, and the table tells them apart by columns of these names.

    Args:
        model: from `wp.load` or `wp.wrap`; a checkpoint's name or a module is loaded or wrapped.
        data: a registry name, a path (a folder of images, a file, shards), a tensor or an array, a
            list, a mapping, a Dataset, a DataLoader, a Hugging Face dataset, or anything that can
            be iterated (docs/data.md); `wp.data` says which key or column is meant, and how texts
            become windows. Tokens that the samples' masks leave out are never measured.
        metrics: names from the catalogue, metric objects, or `Request`s, which have settings of
            their own; all default ones when not given.
        sites: metric name -> site or sites, to measure elsewhere than the convention's own site.
        convention: `paper` (the formulas on the named site) or `official` (the release's script).
        basis: which U; the model's default when not given (`native`, or `qkv:k`). Beside the
            model's own projections: `qk`, `pca`, `pca:clusters` and `random` (see `bases`).
        orthonormal: replace each U_k by an orthonormal basis of the same subspace (QR), as the
            formulas assume; the basis is then called `native+qr`. Learned projections are not
            orthonormal, and as they are R^c may exceed R.
        prenorm: take rates of the residual stream after the layer's own attention norm, which is
            what its projection is trained on. False: of the tokens as they are, whose norm then
            enters the rate. Sparsity and geometry are always of the tokens as they are.
        class_token: keep the tokens before the patches (class token, registers).
        eps: coding precision, squared in the formulas; several are taken from one eigenvalue
            decomposition.
        lam: the sparsity weight of the SRR.
        null: measure a null instead: `gaussian` (tokens of the same norms), `shuffled` (each
            feature in another order over the tokens) or `random_subspaces`; None among several
            stands for the model itself.
        fit_data, fit_limit: what the bases `pca` and `pca:clusters` are fitted on: samples of the
            same data that are not measured, unless other data are given.
        nonfinite: what to do with a sample whose features hold NaN or infinity: `raise`, or `drop`
            it from every measure and list it in `Result.run`.
        on_error: what to do with a sample that cannot be read: `stop`, or `skip` it and list it in
            `Result.run`. Of a folder, what was measured is kept all the same with `checkpoint`.
        limit: at most so many samples, drawn by `seed`.
        batch_size, workers: of the pass; no number depends on them.
        device: where the forward pass runs; where the model lies when not given.
        dtype: of the forward pass (autocast); measures are taken in float32 or better all the same.
        fast: on the CPU, run the model's linear maps through oneDNN, which takes half the time on
            AMD's processors and moves features by float32 rounding. False: as the model runs alone.
        seed: of the draw of samples, of nulls and random bases, and of the bootstrap.
        name: what tables and figures call this run; the model's name when not given.
        progress: show a progress bar, on a terminal or in a notebook.
        checkpoint, save_every: a folder where the pass is saved every so many seconds, and on
            Ctrl-C and SIGTERM. The same call goes on from there, and gives the same numbers to the
            last bit; a pass that is whole is not run again. The folder is yours to remove.
        distributed: where torch.distributed is set up, share the samples between its processes; all
            of them make this call and get the whole result. False: this one measures all samples.

    Returns: a `Result`.
    Raises: ProbeError for any input that does not fit, before the pass where it can be known;
        ProcessError when another process has ended, or a checkpoint is of another run;
        NonFiniteError, after the pass, if the features of a sample are not finite.
    """
    expect_usual(name=name)
    data, fit_data = expected(data), expected(fit_data)
    model = as_model(model)
    settings = Settings.of(
        convention=convention,
        basis=model.default_basis if basis is None else basis,
        orthonormal=orthonormal,
        prenorm=prenorm,
        class_token=class_token,
        eps=eps,
        lam=lam,
        null=null,
        limit=limit,
        fit_limit=fit_limit,
        nonfinite=nonfinite,
        on_error=on_error,
        dtype=dtype,
        fast=fast,
        seed=seed,
    )
    execution = Execution.of(
        batch_size=batch_size,
        workers=workers,
        device=device,
        progress=progress,
        checkpoint=checkpoint,
        save_every=save_every,
        distributed=distributed,
    )
    plan = planned(model, metrics, settings, sites)
    return Pass(model, data, plan, settings, execution, fit_data, name or model.name).result()


class Pass:
    """Plan, then measure, then the result: the parts of one call of `probe`.

    Args: title: what tables call the model. source: the data where they are open already.
    """

    def __init__(
        self,
        model: ProbeModel,
        data: Any,
        plan: Plan,
        settings: Settings,
        execution: Execution,
        fit_data: Any,
        title: str,
        source: Source | None = None,
    ) -> None:
        self.model, self.plan, self.title = model, plan, title
        self.settings, self.execution = settings, execution
        self.data, self.fit_data = data, fit_data
        self.source = source or opened(
            model,
            data,
            limit=settings.limit,
            seed=settings.seed,
            on_error=settings.on_error,
            before=None if execution.begin else members_in(execution.checkpoint),
        )
        self.processes = current(wanted=execution.distributed)
        self.processes.check(self.source)
        if plan.needs_labels:
            _check_labels(self.source)
        self.fit: dict[str, Any] | None = None
        self.drew = Draws.NONE
        self.device = torch.device("cpu")
        self.start = time.perf_counter()

    def result(self) -> Result:
        """Run the pass."""
        with ready(self.model, self.execution.device) as self.device:
            # Before any batch: a module may keep what it was last given, as an image's size.
            needed = self.execution.checkpoint is not None or self.processes.count > 1
            network = held(self.model.module) if needed else {}
            _tell_unknown(self.model, network.get(UNKNOWN, ()))
            _tell_kept(self.model, {m.class_token for m in self.plan.tokens})
            self.processes.agree(
                lambda: (
                    self._identity(network)
                    | spread(self.source, self.execution.workers, classes=self.plan.needs_labels)
                )
            )
            bases = self._bases()
            layers = self._layers(bases)
            collector = self._collector(layers)
            if self.plan.tokens:
                self._run(collector, network)
        return self._put_together(collector, bases, layers)

    def _identity(self, network: Mapping[str, Any]) -> dict[str, Any]:
        """Everything that a number of this pass depends on."""
        return identity(
            self.model,
            network,
            self.source,
            self.plan,
            self.settings,
            self.execution,
            self.device,
            self.fit,
        )

    def _content(self) -> dict[str, Any]:
        """What the samples of this process are, those that it has yet to measure among them."""
        if self.source.content is None:
            return {}
        share = self.processes
        found = self.source.content(self.execution.batch_size, first=share.rank, step=share.count)
        return {"samples' content": found}

    def _bases(self) -> Bases:
        """The subspaces of all measurements."""
        keys = self.plan.bases
        if not keys:
            return {}
        fit = Fit(
            self.model,
            self.data,
            self.fit_data,
            self.settings.fit_limit,
            self.source,
            self.execution.batch_size,
            self.device,
            self.settings.fast,
            self.settings.on_error,
        )
        found = bases_of(self.model, keys, seed=self.settings.seed, tokens=fit)
        if any(key.name in FITTED for key in keys):
            self.fit = fit.told()
        return self.processes.same(found)

    def _layers(self, bases: Bases) -> dict[int, Parts]:
        heads = {key: site for key in bases if (site := heads_site(self.model, key)) is not None}
        found = {}
        for n in range(1, self.model.layers + 1):
            layer = self.model.layer(n)
            here = {key: of[n].to(self.device) for key, of in bases.items()}
            norm, exact = (None, None) if layer.norm is None else norms_of(layer.norm)
            found[n] = Parts(here, heads, norm, exact, layer.operators, layer.causal)
        return found

    def _collector(self, layers: Mapping[int, Parts]) -> Collector:
        count = self.processes.samples(self.source, self.execution.batch_size)
        width = sum(m.per_sample for m in self.plan.tokens)
        return Collector(
            self.plan,
            layers,
            Table(width, self.model.layers, count),
            extra=self.model.extra_tokens,
            class_index=self.model.class_index,
            seed=self.settings.seed,
        )

    def _run(self, collector: Collector, network: Mapping[str, Any]) -> None:
        """All batches of this process, then what the others have measured."""
        saver = Saver(
            self.execution.checkpoint,
            self.execution.save_every,
            self.processes,
            collector,
            self.source,
            lambda: self._identity(network) | self._content(),
            self.execution.workers,
            self.execution.begin,
        )
        saver.restore(self.device)
        self.drew = forward(
            self.model,
            self.source,
            collector,
            self.plan.sites,
            saver,
            self.processes,
            self.execution,
            device=self.device,
            dtype=getattr(torch, self.settings.dtype),
            fast=self.settings.fast,
            seed=self.settings.seed,
        )
        _tell_draws(self.model, self.drew)
        saver.finish()
        self.processes.reduce(collector)
        if collector.table.used == 0:
            raise DataError(
                f"{self.source.name} gave no sample", "it is empty", "Pass data with samples"
            )
        self.source.expect_whole(collector.table.kept()[0], collector.skipped)
        _tell_skipped(self.source, collector.skipped)
        if self.plan.needs_labels:
            _tell_unclassed(self.source, collector.classes)

    def _put_together(
        self, collector: Collector, bases: Bases, layers: Mapping[int, Parts]
    ) -> Result:
        samples = outcome.samples(collector, self.settings.nonfinite)
        count = collector.table.used if self.plan.tokens else self.source.count or 0
        rows, matrices = outcome.streamed(collector, count)
        of_weights, more = outcome.weighed(self.plan, bases)
        ids, identities, _ = collector.table.kept()
        known = pd.Series(identities, index=pd.Index(ids, name="sample"), name="identity")
        known = known.sort_index().loc[samples.frame.index]
        frame = tabulate(
            model=self.title,
            rows=samples.rows,
            samples=samples.frame,
            numbers=[*of_weights, *rows],
            seed=self.settings.seed,
            contents=known.to_numpy(),
        )
        arrays, told = named_matrices([*more, *matrices])
        run = self._told(collector, bases, layers, samples, told)
        return Result(
            frame=frame,
            samples=samples.frame,
            matrices=arrays,
            run=run,
            identities=known,
        )

    def _told(
        self,
        collector: Collector,
        bases: Bases,
        layers: Mapping[int, Parts],
        samples: outcome.Samples,
        matrices: Mapping[str, Any],
    ) -> Run:
        """Where the result comes from."""
        model, s = self.model, self.model.dims
        own = [kind for kind in self.settings.null if kind is not None]
        is_null = NULL_SEPARATOR in self.title
        looks = [m.class_token for m in self.plan.tokens] or self.settings.class_token
        tokens = collector.tokens["all" if True in looks else "patches"]
        K, d, p = next((of[1].shape for of in bases.values()), (s.heads, s.dim, s.dim_head))
        settings = self.settings.told() | _several(self.plan)
        del settings["limit"], settings["fit_limit"]
        return Run(
            model=self.title,
            family=model.anatomy.name,
            checkpoint=_checkpoint(model),
            network=_network(model, layers) | _draws(self.drew) | _uneven(collector.tokens),
            preprocess=None if model.preprocess is None else model.preprocess.told(),
            data=self._data(collector),
            count=len(samples.frame) if samples.rows else self._count(collector),
            layers=s.layers,
            dim=d,
            heads=K,
            dim_head=p,
            tokens=tokens or s.tokens or 0,
            prefix=model.prefix_tokens,
            settings={
                "conventions": settings.pop("convention"),
                "bases": settings.pop("basis"),
                **settings,
                "metrics": list(dict.fromkeys(m.measure.name for m in self.plan)),
                "measurements": _measurements(self.plan),
                "sites": self.plan.places(),
                "fit": self.fit,
            },
            bounds=outcome.bounds(self.plan, bases, collector.tokens),
            measures=outcome.labels(self.plan),
            matrices=matrices,
            nonfinite=samples.dropped,
            labels=_labels(collector.classes) if self.plan.needs_labels else None,
            execution=self.execution.told(self.device, self.processes.count),
            seconds=round(time.perf_counter() - self.start, 3),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions=_versions(),
            null_of=self.title.partition(NULL_SEPARATOR)[0] if is_null else "",
            null_line=nulls.null_named(own[0]).line if len(own) == 1 else None,
        )

    def _count(self, collector: Collector) -> int:
        """How many samples were read; of weights alone none were, and all are meant."""
        return collector.table.used if self.plan.tokens else self.source.count or 0

    def _data(self, collector: Collector) -> dict[str, Any]:
        """What was measured, and what of it was left out."""
        ids, identities, _ = collector.table.kept()
        read = combined(ids, identities) or self.source.fingerprint  # of weights alone: not read
        left_out = {why: len(names) for why, names in self.source.left_out.items()}
        told: dict[str, Any] = {"name": self.source.name, "fingerprint": read}
        told["limit"] = self.settings.limit
        if self.plan.needs_labels:
            known = np.array([collector.classes[n] for n in ids.tolist()], dtype=np.int64)
            told["classes"] = combined(ids, known)
        skipped = [{"sample": n, "why": collector.skipped[n]} for n in sorted(collector.skipped)]
        told |= {"skipped": skipped} if skipped else {}
        chosen = self.data.choices.given() if isinstance(self.data, Data) else {}
        told |= {"read with": chosen} if chosen else {}
        return told | ({"left_out": left_out} if left_out else {})


class SkippedWarning(LoadWarning):
    """Samples that could not be read, and are not measured."""


def _tell_skipped(source: Source, skipped: Mapping[int, str]) -> None:
    if skipped:
        first = min(skipped)
        of = "" if source.count is None else f" of {source.count}"
        many = source.count is not None or len(skipped) > 1
        samples, are = ("samples", "are") if many else ("sample", "is")
        what = f"{len(skipped)}{of} {samples} of {source.name} {are} skipped"
        why = f"they cannot be read; the first one is sample {first}: {skipped[first]}"
        fix = "The others are measured, and run.json lists those that are not"
        warnings.warn(SkippedWarning(what, why, fix), stacklevel=2)


def _tell_unclassed(source: Source, classes: Mapping[int, int]) -> None:
    """Warn of samples whose label stands for no class, where classes are compared."""
    without = sorted(number for number, label in classes.items() if label < 0)
    if without:
        what = f"{len(without)} of {len(classes)} samples of {source.name} have no class"
        first = f"sample {without[0]} has {classes[without[0]]}"
        why = f"a label below 0 stands for none; {first}"
        fix = "They are left out of what compares classes, and of nothing else"
        warnings.warn(LeftOutWarning(what, why, fix), stacklevel=2)


class UnknownNetworkWarning(LoadWarning):
    """A network that hooks or functions change by what cannot be read."""


def _tell_unknown(model: ProbeModel, unknown: Sequence[str]) -> None:
    if unknown:
        what = f"whether {model.name} is the same network later or elsewhere is not known"
        fix = "A checkpoint of it cannot be gone on from; keep tensors and plain values in hooks"
        warnings.warn(UnknownNetworkWarning(what, unread(unknown), fix), stacklevel=2)


class KeptTokensWarning(LoadWarning):
    """Tokens before the patches that are asked to be left out, and are not known."""


def _tell_kept(model: ProbeModel, class_token: Set[bool | None]) -> None:
    if False in class_token and not model.anatomy.says_prefix:
        what = f"class_token=False leaves no token of {model.name} out"
        why = "which of its tokens stand before the patches was not said when it was mapped"
        fix = "Give wrap prefix_tokens=1, say, or 0 if there are none"
        warnings.warn(KeptTokensWarning(what, why, fix), stacklevel=2)


class DrawsWarning(LoadWarning):
    """A model that draws random numbers in evaluation mode."""


def _tell_draws(model: ProbeModel, drew: Draws) -> None:
    if Draws.UNSEEDED in drew:
        what = f"NumPy's or Python's random numbers were drawn while {model.name} was run"
        why = "other threads are at work, which share them: if the model drew, its numbers are not "
        why += "seeded, and another run gives others"
        fix = "Probe while no other thread is at work, or give the model a generator of its own"
        warnings.warn(DrawsWarning(what, why, fix), stacklevel=2)
    if Draws.SEEDED in drew:
        what = f"{model.name} draws random numbers in its forward pass"
        why = "its numbers depend on the seed, and on how samples are put into batches"
        fix = "Switch off what draws, such as a random mask, or compare several seeds"
        warnings.warn(DrawsWarning(what, why, fix), stacklevel=2)


def _draws(drew: Draws) -> dict[str, str]:
    """What a result tells of the random numbers in its pass."""
    if Draws.UNSEEDED in drew:
        return {"draws": "perhaps unseeded, beside other threads"}
    return {"draws": "seeded"} if drew else {}


def _uneven(tokens: Mapping[str, int]) -> dict[str, bool]:
    """What a result tells of layers that hold different numbers of tokens."""
    return {"tokens_change": True} if tokens["change"] else {}


def as_model(model: ProbeModel | nn.Module | str) -> ProbeModel:
    """A model to probe, from what stands for one.

    Raises: ProbeError for anything else.
    """
    if isinstance(model, nn.Module):
        from whitebox_probe.models.wrap import wrap

        return wrap(model)
    if isinstance(model, str | Path):
        from whitebox_probe.models.load import load

        return load(model)
    expect_model(model, ProbeModel, "what wp.load or wp.wrap gives, a module, or a name")
    return model


def _check_labels(source: Source) -> None:
    if not source.labelled:
        raise DataError(
            f"{source.name} has no labels",
            f"a class-wise measure is asked for{f', and {source.why}' if source.why else ''}",
            "Pass a Dataset of (input, label) pairs, a folder with one subfolder a class, "
            "or leave the measure out",
        )


def forward(
    model: ProbeModel,
    source: Source,
    collector: Collector,
    sites: Sequence[str],
    saver: Saver,
    processes: Processes,
    execution: Execution,
    *,
    device: torch.device,
    dtype: torch.dtype,
    fast: bool,
    seed: int,
) -> Draws:
    """Run the batches of this process through the model, and its tokens through the collector.

    Returns: what random numbers were drawn.
    """
    shown = bar(
        progress=execution.progress and processes.first,
        total=processes.samples(source, execution.batch_size),
        initial=collector.table.used,
        unit="sample",
        desc=model.name,
    )
    # This process' next batch among those of all: they are dealt out in turn.
    dealt = {"first": processes.rank + saver.batches * processes.count, "step": processes.count}
    autocast = nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)
    table, drew = collector.table, Draws.NONE
    every = range(1, model.layers + 1)
    with read_once():
        taps = [(site, n, model.tap(site, n)) for n in every for site in sites]
    read = source.batches(execution.batch_size, execution.workers, **dealt)
    with shown, autocast, saver.listening(), closing(read) as stream:
        for batch in saver.kept_on_error(classed(stream) if collector.needs_labels else stream):
            collector.skipped |= {n: in_characters(why) for n, why in batch.skipped.items()}
            if len(batch.ids) > 0:
                grid = model.grid(batch.inputs)
                left = left_padding(model, batch.inputs, batch.mask, batch.attended)
                collector.start(batch.ids, batch.labels, batch.mask, grid, left)
                table.open(batch.ids, batch.identities)
                with attach_taps(model.module, taps, collector.take):
                    drew |= _measure(model, batch, collector, sites, device, fast=fast, seed=seed)
                table.close(len(batch.ids))
            shown.update(len(batch.ids))
            if batch.ends:
                saver.after_batch()
    return drew


def _measure(
    model: ProbeModel,
    batch: Batch,
    collector: Collector,
    sites: Sequence[str],
    device: torch.device,
    *,
    fast: bool,
    seed: int,
) -> Draws:
    """One batch: on an accelerator the host waits for it once, when its values are brought.

    Returns: what random numbers were drawn.
    """
    waits = _waits(device)
    with unguarded() if waits else nullcontext():
        drew = run_batch(model, batch, device, sites, fast=fast, seed=seed)
    collector.check()
    if waits and not collector.table.fetch(len(batch.ids)):
        collector.restart()
        run_batch(model, batch, device, sites, fast=fast, seed=seed)
        collector.check()
        collector.table.fetch(len(batch.ids))
    return drew


def _waits(device: torch.device) -> bool:
    """Whether the host has to wait for a value of the device."""
    return device.type != "cpu"


def _measurements(plan: Plan) -> list[dict[str, Any]]:
    """Each measurement in plain values, NaN (a parameter that it does not have) left out."""
    return [{k: v for k, v in m.told().items() if v == v and v is not None} for m in plan]


def _labels(classes: Mapping[int, int]) -> dict[str, Any]:
    """The classes that class-wise measures used: how many, and how many samples of each.

    A label below 0 stands for none: those samples are counted apart.
    """
    counts = Counter(int(c) for c in classes.values())
    left_out = sum(counts.pop(c) for c in [c for c in counts if c < 0])
    told = {"classes": len(counts), "counts": {str(c): counts[c] for c in sorted(counts)}}
    return told | ({"left_out": left_out} if left_out else {})


def _several(plan: Plan) -> dict[str, list[Any]]:
    """Of what may have several values, those that were measured; requests have their own."""
    found: dict[str, dict[Any, None]] = {}
    for m in plan:
        row = m.row()
        told = {name: row[name] for name in ("convention", "prenorm", "class_token", "eps", "lam")}
        told |= {} if m.basis is None else {"basis": m.basis.name}
        told |= {} if m.basis is None else {"orthonormal": m.basis.orthonormal}
        for name, value in told.items():
            if value is not None and value != "" and value == value:
                found.setdefault(name, {})[value] = None
        found.setdefault("null", {})[m.null] = None
    return {name: list(values) for name, values in found.items()}


def _checkpoint(model: ProbeModel) -> dict[str, Any]:
    """Which file the weights are of, and what was trained from those of an initialisation."""
    entry = model.entry
    told = {"name": entry.name if entry else None, "sha256": model.sha256}
    return told | ({"initial_of": entry.initial_of} if entry and entry.initial_of else {})


def _network(model: ProbeModel, layers: Mapping[int, Parts]) -> dict[str, Any]:
    """How the network was built, and the constants of its steps, which no file of weights holds.

    `arch` is None for a wrapped module. A constant is one number, or one a layer that has it.
    """
    arch = None if model.entry is None else dict(model.entry.arch)
    told: dict[str, Any] = {"arch": json.loads(json.dumps(arch, default=str))}
    for name in ("eta", "lam"):
        values = [
            float(layer.operators[name]) for layer in layers.values() if name in layer.operators
        ]
        if values:
            told[name] = values[0] if len(set(values)) == 1 else values
    return told


def _versions() -> dict[str, str]:
    packages = ("whitebox-probe", "torch", "torchvision", "timm", "transformers", "numpy")
    return {"python": platform.python_version()} | {name: version_of(name) for name in packages}
