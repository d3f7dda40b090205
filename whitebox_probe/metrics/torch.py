"""Every measure as a `torchmetrics.Metric`, by one adapter, which alone imports torchmetrics.

    metric = wp.metrics.Compression(eps=0.5)
    for Z in batches:
        metric.update(Z, U)
    metric.compute()

The classes are made of the measures when they are first asked for. Their parameters are the
measure's; all other keywords are torchmetrics' own. `metric.definition` is the measure.
"""

import functools
import hashlib
import inspect
import json
from abc import abstractmethod
from collections.abc import Callable, Collection
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.metric import CompositionalMetric

from whitebox_probe._core.checks import expect_finite
from whitebox_probe._core.errors import PluginError, ProbeError, nearest
from whitebox_probe.metrics._arguments import checked, layer_of, numbered, whole_numbers
from whitebox_probe.metrics._packing import packed, unpacked
from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.metrics.measure import (
    DatasetMeasure,
    Measure,
    SampleMeasure,
    TokenMeasure,
    WeightMeasure,
)
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.tokens import HEADS
from whitebox_probe.sites import SITES

Pieces = dict[str, list[Tensor]]


def _same(digests: Tensor) -> Tensor:
    """The one digest of all, (N, 32) -> (32); states of different measures are never joined."""
    if bool((digests != digests[0]).any()):
        raise ProbeError(
            "states of different measures cannot be put together",
            "the measures differ, or their parameters do",
            "Use the same measure with the same parameters",
        )
    return digests[0]


class MeasureMetric(Metric):
    """What the modules of all measures share; made by `metric_of`, never by itself.

    Lists of tensors hold what was seen. They are replaced and never changed in place: metrics of
    one collection, and saved states, may share them.

    Attributes: definition: the measure. digest: of its name and parameters, so that neither a
        collection nor a reduction takes two measures for one. count: samples, or updates, so far.
    """

    full_state_update = False
    kind: ClassVar[type[Measure]]
    lists: ClassVar[tuple[str, ...]]
    most: ClassVar[int] = 1  # pieces that a list may have before they are put together

    definition: Measure
    digest: Tensor
    count: Tensor

    def __init__(self, **kwargs: Any) -> None:
        own = {name: kwargs.pop(name) for name in list(kwargs) if self.kind.takes(name)}
        try:
            super().__init__(**kwargs)
        except ValueError as error:
            takes = ", ".join(inspect.signature(self.kind).parameters)
            raise ProbeError(
                f"metric '{self.kind.name}' cannot be made so",
                str(error),
                f"Its parameters are: {takes or 'none'}; other keywords are torchmetrics'",
            ) from error
        self.definition = self.kind(**own)
        told = {name: repr(value) for name, value in self.definition.parameters().items()}
        text = json.dumps([self.kind.name, told], sort_keys=True)
        digest = torch.tensor(list(hashlib.sha256(text.encode()).digest()), dtype=torch.uint8)
        self.add_state("digest", digest, dist_reduce_fx=_same)
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        for name in self.lists:
            self.add_state(name, [], dist_reduce_fx=None)

    @abstractmethod
    def _joined(self, pieces: Pieces) -> Pieces:
        """The same lists with one piece each, on the metric's device."""

    def _keep(self, pieces: Pieces) -> None:
        if any(len(each) > self.most for each in pieces.values()):
            pieces = self._joined(pieces)
        for name, each in pieces.items():
            setattr(self, name, each)

    def _pieces(self) -> Pieces:
        return {name: getattr(self, name) for name in self.lists}

    @property
    def update_called(self) -> bool:
        """Whether there is something to compute, be it in another process."""
        shared = self.distributed_available_fn
        return int(self.count) > 0 or (callable(shared) and bool(shared()))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The value of this batch alone, which is added to what was seen; differentiable.

        After an error in it the metric is as it was.
        """
        if self._is_synced:
            raise ProbeError(
                f"'{self.kind.name}' holds the states of all processes",
                "sync() was called, and no batch can be added to their sum",
                "Call unsync() first",
            )
        batch = copy(self)
        batch.reset()
        batch._to_sync = self.dist_sync_on_step
        batch._enable_grad = torch.is_grad_enabled()
        batch.compute_on_cpu = False
        batch.update(*args, **kwargs)
        value = batch.compute()
        self._add(batch)
        self._update_count += 1
        # torchmetrics' own attribute, which it declares by its first value alone.
        self._forward_cache = value.detach() if isinstance(value, Tensor) else value  # type: ignore[assignment]
        return value

    def _add(self, batch: "MeasureMetric") -> None:
        self.merge_state(batch)

    def merge_state(self, incoming_state: "dict[str, Any] | Metric") -> None:
        """Add what another metric of the same measure and parameters has seen.

        Raises: ProbeError for a state of another measure.
        """
        state: dict[str, Any] = (
            incoming_state.metric_state if isinstance(incoming_state, Metric) else incoming_state
        )
        digest = state.get("digest", torch.zeros_like(self.digest))
        _same(torch.stack([self.digest, digest.to(self.digest.device)]))
        more = {name: [each.detach() for each in state[name]] for name in self.lists}
        self._keep({name: [*mine, *more[name]] for name, mine in self._pieces().items()})
        self.count = self.count + state["count"].to(self.count.device)
        self._computed = None
        if self.compute_on_cpu:
            self._move_list_states_to_cpu()

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,
        should_sync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
    ) -> None:
        """Reduce the states over the processes, as torchmetrics does."""
        if should_sync and not self._is_synced:
            # One piece a list everywhere, also where nothing was seen.
            self._keep(self._joined(self._pieces()))
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def reset(self) -> None:
        """Forget what was seen."""
        for name in self.lists:
            setattr(self, name, [])  # torchmetrics would empty the list, whoever else has it
        super().reset()

    def _wrap_compute(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        computed = super()._wrap_compute(compute)

        @functools.wraps(compute)
        def told(*args: Any, **kwargs: Any) -> Any:
            synced = self._is_synced
            try:
                value = computed(*args, **kwargs) if self.update_called else None
            finally:
                if self._is_synced and not synced and self._should_unsync:
                    self.unsync()  # after an error: torchmetrics would stay with all processes'
            if value is None:
                raise ProbeError(
                    f"'{self.kind.name}' has seen nothing yet",
                    "compute() was called before update()",
                    "Call update() first",
                )
            return value

        return told

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Any = "") -> Any:
        """Move states to a device; none ever changes its dtype."""

        def moved(tensor: Tensor) -> Tensor:
            out = fn(tensor)
            return out if out.dtype == tensor.dtype else tensor.to(out.device)

        return super()._apply(moved, exclude_state)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        digest = state_dict.get(f"{prefix}digest", self.digest)
        _same(torch.stack([self.digest, digest.to(self.digest.device)]))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.digest, self.count = self.digest.to(self.device), self.count.to(self.device)
        self._keep({n: [p.to(self.device) for p in each] for n, each in self._pieces().items()})
        self._computed = None

    def extra_repr(self) -> str:
        """The parameters."""
        parameters = self.definition.parameters().items()
        return ", ".join(f"{name}={value!r}" for name, value in parameters)


class SampleMetric(MeasureMetric):
    """A measure with one value a sample; NaN where it has none, as zeros have no sparsity.

    Attributes: ids: pieces of the samples' numbers, (B,), -1 without one. values: of their values,
        (B,), float64.
    """

    lists = ("ids", "values")
    most = 256

    definition: SampleMeasure
    ids: list[Tensor]
    values: list[Tensor]

    @checked
    def update(
        self,
        Z: Tensor,
        U: Tensor | None = None,
        ids: Tensor | None = None,
        *,
        prefix: int = 0,
        grid: tuple[int, int] | None = None,
        causal: bool = False,
        **others: Tensor | float,
    ) -> None:
        """Add a batch of tokens.

        Shapes: Z as its site says, (B, n, d) or (B, K, n, p); U (K, d, p); ids (B,).
        Args:
            ids: the samples' numbers, 0 or more, by which they are sorted; without, they keep the
                order in which they came. prefix: how many tokens stand before the patches, the
                class token first. grid: rows and columns of patches, for distances between them.
            causal: whether a token attends to itself and those before it alone.
            others: tokens at further sites that the measure needs (`attn_out=...`), and parts of
                the layer's steps (`D=..., lam=0.1`).

        Raises: NonFiniteError; ShapeError; ProbeError when something that is needed is missing.
        """
        site = self.definition.site[self.definition.convention]
        ids = None if ids is None else numbered(ids, len(Z))
        layer = layer_of(self.definition, site, Z, U, ids, prefix, others, grid, causal)
        value = self.definition.measure(layer, site)
        value = value if value.ndim == 1 else value.flatten(1).mean(dim=1)
        undefined = self.definition.undefined(layer, site)
        told = value if undefined is None else value.masked_fill(undefined, 0.0)
        expect_finite(told, name=self.definition.name)
        number = torch.full((len(value),), -1) if ids is None else ids
        self._keep(
            {
                "ids": [*self.ids, number.to(self.device)],
                "values": [*self.values, value.to(self.device, torch.float64)],
            }
        )
        self.count = self.count + len(value)

    def samples(self) -> Tensor:
        """The values so far, (N,), sorted by sample number."""
        one = self._joined(self._pieces())
        return one["values"][0][one["ids"][0].argsort(stable=True)]

    def compute(self) -> Tensor | None:
        """The mean over samples."""
        values = self.samples()
        return values.mean() if len(values) else None

    def _joined(self, pieces: Pieces) -> Pieces:
        dtypes = {"ids": torch.int64, "values": torch.float64}
        none = {name: torch.empty(0, dtype=dtypes[name], device=self.device) for name in pieces}
        return {
            name: [torch.cat([none[name], *(piece.to(self.device) for piece in each)])]
            for name, each in pieces.items()
        }


@dataclass(frozen=True)
class _Row:
    """Takes one number out of those that a measure gives; a tensor, for arithmetic."""

    name: str

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, numbers: dict[str, float]) -> Tensor:
        _expect_row(self.name, numbers)  # some are of two layers, and a metric has one
        return torch.tensor(numbers[self.name], dtype=torch.float64)


def _expect_row(name: object, rows: Collection[str]) -> None:
    if name not in rows:
        raise ProbeError(
            f"there is no number '{name}'", "it is not given", nearest(str(name), rows)
        )


class NumbersMetric(MeasureMetric):
    """A measure that gives numbers by name; `metric["nc1"] - 1.0` computes with one of them.

    Attributes: packets: what was seen, as bytes.
    """

    lists = ("packets",)

    definition: DatasetMeasure | WeightMeasure
    packets: list[Tensor]

    def __getitem__(self, name: Any) -> CompositionalMetric:
        """One of the numbers, as a metric.

        Raises: ProbeError with the nearest name.
        """
        _expect_row(name, self.definition.rows)
        return CompositionalMetric(_Row(name), self, None)

    def sums(self, device: torch.device | None = None) -> Sums:
        """What was seen so far, in tensors of its own."""
        return self._sums(self.packets, device or self.device)

    def _sums(self, packets: list[Tensor], device: torch.device) -> Sums:
        whole = Sums()
        for packet in packets:
            whole.merge(unpacked(packet, device))
        return whole

    def _joined(self, pieces: Pieces) -> Pieces:
        return {"packets": [packed(self._sums(pieces["packets"], self.device), self.device)]}


class DatasetMetric(NumbersMetric):
    """A measure of all samples together, from sums."""

    definition: DatasetMeasure
    _before = 0  # samples that were seen before those of this batch

    @checked
    def update(
        self,
        Z: Tensor,
        U: Tensor | None = None,
        labels: Tensor | None = None,
        ids: Tensor | None = None,
        *,
        prefix: int = 0,
    ) -> None:
        """Add a batch of tokens.

        Shapes: Z as its site says; U (K, d, p); labels and ids (B,).
        Args:
            labels: the samples' classes, whole numbers; one below 0 is none. ids: their numbers;
                without, in the order in which they come. prefix: how many tokens stand before the
                patches, the class token first.

        Raises: NonFiniteError; ShapeError; ProbeError when something that is needed is missing.
        """
        expect_finite(Z, name="Z")
        if labels is None and self.definition.needs_labels:
            raise ProbeError(
                "labels are missing",
                f"'{self.kind.name}' compares the samples' classes",
                "Pass labels as (B,)",
            )
        first = self._before + int(self.count)
        ids = torch.arange(first, first + len(Z)) if ids is None else numbered(ids, len(Z))
        labels = labels if labels is None else whole_numbers(labels, len(Z), name="labels")
        site = self.definition.site[self.definition.convention]
        sums = self.sums(Z.device)
        layer = layer_of(self.definition, site, Z, U, ids, prefix, {})
        self.definition.add(sums, layer, site, labels)
        self.packets = [packed(sums, self.device)]
        self.count = self.count + len(Z)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The numbers of this batch alone, which is added to what was seen."""
        before, self._before = self._before, self._before + int(self.count)
        try:
            return super().forward(*args, **kwargs)
        finally:
            self._before = before

    def compute(self) -> dict[str, float] | None:
        """The numbers of the samples so far."""
        return self.definition.numbers(self.sums()) if int(self.count) else None

    def matrices(self) -> dict[str, Tensor]:
        """Matrices beside the numbers, if any: of this process's samples."""
        return self.definition.matrices(self.sums()) if int(self.count) else {}


class WeightMetric(NumbersMetric):
    """A measure of a layer's subspaces: of those that were last given."""

    definition: WeightMeasure

    @checked
    def update(self, U: Tensor) -> None:
        """Set the subspaces, (K, d, p)."""
        sums = Sums()
        sums.constant("U", U.detach())
        self.packets = [packed(sums, self.device)]
        self.count = self.count + 1

    def _add(self, batch: MeasureMetric) -> None:
        self._keep(batch._pieces())
        self.count = self.count + 1
        self._computed = None

    def _sums(self, packets: list[Tensor], device: torch.device) -> Sums:
        given = [sums for sums in (unpacked(each, device) for each in packets) if len(sums)]
        if any(not torch.equal(sums["U"], given[0]["U"]) for sums in given):
            raise ProbeError(
                "different subspaces cannot be put together",
                f"'{self.kind.name}' is of one layer's, the same on every process",
                "Use one metric a layer",
            )
        return given[0] if given else Sums()

    def compute(self) -> dict[str, float] | None:
        """The numbers of the subspaces."""
        return self.definition.measure(self.sums()["U"])[0] if int(self.count) else None

    def matrices(self) -> dict[str, Tensor]:
        """Matrices beside the numbers, if any."""
        return self.definition.measure(self.sums()["U"])[1] if int(self.count) else {}


_BASES: dict[type[Measure], type[MeasureMetric]] = {
    SampleMeasure: SampleMetric,
    DatasetMeasure: DatasetMetric,
    WeightMeasure: WeightMetric,
}


@functools.cache
def metric_of(kind: type[Measure]) -> type[MeasureMetric]:
    """The class of modules of a measure's class, which has its name."""
    base = next(base for of, base in _BASES.items() if issubclass(kind, of))
    own = inspect.signature(kind).parameters

    def made(self: MeasureMetric, **kwargs: Any) -> None:
        base.__init__(self, **kwargs)

    words = inspect.Parameter
    parameters = [words("self", words.POSITIONAL_ONLY), *own.values()]
    parameters.append(words("kwargs", words.VAR_KEYWORD, annotation=Any))
    made.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    better = getattr(kind, "better", None)
    body: dict[str, Any] = {name: _parameter(name) for name in own} | {
        "__init__": made,
        "__module__": __name__,
        "__qualname__": kind.__name__,
        "__doc__": _told(kind),
        "kind": kind,
        "higher_is_better": None if better is None else better == "higher",
    }
    return type(kind.__name__, (base,), body)


def _parameter(name: str) -> property:
    return property(lambda self: getattr(self.definition, name), doc=f"The measure's {name}.")


def _told(kind: type[Measure]) -> str:
    """The docstring: the measure's own, its formula and unit, and the shapes of `update`."""
    parts = [inspect.getdoc(kind) or kind.name, f"{kind.formula}, in {kind.unit}", kind.source]
    if not issubclass(kind, TokenMeasure):
        return "\n\n".join([*parts, "Shapes: U (K, d, p)"])
    shapes = {name: site.shape for name, site in SITES.items()} | {HEADS: "(B, K, n, p)"}
    where = [f"{shapes.get(s, '')} at {s.strip('{}')} ({c})" for c, s in kind.site.items()]
    basis = "; U (K, d, p)" if kind.needs_basis else ""
    return "\n\n".join([*parts, f"Shapes: Z {' or '.join(where)}{basis}"])


def _kinds() -> dict[str, type[Measure]]:
    found: dict[str, type[Measure]] = {}
    for kind in catalogue().values():
        if kind.__name__ in found:
            raise PluginError(
                f"two measures have a class '{kind.__name__}'",
                f"they are of {found[kind.__name__].__module__} and {kind.__module__}",
                "Rename one",
            )
        found[kind.__name__] = kind
    return found


def __getattr__(name: str) -> type[MeasureMetric]:
    if not name[:1].isupper():
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    kinds = _kinds()
    if name not in kinds:
        raise AttributeError(f"there is no measure '{name}'. {nearest(name, kinds)}")
    return metric_of(kinds[name])


def __dir__() -> list[str]:
    return sorted([*globals(), *_kinds()])
