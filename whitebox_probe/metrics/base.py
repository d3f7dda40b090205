"""What every measure shares: the tokens of a layer, per-sample accumulation, the catalogue.

A measure is one file: pure functions, and a `SampleMetric` (one value a sample) or `WeightMetric`
(values of the subspaces alone) that calls them. A metric sees tensors, never a model.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from whitebox_probe import metrics
from whitebox_probe._core import discover
from whitebox_probe._core.checks import expect_finite
from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.metrics import _linalg

CONVENTIONS = ("paper", "official")
HEADS = "{heads}"
"""Stands for the family's site of per-head tokens: `heads`, or `heads_k` and its like."""


class LayerTokens:
    """The tokens of one layer and batch, with the products that several measures share.

    Args:
        tokens: site -> tensor. U: the layer's subspaces, (K, d, p), if a measure needs them.
    """

    def __init__(self, tokens: dict[str, Tensor], U: Tensor | None = None) -> None:
        self.tokens = tokens
        self.U = U
        self._memo: dict[tuple[str, str], Tensor] = {}

    def once(self, what: str, site: str, compute: Callable[[], Tensor]) -> Tensor:
        """Compute a product of a site's tokens once, however many measures ask for it."""
        key = (what, site)
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]

    def gram(self, site: str) -> Tensor:
        """The smaller Gram matrix of the site's tokens, (B, m, m)."""
        return self.once("gram", site, lambda: _linalg.gram(self.tokens[site]))

    def head_gram(self, site: str) -> Tensor:
        """The smaller Gram matrix of the tokens in each head's subspace, (B, K, m, m)."""
        return self.once("head_gram", site, lambda: _linalg.gram(self.heads(site)))

    def heads(self, site: str) -> Tensor:
        """The tokens in each head's subspace, (B, K, n, p)."""
        return self.once("heads", site, lambda: project(self.tokens[site], self.U))

    def forget(self, site: str) -> None:
        """Let go of a site's tokens and of what was computed from them."""
        self.tokens.pop(site, None)
        for key in [key for key in self._memo if key[1] == site]:
            del self._memo[key]


def project(Z: Tensor, U: Tensor | None) -> Tensor:
    """Tokens in each subspace: Z U_k.

    Shapes: Z (B, n, d), U (K, d, p) -> (B, K, n, p).
    """
    if U is None:
        raise ProbeError(
            "subspaces are missing", "this measure needs a basis U", "Pass U as (K, d, p)"
        )
    K, d, p = U.shape
    side_by_side = U.to(Z).transpose(0, 1).reshape(d, K * p)  # one product for all heads
    return (Z @ side_by_side).unflatten(-1, (K, p)).transpose(1, 2)


class SampleMetric(Metric, ABC):
    """A measure with one value a sample, accumulated as (sample id, value).

    Samples are sorted by id before they are reduced, so that neither batch size nor order nor the
    number of processes shows in the result.

    Class attributes:
        name: in tables. unit: nats, share, ... formula: as in the paper, in plain text.
        source: paper and equation. site: convention -> the site measured when none is named.
        needs_basis: whether U is used. invariances: what leaves the value unchanged (tested).
        ddof: convention -> delta degrees of freedom of the reported std.
    """

    full_state_update = False
    name: ClassVar[str]
    unit: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    site: ClassVar[Mapping[str, str]]
    needs_basis: ClassVar[bool] = False
    default: ClassVar[bool] = True
    invariances: ClassVar[frozenset[str]] = frozenset()
    ddof: ClassVar[Mapping[str, int]] = {"paper": 1, "official": 1}

    ids: Tensor
    values: Tensor

    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if convention not in self.site:
            raise ProbeError(
                f"metric '{self.name}' has no convention '{convention}'",
                "the release does not define it" if convention == "official" else "it is unknown",
                f"Use one of: {', '.join(self.site)}",
            )
        self.convention = convention
        # Unused rows carry the id -1: growth by doubling avoids one small tensor a batch, and
        # concatenation over processes stays a plain gather.
        self.add_state("ids", torch.empty(0, dtype=torch.int64), dist_reduce_fx="cat")
        self.add_state("values", torch.empty(0, dtype=torch.float64), dist_reduce_fx="cat")

    def inputs(self, site: str) -> tuple[str, ...]:
        """The sites whose tokens one measurement at `site` needs."""
        return (site,)

    @abstractmethod
    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """One float64 value a sample, (B,); NaN where the tokens are not finite."""

    def update(self, Z: Tensor, U: Tensor | None = None, ids: Tensor | None = None) -> None:
        """Add a batch of tokens.

        Shapes: Z as its site says, (B, n, d) or (B, K, n, p); U (K, d, p); ids (B,).
        Raises: NonFiniteError; ShapeError; ProbeError when U is needed and missing.
        """
        site = self.site[self.convention]
        tokens = {site: Z}
        if HEADS in self.inputs(site) and site != HEADS:
            tokens[HEADS] = project(Z, U)
        value = expect_finite(self.measure(LayerTokens(tokens, U), site), name=self.name)
        used = int((self.ids >= 0).sum())
        if ids is None:
            ids = torch.arange(used, used + len(value))
        self._grow(used + len(value))
        self.ids[used : used + len(value)] = ids
        self.values[used : used + len(value)] = value

    def _grow(self, rows: int) -> None:
        spare = max(rows, 2 * len(self.ids)) - len(self.ids)
        if rows > len(self.ids):
            self.ids = torch.cat([self.ids, self.ids.new_full((spare,), -1)])
            self.values = torch.cat([self.values, self.values.new_zeros(spare)])

    def samples(self) -> Tensor:
        """The values so far, (N,), sorted by sample id."""
        used = self.ids >= 0
        return self.values[used][self.ids[used].argsort(stable=True)]

    def compute(self) -> Tensor:
        """The mean over samples."""
        return self.samples().mean()


class WeightMetric(Metric, ABC):
    """A measure of a layer's subspaces alone: no data, no interval.

    Class attributes as in `SampleMetric`. `rows` are the names in the table, one number each;
    `matrices` the names of the matrices it gives.
    """

    full_state_update = False
    name: ClassVar[str]
    unit: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    rows: ClassVar[tuple[str, ...]]
    default: ClassVar[bool] = True
    needs_basis: ClassVar[bool] = True

    U: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("U", torch.empty(0), dist_reduce_fx=None)

    def update(self, U: Tensor) -> None:
        """Set the subspaces, (K, d, p)."""
        self.U = U

    @abstractmethod
    def measure(self, U: Tensor) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Numbers and matrices of subspaces U, (K, d, p)."""

    def compute(self) -> dict[str, float]:
        """The numbers of the subspaces last given."""
        return self.measure(self.U)[0]


@cache
def catalogue() -> dict[str, type[SampleMetric] | type[WeightMetric]]:
    """Every metric class of this folder, by its name in tables."""
    found: dict[str, type[SampleMetric] | type[WeightMetric]] = {}
    for module in discover.modules(metrics):
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if isinstance(thing, type) and issubclass(thing, SampleMetric | WeightMetric):
                discover.unique(found, thing.name, thing)
    return found


def metric_named(name: str) -> type[SampleMetric] | type[WeightMetric]:
    """The metric class of that name.

    Raises: ProbeError with the nearest name.
    """
    if name not in catalogue():
        raise ProbeError(
            f"unknown metric '{name}'", "the catalogue does not hold it", nearest(name, catalogue())
        )
    return catalogue()[name]
