"""The streaming of a layer's tokens through all measures, while the forward pass is there.

Nothing but one float64 number for each sample, layer and measure is kept, and sums: a layer's
tokens are measured and let go.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from whitebox_probe._core.errors import DataError, SiteError
from whitebox_probe.metrics._linalg import wide
from whitebox_probe.metrics.measure import DatasetMeasure, SampleMeasure
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.tokens import LayerTokens, Products
from whitebox_probe.probing import null as nulls
from whitebox_probe.probing.groups import (
    NOT_ONCE,
    Group,
    at_places,
    expect_fits,
    expect_rows,
    expect_same_tokens,
    expect_some,
    groups_of,
    without,
)
from whitebox_probe.probing.plan import BasisKey, Look, Measurement, Plan
from whitebox_probe.probing.table import NOTHING, Table
from whitebox_probe.sites import SITES


@dataclass(frozen=True)
class Parts:
    """What a layer gives to its measures besides tokens.

    Attributes: bases: which subspaces -> U (K, d, p). heads: which subspaces -> the site that holds
        their per-head tokens, where there is one. norm, operators, causal: the layer's own.
        exact_norm: the norm of float64 tokens.
    """

    bases: Mapping[BasisKey, Tensor] = field(default_factory=dict)
    heads: Mapping[BasisKey, str] = field(default_factory=dict)
    norm: Callable[[Tensor], Tensor] | None = None
    exact_norm: Callable[[Tensor], Tensor] | None = None
    operators: Mapping[str, Tensor | float] = field(default_factory=dict)
    causal: bool = False


@dataclass(frozen=True)
class State:
    """What has been measured so far, in plain values: it can be kept, restored and put together.

    Attributes: ids, identities, values: the table's. tokens: the most tokens of a sample, and as
        `change` whether layers of one batch hold different numbers (1). classes: id -> class,
        where there are any. sums: (measurement, layer, name) -> kind and value; `measurement`
        counts in the plan. skipped: samples that could not be read -> why.
    """

    ids: np.ndarray
    identities: np.ndarray
    values: np.ndarray
    tokens: Mapping[str, int]
    classes: Mapping[int, int]
    sums: Mapping[tuple[int, int, str], tuple[str, np.ndarray]]
    skipped: Mapping[int, str]


_PER_HEAD = "a head's values"  # the name of the sum from which means over samples are taken
_LEFT_OUT = "tokens left out, of how many"
_NOT_FINITE = "samples that are not finite"


class _Open:
    """A layer of the batch at hand, for one look and group: its tokens, and who waits for more."""

    def __init__(self, products: Products, waiting: list[Measurement]) -> None:
        self.products = products
        self.waiting = waiting
        self._views: dict[tuple[BasisKey | None, bool], LayerTokens] = {}

    def view(self, m: Measurement, parts: Parts) -> LayerTokens:
        """The tokens under the basis and norm of a measurement."""
        key = (m.basis, bool(m.prenorm))
        if key not in self._views:
            basis = m.basis
            self._views[key] = LayerTokens(
                self.products,
                None if basis is None else parts.bases.get(basis),
                norm=parts.norm if m.prenorm else None,
                exact_norm=parts.exact_norm if m.prenorm else None,
                heads=None if basis is None else parts.heads.get(basis),
                basis=basis,
            )
        return self._views[key]

    def wants(self, site: str) -> bool:
        """Whether somebody still waits for something of a site."""
        return any(site in m.needs for m in self.waiting)


class Collector:
    """Measures a layer's tokens as its sites come by, and lets go of them as soon as it can."""

    def __init__(
        self,
        plan: Plan,
        layers: Mapping[int, Parts],
        table: Table,
        *,
        extra: tuple[int, ...] = (),
        class_index: int | None = None,
        seed: int = 0,
    ) -> None:
        self.plan = plan.tokens
        self.layers = layers
        self.table = table
        self.columns = {m: i for i, m in enumerate(m for m in self.plan if m.per_sample)}
        self.tokens = {"all": 0, "patches": 0, "change": 0}
        self.classes: dict[int, int] = {}  # of each sample, by its number
        self.needs_labels = plan.needs_labels
        self.skipped: dict[int, str] = {}
        self._number = {m: i for i, m in enumerate(self.plan)}
        self._sums: dict[tuple[int, int], Sums] = {}
        self._of_layer: dict[int, dict[Look, list[Measurement]]] = {}
        for n in layers:
            of_look: dict[Look, list[Measurement]] = {}
            for m in self.plan:
                if n in m.layers:
                    of_look.setdefault(m.look, []).append(m)
            self._of_layer[n] = of_look
        self._extra = extra
        self._class_index = class_index
        self._grid: tuple[int, int] | None = None
        self._windows: set[int] = set()  # the numbers of tokens that sites of this batch hold
        self._precisions = plan.precisions
        self._seed = seed
        self._labels: Tensor | None = None
        self._ids = torch.empty(0, dtype=torch.int64)
        self._first: Tensor | None = None
        self._masks: dict[bool, Tensor | None] = {}
        self._groups: dict[bool, list[Group]] = {}
        self._open: dict[tuple[int, Look, int], _Open] = {}
        self._written = 0
        self._again = False

    def start(
        self,
        ids: Tensor,
        labels: Tensor | None,
        mask: Tensor | None,
        grid: tuple[int, int] | None = None,
        left: Tensor | None = None,
    ) -> None:
        """A batch begins.

        Args: grid: that its patches are on, if it is known. left: how many tokens pad each window
            in front, (B,): the model's own first token is behind them.
        """
        self._ids, self._labels, self._again, self._grid = ids, labels, False, grid
        self._windows.clear()
        self._first = left
        if labels is not None:
            self.classes |= zip(ids.tolist(), labels.tolist(), strict=True)
        for with_class in {look.class_token for of in self._of_layer.values() for look in of}:
            here = mask
            if mask is not None and not with_class:
                here = mask & ~at_places(mask, self._extra, left)
            both = "its mask leaves out all patches, and class_token=False the others"
            expect_some(here, ids, "its mask leaves all of them out" if with_class else both)
            self._masks[with_class] = here
            self._groups[with_class] = groups_of(here)

    def restart(self) -> None:
        """The same batch once more: only what has a value a sample is measured again."""
        self._again = True

    def take(self, site: str, layer: int, tensor: Tensor) -> None:
        """A site has come by: measure what can be measured, keep a copy only if it must wait."""
        of_layer = self._of_layer[layer]
        looks = [k for k, of in of_layer.items() if any(site in m.needs for m in of)]
        if not looks:
            return  # another layer's measures need it
        expect_rows(tensor, site, layer, len(self._ids))
        # Measures are taken in full precision, whatever the forward pass runs in.
        with torch.autocast(tensor.device.type, enabled=False):
            tensor = wide(tensor)
            for look in looks:
                self._sort(site, layer, look, tensor)

    def _sort(self, site: str, layer: int, look: Look, tensor: Tensor) -> None:
        """Hand each group of samples its tokens."""
        axis = SITES[site].token_axis
        maps = site == "attn_weights"  # whole maps: a row is a distribution over all tokens
        count = tensor.shape[axis]
        self._expect_places(count)
        mask, groups = self._masks[look.class_token], self._groups[look.class_token]
        expect_fits(mask, count)
        if maps:
            tensor = self._rows(tensor, mask, look)
        elif not look.class_token and groups[0].rows is None:
            tensor = without(tensor, axis, self._extra)
        for g, group in enumerate(groups):
            self._take(site, layer, look, g, Group(group.rows) if maps else group, tensor)
        if not maps:
            self._windows.add(count)
        self.tokens["change"] = max(self.tokens["change"], int(len(self._windows) > 1))
        self.tokens["all"] = max(self.tokens["all"], count)
        self.tokens["patches"] = max(self.tokens["patches"], count - len(self._extra))

    def _expect_places(self, count: int) -> None:
        if self._extra and self._extra[-1] >= count:
            raise DataError(
                f"token {self._extra[-1]} is not there, counted from 0",
                f"the layers have {count} tokens",
                "State the places that the model has (class_token=, prefix_tokens= of wrap)",
            )

    def _rows(self, maps: Tensor, mask: Tensor | None, look: Look) -> Tensor:
        """Attention maps with zeros in the rows of tokens that are not measured: (B, K, n, n)."""
        counted = mask  # (B, n)
        if counted is None:
            if look.class_token:
                return maps
            everywhere = torch.ones(1, maps.shape[-2], dtype=torch.bool)
            counted = ~at_places(everywhere, self._extra)
        return maps.where(counted.to(maps.device)[:, None, :, None], 0.0)

    def _take(
        self, site: str, layer: int, look: Look, g: int, group: Group, tensor: Tensor
    ) -> None:
        at = (layer, look, g)
        if at not in self._open:
            self._open[at] = self._opened(layer, look, self._groups[look.class_token][g])
        here = self._open[at]
        mine = group.take(tensor, SITES[site].token_axis)
        owned = mine is not tensor
        if look.null is not None and SITES[site].role != "map":
            mine, owned = self._nullified(mine, site, layer, look.null, group), True
        here.products.tokens[site] = mine
        held = set(here.products.tokens)
        for m in [m for m in here.waiting if m.needs <= held]:
            expect_same_tokens({s: here.products.tokens[s] for s in m.needs}, layer, m.measure.name)
            self._measure(m, here.view(m, self.layers[layer]), layer, group)
            here.waiting.remove(m)
        for each in held:
            if not here.wants(each):
                here.products.forget(each)
            elif each == site and not owned:
                # It outlives its hook, and a later in-place operation could overwrite it.
                here.products.tokens[site] = mine.clone()
        if not here.waiting:
            del self._open[at]

    def _opened(self, layer: int, look: Look, group: Group) -> _Open:
        class_index = self._class_index if look.class_token else None
        products = Products(
            {},
            operators=self.layers[layer].operators,
            extra=self._extra,
            grid=self._grid,
            class_index=class_index,
            class_rows=group.rank(class_index, self._first),
            places=group.places(self._first),
            without=() if look.class_token else self._extra,
            ids=group.of(self._ids),
            precisions=self._precisions,
            causal=self.layers[layer].causal,
        )
        return _Open(products, list(self._of_layer[layer][look]))

    def _measure(self, m: Measurement, tokens: LayerTokens, layer: int, group: Group) -> None:
        self._written += 1
        if isinstance(m.measure, DatasetMeasure):
            if not self._again:  # its sums hold the batch already
                labels = None if self._labels is None else group.of(self._labels)
                finite = tokens.at(m.place).flatten(1).isfinite().all(dim=1)
                self.sums(m, layer).total(_NOT_FINITE, (~finite).sum())
                m.measure.add(self.sums(m, layer), tokens, m.place, labels)
            return
        assert isinstance(m.measure, SampleMeasure)
        value = m.measure.measure(tokens, m.place)
        if value.ndim == 2:  # one value a head: (B, K)
            if not self._again:
                self.sums(m, layer).total(_PER_HEAD, value.sum(dim=0))
            value = value.mean(dim=1)
        left_out = m.measure.left_out(tokens, m.place)
        if left_out is not None and not self._again:
            of = left_out.new_tensor(tokens.at(m.place).shape[:-1].numel())
            self.sums(m, layer).total(_LEFT_OUT, torch.stack([left_out.sum(), of]))
        undefined = m.measure.undefined(tokens, m.place)
        if undefined is not None:
            value = value.masked_fill(undefined, NOTHING)
        self.table.write(layer, self.columns[m], value, group.rows)

    def sums(self, m: Measurement, layer: int) -> Sums:
        """The sums of a measurement in a layer."""
        return self._sums.setdefault((self._number[m], layer), Sums())

    def head_sums(self) -> dict[tuple[Measurement, int], Tensor]:
        """(measurement, layer) -> each head's sum over samples, where it has a value a head."""
        return {
            (m, n): self.sums(m, n)[_PER_HEAD]
            for m in self.columns
            for n in sorted(m.layers)
            if _PER_HEAD in self.sums(m, n)
        }

    def left_out(self, m: Measurement, layer: int) -> tuple[int, int]:
        """How many tokens of all samples have no value of a measurement, and of how many."""
        sums = self.sums(m, layer)
        some, of = sums[_LEFT_OUT].tolist() if _LEFT_OUT in sums else (0, 0)
        return int(some), int(of)

    def not_finite(self, m: Measurement, layer: int) -> int:
        """How many samples a measure of all together was given that are not finite."""
        sums = self.sums(m, layer)
        return int(sums[_NOT_FINITE]) if _NOT_FINITE in sums else 0

    def _nullified(self, Z: Tensor, site: str, layer: int, kind: str, group: Group) -> Tensor:
        """The null's tokens, drawn for each sample by its own number: order does not show."""
        null = nulls.null_named(kind)
        out = torch.empty_like(Z)
        for row, sample in enumerate(group.of(self._ids).tolist()):
            out[row] = null.tokens(Z[row], nulls.generator(self._seed, kind, sample, layer, site))
        return out

    def check(self) -> None:
        """After a batch: every measure of every layer was taken exactly once.

        Raises: SiteError.
        """
        expected = sum(
            len(of) * len(self._groups[look.class_token])
            for looks in self._of_layer.values()
            for look, of in looks.items()
        )
        if self._written != expected:
            raise SiteError(
                f"{self._written} of {expected} measures were taken",
                *NOT_ONCE,
            )
        self._written = 0

    def state(self) -> State:
        """What has been measured so far, on the host."""
        ids, identities, values = self.table.kept()
        sums: dict[tuple[int, int, str], tuple[str, np.ndarray]] = {}
        for (number, layer), of in self._sums.items():
            for name, kind, value in of.items():
                sums[number, layer, name] = (kind, value.numpy(force=True))
        return State(
            ids, identities, values, dict(self.tokens), dict(self.classes), sums, dict(self.skipped)
        )

    def restore(self, state: State, device: torch.device | str = "cpu") -> None:
        """Go on from a state, in place of what has been measured here."""
        self.table.put_back(state.ids, state.identities, state.values)
        self.tokens, self.classes = dict(state.tokens), dict(state.classes)
        self.skipped = dict(state.skipped)
        self._sums.clear()
        for (number, layer, name), (kind, value) in state.sums.items():
            of = self._sums.setdefault((number, layer), Sums())
            of.put(name, kind, torch.from_numpy(np.array(value)).to(_home(kind, device)))

    def merge(self, states: Sequence[State]) -> None:
        """Hold what several processes have measured, in their order."""
        self.table.put_back(
            np.concatenate([each.ids for each in states]),
            np.concatenate([each.identities for each in states]),
            np.concatenate([each.values for each in states]),
        )
        self.tokens = {k: max(each.tokens[k] for each in states) for k in self.tokens}
        self.skipped = {n: why for each in states for n, why in each.skipped.items()}
        self.classes = {n: c for each in states for n, c in each.classes.items()}
        whole: dict[tuple[int, int], Sums] = {}
        for each in states:
            parts: dict[tuple[int, int], Sums] = {}
            for (number, layer, name), (kind, value) in each.sums.items():
                part = parts.setdefault((number, layer), Sums())
                part.put(name, kind, torch.from_numpy(np.array(value)))
            for place, part in parts.items():
                whole.setdefault(place, Sums()).merge(part)
        self._sums = whole


def _home(kind: str, device: torch.device | str) -> torch.device | str:
    """Rows are kept on the host, sums where they are added to."""
    return "cpu" if kind == "rows" else device
