"""`probe`: one streaming pass of a model over data, every measure at every layer."""

import copy
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe.data.images import Transform
from whitebox_probe.data.source import Source, open_data
from whitebox_probe.data.text import TextReader
from whitebox_probe.metrics._linalg import orthonormalise, unguarded
from whitebox_probe.metrics.measure import (
    CONVENTIONS,
    HEADS,
    DatasetMetric,
    Kind,
    SampleMetric,
    WeightMetric,
    catalogue,
    metric_named,
)
from whitebox_probe.models.family import ProbeModel
from whitebox_probe.probing import bases as basis_names
from whitebox_probe.probing import outcome as _outcome
from whitebox_probe.probing.collector import (
    NULLS,
    Collector,
    Layer,
    Measurement,
    Table,
    plan,
    ready,
    run_model,
    transform_of,
)
from whitebox_probe.probing.processes import Processes, current
from whitebox_probe.probing.recorder import attach
from whitebox_probe.probing.state import Saver, constants, described, digest
from whitebox_probe.results.forms import NULL_SEPARATOR
from whitebox_probe.results.result import Result
from whitebox_probe.results.run import Run
from whitebox_probe.results.table import tabulate

Metrics = Sequence[str | SampleMetric | DatasetMetric | WeightMetric]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class _Settings:
    """Everything that a number depends on, besides model and data."""

    convention: str
    basis: str
    orthonormal: bool
    prenorm: bool
    class_token: bool
    eps: tuple[float, ...]
    lam: float
    null: str | None
    seed: int
    dtype: str
    nonfinite: str
    fast: bool


def probe(
    model: ProbeModel,
    data: Any,
    metrics: Metrics | None = None,
    *,
    sites: Mapping[str, str | Sequence[str]] | None = None,
    convention: str = "paper",
    basis: str | None = None,
    orthonormal: bool = False,
    prenorm: bool = True,
    class_token: bool = True,
    eps: float | Sequence[float] = 0.1,
    lam: float = 0.1,
    null: str | None = None,
    fit_data: Any = None,
    fit_limit: int = 256,
    nonfinite: str = "raise",
    limit: int | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device | None = None,
    dtype: str = "float32",
    fast: bool = True,
    seed: int = 0,
    name: str | None = None,
    progress: bool = True,
    checkpoint: str | Path | None = None,
    save_every: float = 60.0,
    distributed: bool = True,
) -> Result:
    """Measure every layer of a model on data, in one pass.

    Args:
        model: from `wp.load` or `wp.wrap`.
        data: a registry name, a folder of images, a tensor of inputs, a Dataset or a DataLoader;
            for a language model also a .txt file, a Hugging Face dataset with a column `text`, or
            `TextWindows`. Tokens that the samples' masks leave out are never measured.
        metrics: names from the catalogue, or metric objects; all default ones when not given.
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
        eps: coding precision, squared in the formulas; several give rows each, from the same
            eigenvalues.
        lam: the sparsity weight of the SRR.
        null: measure a null instead: `gaussian` (tokens of the same norms), `shuffled` (each
            feature in another order over the tokens) or `random_subspaces`.
        fit_data, fit_limit: what the bases `pca` and `pca:clusters` are fitted on: samples of the
            same data that are not measured, unless other data are given.
        nonfinite: what to do with a sample whose features hold NaN or infinity: `raise`, or `drop`
            it from every measure and list it in `Result.run`.
        limit: at most so many samples, drawn by `seed`.
        batch_size, workers: of the pass; no number depends on them.
        device: where the forward pass runs; where the model lies when not given.
        dtype: of the forward pass (autocast); measures are taken in float32 or better all the same.
        fast: on the CPU, run the model's linear maps through oneDNN, which takes half the time on
            AMD's processors and moves features by float32 rounding. False: as the model runs alone.
        seed: of the draw of samples, of nulls and random bases, and of the bootstrap.
        name: what tables and figures call this run; the model's name when not given.
        progress: show a progress bar on a terminal.
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
    several = tuple(float(e) for e in eps) if isinstance(eps, Sequence) else (float(eps),)
    settings = _Settings(
        convention=convention,
        basis=model.default_basis if basis is None else basis,
        orthonormal=orthonormal,
        prenorm=prenorm and convention == "paper",
        class_token=class_token,
        eps=several,
        lam=lam,
        null=null,
        seed=seed,
        dtype=dtype,
        nonfinite=nonfinite,
        fast=fast,
    )
    _check(settings, batch_size)
    takers, weighers = _resolve(metrics, settings)
    measurements = plan(takers, sites or {}, convention, model)
    transform = transform_of(model.preprocess)
    source = open_data(data, transform=transform, limit=limit, seed=seed)
    processes = current(wanted=distributed)
    processes.check(source)
    if any(isinstance(m.metric, DatasetMetric) and m.metric.needs_labels for m in measurements):
        _check_labels(source)

    start = time.perf_counter()
    # Before any forward pass: a module may keep what it was last given, such as an image's size.
    network = {} if checkpoint is None else constants(model.module)
    with ready(model, device) as where:
        needs_basis = bool(weighers) or any(m.metric.needs_basis for m in measurements)
        heads_site = _heads_site(model, settings)
        if heads_site is None and any(HEADS in m.needs for m in measurements):
            needs_basis = True
        bases: dict[int, Tensor] = {}
        fit = _Fit(model, data, fit_data, fit_limit, source, transform, batch_size, where, fast)
        if needs_basis:
            bases = processes.same(_bases(model, settings, fit))
        layers = _layers(model, settings, bases, where)
        count = processes.samples(source, batch_size)
        table = Table(sum(m.per_sample for m in measurements), model.layers, count)
        collector = Collector(
            measurements,
            layers,
            heads_site,
            table,
            prefix=model.family.prefix_tokens(model.module),
            drop_prefix=not class_token,
            spectral=len(several) > 1,
            null=null,
            seed=seed,
        )
        if measurements:
            saver = Saver(
                None if checkpoint is None else Path(checkpoint),
                save_every,
                processes,
                collector,
                source,
                lambda: _identity(
                    model, network, source, measurements, settings, limit, batch_size, where, fit
                ),
            )
            _forward(
                model,
                source,
                collector,
                where,
                saver,
                processes,
                batch_size=batch_size,
                workers=workers,
                dtype=DTYPES[dtype],
                fast=fast,
                progress=progress,
            )
    samples, dropped = _outcome.samples(collector, heads_site, nonfinite)
    numbers, matrices = _outcome.weighed(weighers, bases)
    streamed, more = _outcome.streamed(collector)
    title = name or model.name
    s = model.dims
    tokens = collector.tokens or (s.tokens or 0)
    label = f"{settings.basis}+qr" if orthonormal else settings.basis
    asked: dict[str, Any] = {"convention": convention, "basis": label, "null": null or ""}
    asked |= {"prenorm": settings.prenorm, "class_token": class_token}
    frame = tabulate(
        model=title,
        rows=_outcome.rows(collector, heads_site, asked),
        samples=samples,
        numbers=_outcome.numbers(numbers, streamed, asked, source.count or len(samples)),
        seed=seed,
    )
    columns = _outcome.names(frame, _outcome.rows(collector, heads_site, asked))
    matrices |= more
    run = Run(
        model=title,
        family=model.family.name,
        checkpoint={"name": model.entry.name if model.entry else None, "sha256": model.sha256},
        network=_network(model, layers),
        preprocess=None if model.preprocess is None else asdict(model.preprocess),
        data={"name": source.name, "fingerprint": source.fingerprint, "limit": limit},
        count=len(samples) if samples.shape[1] else (source.count or 0),
        layers=s.layers,
        dim=s.dim,
        heads=s.heads,
        dim_head=s.dim_head,
        tokens=tokens,
        settings={
            "conventions": [convention],
            "bases": [settings.basis],
            "orthonormal": [orthonormal],
            "prenorm": [settings.prenorm],
            "class_token": [class_token],
            "eps": list(several),
            "lam": [lam],
            "null": [null],
            "metrics": list(dict.fromkeys(m.name for m in (*takers, *weighers))),
            "sites": {k: v if isinstance(v, str) else list(v) for k, v in (sites or {}).items()},
            "seed": seed,
            "dtype": dtype,
            "fast": fast,
            "nonfinite": nonfinite,
            "fit": {"limit": fit_limit} if settings.basis in basis_names.FITTED else None,
        },
        bounds=_outcome.bounds(s, tokens, convention, several),
        measures=_outcome.labels([*takers, *weighers]),
        matrices={key: {"name": key, "basis": label} for key in matrices},
        nonfinite=dropped,
        execution={"batch_size": batch_size, "device": str(where), "processes": processes.count},
        seconds=round(time.perf_counter() - start, 3),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        versions=_versions(),
        null_of=title.partition(NULL_SEPARATOR)[0] if NULL_SEPARATOR in title else "",
    )
    samples = samples.rename(columns=columns)
    return Result(frame=frame, samples=samples, matrices=matrices, run=run)


def _check(s: _Settings, batch_size: int) -> None:
    choices = {
        "convention": (s.convention, CONVENTIONS, "it says how tokens enter the formulas"),
        "dtype": (s.dtype, tuple(DTYPES), "it is the precision of the forward pass"),
        "null": (s.null, (*NULLS, None), "it says what stands in for the tokens"),
        "nonfinite": (s.nonfinite, ("raise", "drop"), "it says what becomes of such samples"),
    }
    for what, (value, allowed, why) in choices.items():
        if value not in allowed:
            raise ProbeError(
                f"unknown {what} '{value}'", why, f"Use one of: {', '.join(map(str, allowed))}"
            )
    for eps in s.eps:
        if not 0 < eps < float("inf"):
            raise ProbeError(f"eps is {eps}", "the coding precision is positive", "Use 0.1, say")
    if not s.eps or len({f"{eps:g}" for eps in s.eps}) < len(s.eps):
        raise ProbeError(
            f"eps is {list(s.eps)}",
            "six digits name a measure, each once",
            "Name different values",
        )
    if batch_size < 1:
        raise ProbeError(
            f"batch_size is {batch_size}", "a batch holds samples", "Use a batch size of 1 or more"
        )


def _resolve(
    metrics: Metrics | None, s: _Settings
) -> tuple[list[SampleMetric | DatasetMetric], list[WeightMetric]]:
    """Metric objects from names; all default ones that the convention has when none is named."""
    if metrics is None:
        metrics = [
            name
            for name, kind in catalogue().items()
            if kind.default and (issubclass(kind, WeightMetric) or s.convention in kind.site)
        ]
    if isinstance(metrics, str):
        metrics = [metrics]
    takers: list[SampleMetric | DatasetMetric] = []
    weighers: list[WeightMetric] = []
    for metric in metrics:
        made = _made(metric_named(metric), s) if isinstance(metric, str) else [metric]
        for each in made:
            if isinstance(each, WeightMetric):
                weighers.append(each)
            else:
                takers.append(each)
    if not takers and not weighers:
        raise ProbeError(
            "no metric is named",
            "there is nothing to measure",
            f"Name some of: {', '.join(catalogue())}",
        )
    return takers, weighers


def _made(kind: Kind, s: _Settings) -> list[Any]:
    """The metric of a name; one for each eps, named with it, if there are several."""
    if issubclass(kind, WeightMetric):
        return [kind()]
    wanted = kind.__init__.__kwdefaults__ or {}
    options: dict[str, Any] = {"lam": s.lam} if "lam" in wanted else {}
    if "eps" not in wanted:
        return [kind(convention=s.convention, **options)]
    return [kind(convention=s.convention, eps=eps, **options) for eps in s.eps]


def _check_labels(source: Source) -> None:
    if not source.labelled:
        raise DataError(
            f"{source.name} has no labels",
            "a class-wise measure is asked for",
            "Pass a Dataset of (input, label) pairs, a folder with one subfolder a class, "
            "or leave the measure out",
        )


def _heads_site(model: ProbeModel, s: _Settings) -> str | None:
    """The site where the model itself projects to this basis; None when it does not."""
    own = s.basis in model.bases and not s.orthonormal and s.null != "random_subspaces"
    return model.family.official_site(s.basis) if own else None


@dataclass(frozen=True)
class _Fit:
    """Where the tokens of a fitted basis come from: samples that are not measured."""

    model: ProbeModel
    data: Any
    fit_data: Any
    limit: int
    measured: Source
    transform: Transform | TextReader | None
    batch_size: int
    device: torch.device
    fast: bool

    def __call__(self, site: str) -> Iterator[tuple[int, Tensor]]:
        """(layer, tokens) of the fitting samples."""
        same = self.fit_data is None
        source = open_data(
            self.data if same else self.fit_data,
            transform=self.transform,
            limit=self.limit,
            seed=1,
            without=self.measured.numbers if same else (),
        )
        batch: list[tuple[int, Tensor]] = []
        layers = range(1, self.model.layers + 1)

        def keep(_: str, layer: int, tensor: Tensor) -> None:
            batch.append((layer, tensor.clone()))

        with torch.inference_mode(), attach(self.model, [site], layers, keep):
            for item in source.batches(self.batch_size, 0):
                run_model(self.model, item.inputs.to(self.device), fast=self.fast)
                yield from batch
                batch.clear()


def _bases(model: ProbeModel, s: _Settings, fit: _Fit) -> dict[int, Tensor]:
    if s.null == "random_subspaces":
        return basis_names.random_bases(model, seed=s.seed)
    found = basis_names.bases_of(model, s.basis, seed=s.seed, tokens=fit)
    return {n: orthonormalise(U) for n, U in found.items()} if s.orthonormal else found


def _layers(
    model: ProbeModel, s: _Settings, bases: Mapping[int, Tensor], device: torch.device
) -> dict[int, Layer]:
    found = {}
    for n in range(1, model.layers + 1):
        U = bases.get(n)
        norm = model.family.prenorm(model.module, n) if s.prenorm else None
        found[n] = Layer(
            U=None if U is None else U.to(device),
            norm=None if norm is None else _in_its_precision(norm),
            operators=model.family.operators(model.module, n),
        )
    return found


def _in_its_precision(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    """A norm as a function of float32 tokens: of a half-precision model a copy in float32."""
    own = next((parameter.dtype for parameter in norm.parameters()), None)
    if own in (torch.bfloat16, torch.float16):
        norm, own = copy.deepcopy(norm).float(), torch.float32
    # forward, not the module itself: its hooks may be ours, and would call themselves.
    return lambda Z: norm.forward(Z if own is None else Z.to(own))


def _forward(
    model: ProbeModel,
    source: Source,
    collector: Collector,
    device: torch.device,
    saver: Saver,
    processes: Processes,
    *,
    batch_size: int,
    workers: int,
    dtype: torch.dtype,
    fast: bool,
    progress: bool,
) -> None:
    """Run the pass."""
    from tqdm.auto import tqdm

    wanted = {site for m in collector.plan for site in m.needs}
    if HEADS in wanted:
        wanted = (wanted - {HEADS}) | {collector.heads_site or "attn_in"}
    saver.restore(device)
    bar = tqdm(
        total=processes.samples(source, batch_size),
        initial=collector.table.used,
        unit="sample",
        desc=model.name,
        disable=None if progress and processes.first else True,
    )
    # This process' next batch among those of all: they are dealt out in turn.
    dealt = {"first": processes.rank + saver.batches * processes.count, "step": processes.count}
    autocast = nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)
    table = collector.table
    with bar, torch.inference_mode(), autocast, saver.listening():
        with attach(model, sorted(wanted), range(1, model.layers + 1), collector.take):
            for batch in source.batches(batch_size, workers, **dealt):
                collector.start(batch.ids, batch.labels, batch.mask)
                table.open(batch.ids)
                _measure(model, batch.inputs.to(device, non_blocking=True), collector, fast=fast)
                table.close(len(batch.ids))
                bar.update(len(batch.ids))
                saver.after_batch()
    saver.finish()
    processes.reduce(collector, source.count or 0)
    if table.used == 0:
        raise DataError(f"{source.name} gave no sample", "it is empty", "Pass data with samples")


def _measure(model: ProbeModel, inputs: Tensor, collector: Collector, *, fast: bool) -> None:
    """One batch: on an accelerator the host waits for it once, when its values are brought."""
    waits = _waits(inputs.device)
    with unguarded() if waits else nullcontext():
        run_model(model, inputs, fast=fast)
    collector.check()
    if waits and not collector.table.fetch(len(inputs)):
        collector.restart()
        run_model(model, inputs, fast=fast)
        collector.check()
        collector.table.fetch(len(inputs))


def _waits(device: torch.device) -> bool:
    """Whether the host has to wait for a value of the device."""
    return device.type != "cpu"


def _identity(
    model: ProbeModel,
    network: Mapping[str, Any],
    source: Source,
    measurements: Sequence[Measurement],
    settings: _Settings,
    limit: int | None,
    batch_size: int,
    device: torch.device,
    fit: _Fit,
) -> dict[str, Any]:
    """What has to be the same for a pass to go on, by the name that a user knows it by."""
    kept = {
        "weights": digest(model.module),
        **network,
        "family": [model.family.name, asdict(model.dims)],
        "preprocess": None if model.preprocess is None else asdict(model.preprocess),
        "data": [source.name, source.fingerprint],
        "limit": limit,
        **asdict(settings),
        "metrics": [described(m.metric) for m in measurements],
        "sites": [m.site for m in measurements],
        "places of the sites": _modules(model, measurements),
        "batch_size": batch_size,
        "device": device.type,
        "versions": {name: version(name) for name in ("whitebox-probe", "torch")},
    }
    if settings.basis in basis_names.FITTED:
        kept["fit_limit"] = fit.limit
        if fit.fit_data is not None:
            fitted = open_data(fit.fit_data, transform=fit.transform)
            kept["data of the fit"] = [fitted.name, fitted.fingerprint, fitted.count]
    return kept


def _modules(model: ProbeModel, measurements: Sequence[Measurement]) -> dict[str, str]:
    """Where the sites are read, by the first layer: a mapping of one's own can be changed."""
    taps = model.family.taps(model.module, 1)
    sites = sorted({site for m in measurements for site in m.needs if site in taps})
    return {site: f"{taps[site].module}:{taps[site].side}" for site in sites}


def _network(model: ProbeModel, layers: Mapping[int, Layer]) -> dict[str, Any]:
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
    packages = ("whitebox-probe", "torch", "timm", "numpy", "torchmetrics")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
