"""The inside of a probe: what is measured where, and the streaming of a layer's tokens through it.

Nothing but one float64 number for each sample, layer and measure is kept: a layer's tokens are
measured while the forward pass is there, and let go.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from whitebox_probe._core import onednn
from whitebox_probe._core.errors import DataError, ProbeError
from whitebox_probe.data.images import Transform, image_transform
from whitebox_probe.data.text import TextReader
from whitebox_probe.metrics._linalg import wide
from whitebox_probe.metrics.measure import (
    HEADS,
    DatasetMetric,
    LayerTokens,
    SampleMetric,
    project,
)
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.preprocess import Preprocess, TextPreprocess
from whitebox_probe.sites import SITES

NULLS = ("gaussian", "shuffled", "random_subspaces")
NOT_TOKENS = ("attn_weights", "memberships")


@dataclass(frozen=True)
class Measurement:
    """One metric at one site, and the sites that it needs."""

    metric: SampleMetric | DatasetMetric
    site: str  # as the metric names it: HEADS stands for the family's own site
    needs: frozenset[str]
    layers: frozenset[int]  # those that have what it needs

    @property
    def per_sample(self) -> bool:
        """Whether it gives a value a sample, which has a column in the table."""
        return isinstance(self.metric, SampleMetric)


def plan(
    metrics: Iterable[SampleMetric | DatasetMetric],
    sites: Mapping[str, str | Sequence[str]],
    convention: str,
    model: ProbeModel,
) -> list[Measurement]:
    """Where each metric is measured, checked against the model before any pass.

    Raises: SiteError; ProbeError for sites of a metric that is not measured, or for operators that
        the model's layers do not have.
    """
    asked = dict(sites)
    found = []
    for metric in metrics:
        wanted = asked.pop(type(metric).name, _usual_site(metric, convention, model))
        layers = _layers_of(metric, model)
        for site in [wanted] if isinstance(wanted, str) else wanted:
            needs = metric.inputs(site)
            for needed in needs:
                if needed != HEADS:
                    model.tap(needed, 1)
            found.append(Measurement(metric, site, frozenset(needs), layers))
    if asked:
        raise ProbeError(
            f"sites name {', '.join(asked)}",
            "that metric is not measured in this run",
            "Name only metrics of the run",
        )
    return found


def _usual_site(metric: SampleMetric | DatasetMetric, convention: str, model: ProbeModel) -> str:
    """The convention's, unless the metric is of a code that this model has at a site of its own."""
    code = getattr(metric, "code_site", None)
    return code if code in model.sites else metric.site[convention]


def _layers_of(metric: SampleMetric | DatasetMetric, model: ProbeModel) -> frozenset[int]:
    """The layers whose steps have the parts that a metric needs: a decoder's may lack them."""
    every = range(1, model.layers + 1)
    needed: Sequence[str] = getattr(metric, "needs_operators", ())
    if not needed:
        return frozenset(every)
    having = {n: model.layer(n).operators for n in every}
    found = frozenset(n for n, parts in having.items() if set(needed) <= set(parts))
    if not found:
        lacking = [name for name in needed if name not in having[1]]
        raise ProbeError(
            f"metric '{metric.name}' cannot be taken of {model.name}",
            f"its layers have no {', '.join(lacking)}: their second step is not a proximal one",
            "Leave it out for this model",
        )
    return found


class Table:
    """Preallocated float64 values, one row a sample and one column a layer and measure.

    Small tensors kept from inside hooks would fragment the heap; here each batch writes in place.
    """

    def __init__(self, width: int, layers: int, count: int | None) -> None:
        self.width = width
        rows = count or 1024
        self.values = np.full((rows, layers * width), np.nan)
        self.ids = np.empty(rows, dtype=np.int64)
        self.used = 0
        self._written: set[int] = set()
        self._on_device: list[tuple[int, Tensor | None, Tensor]] = []

    def open(self, ids: Tensor) -> None:
        """Make room for a batch."""
        needed = self.used + len(ids)
        while needed > len(self.ids):
            self.values = np.concatenate([self.values, np.full_like(self.values, np.nan)])
            self.ids = np.concatenate([self.ids, np.empty_like(self.ids)])
        self.ids[self.used : needed] = ids.numpy()
        self._written.clear()

    def write(self, layer: int, column: int, values: Tensor, rows: Tensor | None) -> None:
        """Write one measure of one layer for the batch that is open, or for some of its rows."""
        at = (layer - 1) * self.width + column
        self._written.add(at)
        if values.device.type == "cpu":
            self._put(at, rows, values.numpy(force=True))
        else:
            self._on_device.append((at, rows, values.double()))

    def _put(self, at: int, rows: Tensor | None, values: np.ndarray) -> None:
        where = slice(self.used, self.used + len(values))
        target = where if rows is None else self.used + rows.numpy(force=True)
        self.values[target, at] = values

    def fetch(self, rows: int) -> bool:
        """Bring what was measured on a device, all at once; whether the open batch is finite."""
        if self._on_device:
            together = torch.cat([values for _, _, values in self._on_device]).numpy(force=True)
            start = 0
            for at, some, values in self._on_device:
                self._put(at, some, together[start : start + len(values)])
                start += len(values)
            self._on_device.clear()
        # A measure that a layer does not have leaves its column empty.
        batch = self.values[self.used : self.used + rows, sorted(self._written)]
        return bool(np.isfinite(batch).all())

    def close(self, rows: int) -> None:
        """Keep the batch."""
        self.used += rows

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids and values, sorted by id."""
        order = np.argsort(self.ids[: self.used], kind="stable")
        return self.ids[: self.used][order], self.values[: self.used][order]


@dataclass
class Group:
    """Samples of a batch with the same number of measured tokens.

    `rows` are their places in the batch (None: all of it); `gather` (g, n) says which tokens are
    measured (None: all), since masked ones are never part of a measure.
    """

    rows: Tensor | None = None
    gather: Tensor | None = None

    def take(self, tensor: Tensor, axis: int) -> Tensor:
        """The measured tokens of the group; `axis` of (B, ...) counts the tokens."""
        if self.rows is None:
            return tensor
        tensor = tensor[self.rows]
        if self.gather is None:
            return tensor
        shape = [1] * tensor.ndim
        shape[0], shape[axis] = self.gather.shape
        return torch.take_along_dim(tensor, self.gather.view(shape), dim=axis)


def groups_of(mask: Tensor | None) -> list[Group]:
    """Sort the samples of a batch by how many tokens are measured; shapes: mask (B, n)."""
    if mask is None or bool(mask.all()):
        return [Group()]
    counts = mask.sum(dim=1)
    found = []
    for n in counts.unique().tolist():
        rows = (counts == n).nonzero()[:, 0]
        gather = mask[rows].nonzero()[:, 1].view(len(rows), n)
        found.append(Group(rows, gather))
    return found


@dataclass(frozen=True)
class Layer:
    """What a layer gives to its measures besides tokens."""

    U: Tensor | None = None
    norm: Callable[[Tensor], Tensor] | None = None
    operators: Mapping[str, Tensor | float] = field(default_factory=dict)


class Collector:
    """Measures a layer's tokens as its sites come by, and lets go of them as soon as it can."""

    def __init__(
        self,
        measurements: Sequence[Measurement],
        layers: Mapping[int, Layer],
        heads_site: str | None,
        table: Table,
        *,
        prefix: int = 0,
        drop_prefix: bool = False,
        spectral: bool = False,
        null: str | None = None,
        seed: int = 0,
    ) -> None:
        self.plan = list(measurements)
        self.layers = layers
        self.heads_site = heads_site
        self.table = table
        self.columns = {m: i for i, m in enumerate(m for m in self.plan if m.per_sample)}
        self._of_layer = {n: [m for m in self.plan if n in m.layers] for n in layers}
        self.streams = {
            (m, n): m.metric.clone()
            for m in self.plan
            if not m.per_sample
            for n in layers
            if n in m.layers
        }
        own = heads_site or "attn_in"
        self._sites = {
            n: {own if site == HEADS else site for m in here for site in m.needs}
            for n, here in self._of_layer.items()
        }
        self.head_means: dict[tuple[Measurement, int], Tensor] = {}
        self.tokens = 0
        self._prefix = prefix
        self._drop = drop_prefix
        self._spectral = spectral
        self._null = null
        self._seed = seed
        self._labels: Tensor | None = None
        self._ids: Tensor | None = None
        self._mask: Tensor | None = None
        self._groups = [Group()]
        self._open: dict[tuple[int, int], LayerTokens] = {}
        self._waiting: dict[tuple[int, int], list[Measurement]] = {}
        self._written = 0
        self._again = False

    def start(self, ids: Tensor, labels: Tensor | None, mask: Tensor | None) -> None:
        """A batch begins."""
        self._ids, self._labels, self._again = ids, labels, False
        if mask is not None and self._drop:
            mask = mask.clone()
            mask[:, : self._prefix] = False
        if mask is not None and not bool(mask.any(dim=1).all()):
            raise DataError(
                f"sample {int(ids[~mask.any(dim=1)][0])} has no token to measure",
                "its mask leaves out all patches, and class_token=False the others"
                if self._drop
                else "its mask leaves all of them out",
                "Remove that sample, or mend its mask",
            )
        self._mask = mask
        self._groups = groups_of(mask)

    def restart(self) -> None:
        """The same batch once more: only what has a value a sample is measured again."""
        self._again = True

    def take(self, site: str, layer: int, tensor: Tensor) -> None:
        """A site has come by: measure what can be measured, keep a copy only if it must wait."""
        if site not in self._sites[layer]:
            return  # another layer's measures need it
        # Measures are taken in full precision, whatever the forward pass runs in.
        with torch.autocast(tensor.device.type, enabled=False):
            self._sort(site, layer, wide(tensor))

    def _sort(self, site: str, layer: int, tensor: Tensor) -> None:
        """Hand each group of samples its tokens."""
        axis = SITES[site].token_axis
        weights = site == "attn_weights"  # whole maps: a row is a distribution over all tokens
        count = tensor.shape[axis]
        if self._mask is not None and self._mask.shape[1] != count:
            raise DataError(
                f"the samples' masks are of {self._mask.shape[1]} tokens",
                f"the model's layers have {count}",
                "Give one boolean a token, those before the patches included",
            )
        if weights:
            tensor = self._rows(tensor)
        if self._drop and not weights and self._groups[0].rows is None:
            tensor = tensor.narrow(axis, self._prefix, count - self._prefix)
        for g, group in enumerate(self._groups):
            self._take(site, layer, g, group if not weights else Group(group.rows), tensor)
        self.tokens = max(self.tokens, count - (self._prefix if self._drop else 0))

    def _rows(self, maps: Tensor) -> Tensor:
        """Attention maps with zeros in the rows of tokens that are not measured: (B, K, n, n)."""
        counted = self._mask  # (B, n)
        if counted is None:
            if not self._drop:
                return maps
            counted = torch.arange(maps.shape[-2])[None] >= self._prefix
        return maps.where(counted.to(maps.device)[:, None, :, None], 0.0)

    def _take(self, site: str, layer: int, g: int, group: Group, tensor: Tensor) -> None:
        parts = self.layers[layer]
        at = (layer, g)
        if at not in self._open:
            self._open[at] = LayerTokens(
                {},
                parts.U,
                norm=parts.norm,
                operators=parts.operators,
                prefix=0 if self._drop else self._prefix,
                spectral=self._spectral,
                ids=self._ids if group.rows is None or self._ids is None else self._ids[group.rows],
            )
            self._waiting[at] = list(self._of_layer[layer])
        tokens, waiting = self._open[at], self._waiting[at]
        mine = group.take(tensor, SITES[site].token_axis)
        owned = mine is not tensor
        if self._null in ("gaussian", "shuffled") and site not in NOT_TOKENS:
            mine, owned = self._nullified(mine, layer, group), True
        key = HEADS if site == self.heads_site else site
        tokens.tokens[key] = mine
        if self.heads_site is None and site == "attn_in" and self._wants(waiting, HEADS):
            tokens.tokens[HEADS] = project(mine, parts.U)
        here = set(tokens.tokens)
        for measurement in [m for m in waiting if m.needs <= here]:
            self._measure(measurement, tokens, layer, group)
            waiting.remove(measurement)
        for held in here:
            if not self._wants(waiting, held):
                tokens.forget(held)
            elif held == key and not owned:
                # It outlives its hook, and a later in-place operation could overwrite it.
                tokens.tokens[held] = mine.clone()
        if not waiting:
            del self._open[at], self._waiting[at]

    @staticmethod
    def _wants(waiting: Sequence[Measurement], site: str) -> bool:
        return any(site in m.needs for m in waiting)

    def _measure(self, m: Measurement, tokens: LayerTokens, layer: int, group: Group) -> None:
        self._written += 1
        if isinstance(m.metric, DatasetMetric):
            if self._again:
                return  # its sums hold the batch
            labels = self._labels
            if labels is not None and group.rows is not None:
                labels = labels[group.rows]
            stream = self.streams[m, layer]
            assert isinstance(stream, DatasetMetric)
            stream.add(tokens, m.site, labels)
            return
        value = m.metric.measure(tokens, m.site)
        if value.ndim == 2:  # one value a head: (B, K)
            if not self._again:
                sums = self.head_means.get((m, layer))
                total = value.sum(dim=0)
                self.head_means[m, layer] = total if sums is None else sums + total
            value = value.mean(dim=1)
        self.table.write(layer, self.columns[m], value, group.rows)

    def _nullified(self, Z: Tensor, layer: int, group: Group) -> Tensor:
        """The null's tokens, drawn for each sample by its own number: order does not show."""
        assert self._ids is not None
        ids = self._ids if group.rows is None else self._ids[group.rows.cpu()]
        out = torch.empty_like(Z)
        for row, sample in enumerate(ids.tolist()):
            random = torch.Generator().manual_seed(
                hash((self._seed, int(sample), layer, tuple(Z.shape[1:]))) % 2**63
            )
            z = Z[row]
            if self._null == "gaussian":  # of the same norms, token by token
                noise = torch.randn(z.shape, generator=random).to(z)
                norms = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
                out[row] = noise / torch.linalg.vector_norm(noise, dim=-1, keepdim=True) * norms
            else:  # each feature keeps its values, in another order over the tokens
                order = torch.rand(z.shape, generator=random).argsort(dim=-2).to(z.device)
                out[row] = torch.take_along_dim(z, order, dim=-2)
        return out

    def check(self) -> None:
        """After a batch: every measure of every layer was taken exactly once."""
        expected = sum(map(len, self._of_layer.values())) * len(self._groups)
        if self._written != expected:
            raise ProbeError(
                f"{self._written} of {expected} measures were taken",
                "a module that a site is read from was not called exactly once by the model",
                "Report it with the model's name: its family needs another tap",
            )
        self._written = 0


def transform_of(
    preprocess: Preprocess | TextPreprocess | None,
) -> Transform | TextReader | None:
    """What makes a model's input of an image or a text, if it is known."""
    if preprocess is None:
        return None
    if isinstance(preprocess, TextPreprocess):
        return TextReader(preprocess.tokenizer, preprocess.length)
    return image_transform(
        size=preprocess.size,
        mean=preprocess.mean,
        std=preprocess.std,
        mode=preprocess.mode,
        crop=preprocess.crop,
        interpolation=preprocess.interpolation,
    )


@contextmanager
def ready(model: ProbeModel, device: str | torch.device | None) -> Iterator[torch.device]:
    """The model in evaluation mode on the device; both as they were afterwards."""
    before = model.device
    try:
        where = before if device is None else torch.device(device)
        if where.type == "mps":
            raise RuntimeError("measures are taken in float64, which it does not have")
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


def run_model(model: ProbeModel, batch: Tensor, *, fast: bool = True) -> None:
    """One forward pass; an input that does not fit the model is the user's error.

    Args: fast: run linear maps on the CPU through oneDNN.
    """
    try:
        with onednn.routed(model.module) if fast else nullcontext():
            model.module(batch)
    except torch.OutOfMemoryError as error:
        raise DataError(
            f"{model.name} has no memory for a batch of shape {tuple(batch.shape)}",
            str(error).splitlines()[0],
            "Use a smaller batch_size",
        ) from error
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        raise DataError(
            f"{model.name} cannot take an input of shape {tuple(batch.shape)}",
            str(error).splitlines()[0],
            "Prepare the data as model.preprocess says",
        ) from error
