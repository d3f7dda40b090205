"""`probe`: one streaming pass of a model over data, every measure at every layer.

Nothing but one float64 number for each sample, layer and measure is kept: a layer's tokens are
measured while the forward pass is there, and let go.
"""

import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from whitebox_probe._core.errors import DataError, NonFiniteError, ProbeError
from whitebox_probe.data.images import Transform, image_transform
from whitebox_probe.data.source import Source, open_data
from whitebox_probe.metrics._linalg import orthonormalise
from whitebox_probe.metrics.base import (
    CONVENTIONS,
    HEADS,
    LayerTokens,
    SampleMetric,
    WeightMetric,
    catalogue,
    metric_named,
)
from whitebox_probe.metrics.compression import official_bounds
from whitebox_probe.models.base import Preprocess, ProbeModel
from whitebox_probe.recorder import attach
from whitebox_probe.results import Result, sample_key, tabulate
from whitebox_probe.sites import SITES

Metrics = Sequence[str | SampleMetric | WeightMetric]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class _Measurement:
    """One metric at one site: what it needs, and its column within each layer's block."""

    metric: SampleMetric
    site: str  # as the metric names it: HEADS stands for the family's own site
    needs: frozenset[str]


def probe(
    model: ProbeModel,
    data: Any,
    metrics: Metrics | None = None,
    *,
    sites: Mapping[str, str] | None = None,
    convention: str = "paper",
    basis: str | None = None,
    orthonormal: bool = False,
    eps: float = 0.1,
    lam: float = 0.1,
    limit: int | None = None,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device | None = None,
    dtype: str = "float32",
    seed: int = 0,
    name: str | None = None,
    progress: bool = True,
) -> Result:
    """Measure every layer of a model on data, in one pass.

    Args:
        model: from `wp.load` or `wp.wrap`.
        data: a registry name, a folder of images, a tensor of inputs, a Dataset or a DataLoader.
        metrics: names from the catalogue, or metric objects; all default ones when not given.
        sites: metric name -> site, to measure elsewhere than the convention's own site.
        convention: `paper` (the formulas on the named site) or `official` (the release's script).
        basis: which U; the model's default when not given (`native`, or `qkv:k`).
        orthonormal: replace each U_k by an orthonormal basis of the same subspace (QR), as the
            formulas assume; the basis is then called `native+qr`. Learned projections are not
            orthonormal, and as they are R^c may exceed R.
        eps: coding precision, squared in the formulas. lam: the sparsity weight of the SRR.
        limit: at most so many samples, drawn by `seed`.
        batch_size, workers: of the pass; no number depends on them.
        device: where the forward pass runs; where the model lies when not given.
        dtype: of the forward pass (autocast); measures are always taken in float64.
        seed: of the draw of samples and of the bootstrap.
        name: what tables and figures call this run; the model's name when not given.
        progress: show a progress bar on a terminal.

    Returns: a `Result`.
    Raises: ProbeError for any input that does not fit, before the pass where it can be known;
        NonFiniteError, after the pass, if the features of a sample are not finite.
    """
    _check(convention, eps, batch_size, dtype)
    samplers, weighers = _resolve(metrics, convention=convention, eps=eps, lam=lam)
    basis = model.default_basis if basis is None else basis
    heads_site = model.family.official_site(basis)
    plan = _plan(samplers, dict(sites or {}), convention, model)
    source = open_data(data, transform=_transform(model.preprocess), limit=limit, seed=seed)
    needs_basis = weighers or any(m.metric.needs_basis for m in plan)
    layers = range(1, model.layers + 1)
    bases = {n: model.subspaces(n, basis) for n in layers} if needs_basis else {}
    if orthonormal:
        _check_orthonormal(convention)
        bases = {n: orthonormalise(U) for n, U in bases.items()}
        basis = f"{basis}+qr"

    start = time.perf_counter()
    with _ready(model, device) as where:
        table = _Table(plan, model.layers, source.count)
        tokens = _forward(
            model,
            source,
            plan,
            bases,
            heads_site,
            table,
            where,
            batch_size=batch_size,
            workers=workers,
            dtype=DTYPES[dtype],
            progress=progress,
        )
    numbers, matrices = _weigh(weighers, bases)
    measured = [
        (m.metric.name, heads_site if m.site == HEADS else m.site, layer, m.metric.ddof[convention])
        for layer in layers
        for m in plan
    ]
    ids, values = table.finish()
    columns = [sample_key(*place[:3]) for place in measured]
    samples = pd.DataFrame(values, columns=columns, index=pd.Index(ids, name="sample"))
    _refuse_nonfinite(samples)
    title = name or model.name
    s = model.dims
    run = {
        "model": title,
        "family": model.family.name,
        "checkpoint": {
            "name": model.entry.name if model.entry else None,
            "sha256": model.sha256,
        },
        "data": {"name": source.name, "fingerprint": source.fingerprint},
        "count": len(samples),
        "layers": s.layers,
        "dim": s.dim,
        "heads": s.heads,
        "dim_head": s.dim_head,
        "tokens": tokens,
        "convention": convention,
        "basis": basis,
        "eps": eps,
        "lam": lam,
        "bounds": {
            "compression": list(official_bounds(heads=s.heads, dim_head=s.dim_head, eps=eps))
        }
        if convention == "official"
        else {},
        "arguments": {
            "metrics": [m.name for m in (*samplers, *weighers)],
            "sites": dict(sites or {}),
            "limit": limit,
            "batch_size": batch_size,
            "dtype": dtype,
        },
        "seed": seed,
        "device": str(where),
        "seconds": round(time.perf_counter() - start, 3),
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": _versions(),
    }
    frame = tabulate(
        model=title,
        basis=basis,
        convention=convention,
        samples=samples,
        measured=measured,
        numbers=numbers,
        seed=seed,
    )
    return Result(frame=frame, samples=samples, matrices=matrices, run=run)


def _check_orthonormal(convention: str) -> None:
    if convention == "official":
        raise ProbeError(
            "orthonormal bases do not go with the official convention",
            "it measures the tokens that the model itself projects",
            "Use convention='paper'",
        )


def _check(convention: str, eps: float, batch_size: int, dtype: str) -> None:
    if convention not in CONVENTIONS:
        raise ProbeError(
            f"unknown convention '{convention}'",
            "it says how tokens enter the formulas",
            f"Use one of: {', '.join(CONVENTIONS)}",
        )
    if dtype not in DTYPES:
        raise ProbeError(
            f"unknown dtype '{dtype}'",
            "it is the precision of the forward pass",
            f"Use one of: {', '.join(DTYPES)}",
        )
    if not eps > 0:
        raise ProbeError(f"eps is {eps}", "the coding precision is positive", "Use 0.1, say")
    if batch_size < 1:
        raise ProbeError(
            f"batch_size is {batch_size}", "a batch holds samples", "Use a batch size of 1 or more"
        )


def _resolve(
    metrics: Metrics | None, *, convention: str, eps: float, lam: float
) -> tuple[list[SampleMetric], list[WeightMetric]]:
    """Metric objects from names; all default ones that the convention has when none is named."""
    if metrics is None:
        metrics = [
            name
            for name, kind in catalogue().items()
            if kind.default and (issubclass(kind, WeightMetric) or convention in kind.site)
        ]
    if isinstance(metrics, str):
        metrics = [metrics]
    samplers: list[SampleMetric] = []
    weighers: list[WeightMetric] = []
    options = {"eps": eps, "lam": lam}
    for metric in metrics:
        if isinstance(metric, str):
            kind = metric_named(metric)
            if issubclass(kind, WeightMetric):
                metric = kind()
            else:
                wanted = kind.__init__.__kwdefaults__ or {}
                metric = kind(
                    convention=convention, **{k: v for k, v in options.items() if k in wanted}
                )
        if isinstance(metric, WeightMetric):
            weighers.append(metric)
        else:
            samplers.append(metric)
    if not samplers and not weighers:
        raise ProbeError(
            "no metric is named",
            "there is nothing to measure",
            f"Name some of: {', '.join(catalogue())}",
        )
    return samplers, weighers


def _plan(
    samplers: Iterable[SampleMetric], sites: dict[str, str], convention: str, model: ProbeModel
) -> list[_Measurement]:
    """Where each metric is measured, checked against the model before any pass."""
    plan = []
    for metric in samplers:
        site = sites.pop(metric.name, metric.site[convention])
        needs = metric.inputs(site)
        for needed in needs:
            if needed != HEADS:
                model.tap(needed, 1)
        plan.append(_Measurement(metric, site, frozenset(needs)))
    if sites:
        raise ProbeError(
            f"sites name {', '.join(sites)}",
            "that metric is not measured in this run",
            "Name only metrics of the run",
        )
    return plan


def _transform(preprocess: Preprocess | None) -> Transform | None:
    if preprocess is None:
        return None
    return image_transform(
        size=preprocess.size,
        mean=preprocess.mean,
        std=preprocess.std,
        mode=preprocess.mode,
        crop=preprocess.crop,
        interpolation=preprocess.interpolation,
    )


@contextmanager
def _ready(model: ProbeModel, device: str | torch.device | None) -> Any:
    """The model in evaluation mode on the device; both as they were afterwards."""
    before = model.device
    try:
        where = before if device is None else torch.device(device)
        model.module.to(where)
    except (RuntimeError, AssertionError) as error:
        raise ProbeError(
            f"device '{device}' cannot be used", str(error).splitlines()[0], "Use device='cpu'"
        ) from error
    training = model.module.training
    model.module.eval()
    try:
        yield where
    finally:
        model.module.train(training)
        model.module.to(before)


class _Table:
    """Preallocated float64 values, one row a sample and one column a layer and measure.

    Small tensors kept from inside hooks would fragment the heap; here each batch writes in place.
    """

    def __init__(self, plan: Sequence[_Measurement], layers: int, count: int | None) -> None:
        self.width = len(plan)
        rows = count or 1024
        self.values = np.full((rows, layers * len(plan)), np.nan)
        self.ids = np.empty(rows, dtype=np.int64)
        self.used = 0

    def open(self, ids: Tensor) -> None:
        """Make room for a batch."""
        needed = self.used + len(ids)
        while needed > len(self.ids):
            self.values = np.concatenate([self.values, np.full_like(self.values, np.nan)])
            self.ids = np.concatenate([self.ids, np.empty_like(self.ids)])
        self.ids[self.used : needed] = ids.numpy()

    def write(self, layer: int, column: int, values: Tensor) -> None:
        """Write one measure of one layer for the batch that is open."""
        at = (layer - 1) * self.width + column
        self.values[self.used : self.used + len(values), at] = values.numpy(force=True)

    def close(self, rows: int) -> None:
        """Keep the batch."""
        self.used += rows

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids and values, sorted by id."""
        order = np.argsort(self.ids[: self.used], kind="stable")
        return self.ids[: self.used][order], self.values[: self.used][order]


def _forward(
    model: ProbeModel,
    source: Source,
    plan: Sequence[_Measurement],
    bases: dict[int, Tensor],
    heads_site: str,
    table: _Table,
    device: torch.device,
    *,
    batch_size: int,
    workers: int,
    dtype: torch.dtype,
    progress: bool,
) -> int:
    """Run the pass; returns the number of tokens n of a sample."""
    from tqdm.auto import tqdm

    if not plan:
        return model.dims.tokens or 0
    wanted = {site for m in plan for site in m.needs}
    recorded = [heads_site if site == HEADS else site for site in wanted]
    collector = _Collector(plan, bases, heads_site, table, device)
    bar = tqdm(
        total=source.count, unit="sample", desc=model.name, disable=None if progress else True
    )
    autocast = nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype=dtype)
    with bar, torch.inference_mode(), autocast:
        with attach(model, recorded, range(1, model.layers + 1), collector.take):
            for ids, batch in source.batches(batch_size, workers):
                table.open(ids)
                _run(model, batch.to(device))
                collector.check(len(ids))
                table.close(len(ids))
                bar.update(len(ids))
    if table.used == 0:
        raise DataError(f"{source.name} gave no sample", "it is empty", "Pass data with samples")
    return collector.tokens


def _run(model: ProbeModel, batch: Tensor) -> None:
    """One forward pass; an input that does not fit the model is the user's error."""
    try:
        model.module(batch)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise DataError(
            f"{model.name} cannot take an input of shape {tuple(batch.shape)}",
            str(error).splitlines()[0],
            "Prepare the data as model.preprocess says",
        ) from error


class _Collector:
    """Measures a layer's tokens as its sites come by, and lets go of them as soon as it can."""

    def __init__(
        self,
        plan: Sequence[_Measurement],
        bases: dict[int, Tensor],
        heads_site: str,
        table: _Table,
        device: torch.device,
    ) -> None:
        self.plan = plan
        self.bases = {layer: U.to(device) for layer, U in bases.items()}
        self.heads_site = heads_site
        self.table = table
        self.tokens = 0
        self._open: dict[int, LayerTokens] = {}
        self._waiting: dict[int, list[int]] = {}
        self._written = 0

    def take(self, site: str, layer: int, tensor: Tensor) -> None:
        """A site has come by: measure what can be measured, keep a copy only if it must wait."""
        key = HEADS if site == self.heads_site else site
        tokens = self._open.setdefault(layer, LayerTokens({}, self.bases.get(layer)))
        waiting = self._waiting.setdefault(layer, list(range(len(self.plan))))
        tokens.tokens[key] = tensor
        self.tokens = tensor.shape[SITES[site].token_axis]
        here = set(tokens.tokens)
        for column in [c for c in waiting if self.plan[c].needs <= here]:
            measurement = self.plan[column]
            value = measurement.metric.measure(tokens, measurement.site)
            self.table.write(layer, column, value)
            self._written += 1
            waiting.remove(column)
        for held in here:
            if not any(held in self.plan[c].needs for c in waiting):
                tokens.forget(held)
            elif held == key:
                # It outlives its hook, and a later in-place operation could overwrite it.
                tokens.tokens[held] = tensor.clone()
        if not waiting:
            del self._open[layer], self._waiting[layer]

    def check(self, rows: int) -> None:
        """After a batch: every measure of every layer was taken exactly once."""
        expected = len(self.plan) * (self.table.values.shape[1] // len(self.plan))
        if self._written != expected:
            raise ProbeError(
                f"{self._written} of {expected} measures were taken",
                "a module that a site is read from was not called exactly once by the model",
                "Report it with the model's name: its family needs another tap",
            )
        self._written = 0


def _weigh(
    weighers: Sequence[WeightMetric], bases: dict[int, Tensor]
) -> tuple[dict[tuple[str, int], tuple[float, int]], dict[str, np.ndarray]]:
    """Numbers and matrices of each layer's subspaces."""
    numbers: dict[tuple[str, int], tuple[float, int]] = {}
    stacks: dict[str, list[np.ndarray]] = {}
    for metric in weighers:
        for layer, U in bases.items():
            values, matrices = metric.measure(U.cpu())
            pairs = len(U) * (len(U) - 1) // 2
            numbers |= {(name, layer): (value, pairs) for name, value in values.items()}
            for name, matrix in matrices.items():
                stacks.setdefault(name, []).append(matrix.numpy())
    return numbers, {name: np.stack(layers) for name, layers in stacks.items()}


def _refuse_nonfinite(samples: pd.DataFrame) -> None:
    """NaN and infinity are never averaged in: name the first place and count the samples."""
    bad = ~np.isfinite(samples.to_numpy())
    if not bad.any():
        return
    row, column = np.argwhere(bad)[0]
    metric, _, place = samples.columns[column].partition("@")
    site, _, layer = place.rpartition(":")
    raise NonFiniteError(
        f"{int(bad.any(axis=1).sum())} of {len(samples)} samples have features that are not finite",
        f"first {metric} at {site} of layer {layer}, sample {samples.index[row]}",
        "Check the weights, the dtype (float16 overflows), and that sample",
    )


def _versions() -> dict[str, str]:
    packages = ("whitebox-probe", "torch", "timm", "numpy", "torchmetrics")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
