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
from whitebox_probe._core import discover, onednn
from whitebox_probe._core.checks import expect_finite
from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics._reduction import Reducible, Sums, first_known, gather_text
from whitebox_probe.sites import SITES

CONVENTIONS = ("paper", "official")
HEADS = "{heads}"
"""Stands for the family's site of per-head tokens: `heads`, or `heads_k` and its like."""


RESIDUAL = ("z_in", "z_half", "z_out")
"""Sites of the residual stream, whose tokens the layer's attention norm brings to its subspaces."""


class LayerTokens:
    """The tokens of one layer and batch, with the products that several measures share.

    Args:
        tokens: site -> tensor. U: the layer's subspaces, (K, d, p), if a measure needs them.
        norm: the layer's attention norm, if rates are taken on normalised tokens.
        operators: what else the layer's steps are made of (`D`, `lam`, `eta`).
        prefix: how many of the tokens stand before the patches.
        spectral: whether rates are taken from eigenvalues, for a sweep over eps.
        ids: the samples' numbers, (B,).
    """

    def __init__(
        self,
        tokens: dict[str, Tensor],
        U: Tensor | None = None,
        *,
        norm: Callable[[Tensor], Tensor] | None = None,
        operators: Mapping[str, Tensor | float] | None = None,
        prefix: int = 0,
        spectral: bool = False,
        ids: Tensor | None = None,
    ) -> None:
        self.ids = ids
        self.tokens = tokens
        self.U = U
        self.norm = norm
        self.operators = operators or {}
        self.prefix = prefix
        self.spectral = spectral
        self._memo: dict[tuple[str, str], Tensor] = {}

    def once(self, what: str, site: str, compute: Callable[[], Tensor]) -> Tensor:
        """Compute a product of a site's tokens once, however many measures ask for it."""
        key = (what, site)
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]

    def normed(self, site: str) -> Tensor:
        """The tokens that rates are taken on: after the attention norm, where one is set."""
        norm, Z = self.norm, self.tokens[site]
        if norm is None or site not in RESIDUAL:
            return Z
        return self.once("normed", site, lambda: _linalg.wide(norm(Z)))

    def magnitudes(self, site: str) -> Tensor:
        """|Z| of a site, (B, n, d), in float32 at least."""
        return self.once("magnitudes", site, lambda: _linalg.wide(self.tokens[site]).abs())

    def norms(self, site: str) -> Tensor:
        """The l2 norm of each token, (B, n)."""
        tokens = self.tokens[site]
        return self.once("norms", site, lambda: _linalg.token_norms(tokens))

    def nonzero(self, site: str) -> Tensor:
        """How many entries of each sample are not exactly zero, (B,)."""
        return self.once(
            "nonzero", site, lambda: _linalg.count_positive(self.magnitudes(site)).sum(dim=-1)
        )

    def gram(self, site: str) -> Tensor:
        """The smaller Gram matrix of the normed tokens, (B, m, m)."""
        return self.once("gram", site, lambda: _linalg.gram(self.normed(site)))

    def head_gram(self, site: str) -> Tensor:
        """The smaller Gram matrix of the tokens in each head's subspace, (B, K, m, m)."""
        return self.once("head_gram", site, lambda: _linalg.gram(self.heads(site)))

    def heads(self, site: str) -> Tensor:
        """The normed tokens in each head's subspace, (B, K, n, p)."""
        return self.once("heads", site, lambda: project(self.normed(site), self.U))

    def pooled(self, site: str, how: str) -> Tensor:
        """One float64 vector a sample: its mean token, or its class token.

        Shapes: (B, n, d) -> (B, d).
        Raises: ProbeError for another word, or when there is no class token.
        """
        Z = self.tokens[site]
        if how == "mean":
            return self.once("mean", site, lambda: _linalg.upcast(Z).mean(dim=-2))
        if how == "class" and self.prefix:
            return _linalg.upcast(Z[..., 0, :])
        raise ProbeError(
            f"tokens cannot be pooled by '{how}'",
            "the model has no class token" if how == "class" else "it says how tokens are pooled",
            "Use 'mean'" if how == "class" else "Use one of: mean, class",
        )

    def half_logdet(self, what: str, site: str, Z: Tensor, G: Tensor, scale: float) -> Tensor:
        """1/2 logdet(I + scale Z^T Z); in a sweep the spectrum is taken once for all scales."""
        if not self.spectral:
            return self.once(f"{what} {scale}", site, lambda: _linalg.half_logdet(Z, G, scale))
        # Of a product in float64: the smallest of a sweep's eps needs the smallest eigenvalues.
        spectrum = self.once(
            f"{what} spectrum", site, lambda: _linalg.spectrum(_linalg.gram(_linalg.upcast(Z)))
        )
        return _linalg.half_logdet_of_spectrum(Z, spectrum, scale)

    def operator(self, name: str) -> Tensor | float:
        """A part of the layer's own steps.

        Raises: ProbeError when the family has none.
        """
        if name not in self.operators:
            raise ProbeError(
                f"the layer has no {name}",
                "its second step is not a proximal one",
                "Leave this measure out for models of this family",
            )
        return self.operators[name]

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
    side_by_side = U.to(Z).mT.reshape(K * p, d)  # one product for all heads
    # In one piece: products of strided heads take several times as long.
    return onednn.linear(Z, side_by_side).unflatten(-1, (K, p)).transpose(1, 2).contiguous()


class SampleMetric(Reducible, ABC):
    """A measure with one value a sample, accumulated as (sample id, value).

    Samples are sorted by id before they are reduced, so that neither batch size nor order nor the
    number of processes shows in the result.

    Class attributes:
        name: in tables. unit: nats, share, ... formula: as in the paper, in plain text.
        source: paper and equation. site: convention -> the site measured when none is named.
        label: the axis of a figure, in mathtext; `<Z>` stands for the site's tokens
        (`<raw>`: as they are, where rates are of normed ones). group: rate,
        sparsity, geometry, attention or fidelity. cost: of one measurement.
        needs_basis: whether U is used. needs_operators: parts of the layer's own steps that are.
        heavy: alone it adds more than a tenth of the forward pass (benchmarks/RESULTS.md).
        better: which way the principle wants it, `lower` or `higher`, if any.
        invariances: what leaves the value unchanged (tested).
        ddof: convention -> delta degrees of freedom of the reported std.
    """

    full_state_update = False
    name: ClassVar[str]
    unit: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    site: ClassVar[Mapping[str, str]]
    label: ClassVar[str] = ""
    group: ClassVar[str] = ""
    cost: ClassVar[str] = "O(n d)"
    heavy: ClassVar[bool] = False
    better: ClassVar[str | None] = None
    needs_basis: ClassVar[bool] = False
    needs_operators: ClassVar[tuple[str, ...]] = ()
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
        """One float64 value a sample, (B,), or one a head, (B, K); NaN where tokens are not finite.

        Of a value a head the table holds the mean over heads, and `Result.matrices` each head's.
        """

    def update(
        self,
        Z: Tensor,
        U: Tensor | None = None,
        ids: Tensor | None = None,
        *,
        prefix: int = 0,
        **others: Tensor | float,
    ) -> None:
        """Add a batch of tokens.

        Shapes: Z as its site says, (B, n, d) or (B, K, n, p); U (K, d, p); ids (B,).
        Args:
            prefix: how many tokens stand before the patches.
            others: tokens at further sites that the measure needs (`attn_out=...`), and parts of
                the layer's steps (`D=..., lam=0.1`).

        Raises: NonFiniteError; ShapeError; ProbeError when something that is needed is missing.
        """
        site = self.site[self.convention]
        given = {k: v for k, v in others.items() if k in SITES and isinstance(v, Tensor)}
        tokens = {site: Z, **given}
        if HEADS in self.inputs(site) and site != HEADS:
            tokens[HEADS] = project(Z, U)
        missing = [name for name in self.inputs(site) if name not in tokens]
        if missing:
            raise ProbeError(
                f"tokens at {', '.join(missing)} are missing",
                f"'{self.name}' is taken of more than one site",
                f"Pass {missing[0]}= beside Z",
            )
        operators = {name: value for name, value in others.items() if name not in SITES}
        layer = LayerTokens(tokens, U, operators=operators, prefix=prefix)
        value = expect_finite(self.measure(layer, site), name=self.name)
        value = value if value.ndim == 1 else value.mean(dim=1)
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

    def _agree(self, group: Any | None) -> None:
        """As many rows everywhere; those that are filled in are unused ones."""
        lengths = gather_text(str(len(self.ids)), device=self.device, group=group)
        spare = max(map(int, lengths)) - len(self.ids)
        self.ids = torch.cat([self.ids, self.ids.new_full((spare,), -1)])
        self.values = torch.cat([self.values, self.values.new_zeros(spare)])

    def samples(self) -> Tensor:
        """The values so far, (N,), sorted by sample id."""
        used = self.ids >= 0
        return self.values[used][self.ids[used].argsort(stable=True)]

    def compute(self) -> Tensor:
        """The mean over samples."""
        return self.samples().mean()


class DatasetMetric(Sums, ABC):
    """A measure of all samples together, from streamed sums: no value a sample, no interval.

    Every state is a float64 sum (`total`), or rows that `numbers` sorts, so that neither batch
    size, order nor the number of processes shows. Class attributes as in `SampleMetric`; `rows`
    are the names in the table.
    """

    full_state_update = False
    name: ClassVar[str]
    unit: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]
    site: ClassVar[Mapping[str, str]]
    rows: ClassVar[tuple[str, ...]]
    labels: ClassVar[Mapping[str, str]] = {}
    group: ClassVar[str] = ""
    cost: ClassVar[str] = "O(n d)"
    heavy: ClassVar[bool] = False
    needs_basis: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    default: ClassVar[bool] = False

    def __init__(self, *, convention: str = "paper", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convention = convention

    def inputs(self, site: str) -> tuple[str, ...]:
        """The sites whose tokens one measurement at `site` needs."""
        return (site,)

    @abstractmethod
    def add(self, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Add a batch: its tokens, and a class (B,) for each sample where there are any."""

    def update(self, Z: Tensor, U: Tensor | None = None, labels: Tensor | None = None) -> None:
        """Add a batch of tokens.

        Shapes: Z as its site says; U (K, d, p); labels (B,).
        """
        site = self.site["paper"]
        self.add(LayerTokens({site: Z}, U), site, labels)

    @abstractmethod
    def numbers(self) -> dict[str, float]:
        """The numbers of the samples so far, one for each of `rows`."""

    def compute(self) -> dict[str, float]:
        """The numbers, as `numbers` gives them."""
        return self.numbers()

    def matrices(self) -> dict[str, Tensor]:
        """Matrices beside the numbers, if any."""
        return {}


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
    labels: ClassVar[Mapping[str, str]] = {}
    group: ClassVar[str] = "coherence"
    cost: ClassVar[str] = "once a layer: O(K^2 d p^2)"
    heavy: ClassVar[bool] = False
    default: ClassVar[bool] = True
    needs_basis: ClassVar[bool] = True

    U: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("U", torch.empty(0), dist_reduce_fx=first_known)  # the same everywhere

    def update(self, U: Tensor) -> None:
        """Set the subspaces, (K, d, p)."""
        self.U = U

    @abstractmethod
    def measure(self, U: Tensor) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Numbers and matrices of subspaces U, (K, d, p)."""

    def between(self, U: Tensor, V: Tensor) -> dict[str, float]:
        """Numbers of a layer's subspaces U and the next layer's V, both (K, d, p), if any."""
        return {}

    def compute(self) -> dict[str, float]:
        """The numbers of the subspaces last given."""
        return self.measure(self.U)[0]


Kind = type[SampleMetric] | type[DatasetMetric] | type[WeightMetric]


@cache
def catalogue() -> dict[str, Kind]:
    """Every metric class of this folder, by its name in tables."""
    found: dict[str, Kind] = {}
    for module in discover.modules(metrics):
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if isinstance(thing, type) and issubclass(
                thing, SampleMetric | DatasetMetric | WeightMetric
            ):
                discover.unique(found, thing.name, thing)
    return found


def metric_named(name: str) -> Kind:
    """The metric class of that name.

    Raises: ProbeError with the nearest name.
    """
    if name not in catalogue():
        raise ProbeError(
            f"unknown metric '{name}'", "the catalogue does not hold it", nearest(name, catalogue())
        )
    return catalogue()[name]
