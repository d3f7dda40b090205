"""What a measure is: its name, formula and unit, what it needs, what it costs, and how it is taken.

A measure is one file: pure functions, and a `SampleMeasure` (one value a sample), `DatasetMeasure`
(numbers of all samples together) or `WeightMeasure` (numbers of the subspaces alone) that calls
them. It sees tensors, never a model. Its fields are its parameters, such as `eps`: all that its
number depends on besides what it is taken of.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.metrics._parameters import KINDS, expect_parameter
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.tokens import LayerTokens


def _kind(annotation: Any) -> Any:
    """A field's annotation, also where its file keeps them as texts."""
    named = {getattr(kind, "__name__", ""): kind for kind in KINDS}
    return named.get(annotation, annotation) if isinstance(annotation, str) else annotation


@dataclass(frozen=True, kw_only=True)
class Measure(ABC):
    """What all measures state of themselves.

    Class attributes:
        name: in tables. unit: nats, share, ... formula: as in the paper, in plain text; tex: the
        same as a page sets it. misleads: when its value says something else than it seems to.
        source: paper and equation. group: rate, sparsity, geometry, attention, fidelity, class or
        coherence. cost: of one measurement. default: whether it is measured when none is named.
        heavy: alone it adds more than a tenth of the forward pass (benchmarks/RESULTS.md).
        needs_basis: whether U is used. uses_norm: whether rates of the residual stream are taken,
        so that the attention norm matters. needs_packages: each optional module
        that it imports -> how it is installed; looked for before any pass.
        invariances: what leaves the value unchanged (tested).
        exempt: contract -> why it does not hold for this measure (tests/contract).
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    formula: ClassVar[str]
    tex: ClassVar[str] = ""
    misleads: ClassVar[str] = ""
    source: ClassVar[str]
    group: ClassVar[str] = ""
    cost: ClassVar[str] = "O(n d)"
    heavy: ClassVar[bool] = False
    default: ClassVar[bool] = False
    needs_basis: ClassVar[bool] = False
    uses_norm: ClassVar[bool] = False
    needs_packages: ClassVar[Mapping[str, str]] = {}
    invariances: ClassVar[frozenset[str]] = frozenset()
    exempt: ClassVar[Mapping[str, str]] = {}

    def __post_init__(self) -> None:
        """Raises: SettingError for a parameter that cannot have its value."""
        for each in fields(self):
            kind = _kind(each.type)
            found = expect_parameter(each.name, getattr(self, each.name), kind)
            of_tensor = kind is float and hasattr(found, "item")  # settings are plain values
            object.__setattr__(self, each.name, found.item() if of_tensor else found)

    def parameters(self) -> dict[str, Any]:
        """Its parameters by name, the convention among them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def takes(cls, parameter: str) -> bool:
        """Whether it has a parameter of that name."""
        return any(field.name == parameter for field in fields(cls))


@dataclass(frozen=True, kw_only=True)
class TokenMeasure(Measure):
    """What measures of tokens share: the site where they are taken.

    Class attributes: site: convention -> the site measured when none is named.
        code_site: the site that is taken instead, in a model that has it.
        needs_operators: parts of the layer's own steps that are used.
        needs_class_token: whether the class token is looked at, so that none can be left out.
        official_norm: whether the official convention takes the norm too, always, where it is
        measured in the residual stream.
        attends_first: whether it is of a step that attention takes first: layers where it comes
        second are left out.
    """

    site: ClassVar[Mapping[str, str]]
    code_site: ClassVar[str | None] = None
    needs_operators: ClassVar[tuple[str, ...]] = ()
    needs_class_token: ClassVar[bool] = False
    official_norm: ClassVar[bool] = False
    attends_first: ClassVar[bool] = False

    convention: str = "paper"

    def __post_init__(self) -> None:
        """Raises: ProbeError for a convention that it does not have; SettingError."""
        super().__post_init__()
        if self.convention not in self.site:
            official = self.convention == "official"
            raise ProbeError(
                f"metric '{self.name}' has no convention '{self.convention}'",
                "the release does not define it" if official else "it is unknown",
                f"Use one of: {', '.join(self.site)}",
            )

    def inputs(self, site: str) -> tuple[str, ...]:
        """The sites whose tokens one measurement at `site` needs."""
        return (site,)


@dataclass(frozen=True, kw_only=True)
class SampleMeasure(TokenMeasure):
    """A measure with one value a sample.

    Class attributes:
        label: the axis of a figure, in mathtext; `<Z>` stands for the site's tokens
        (`<raw>`: as they are, where rates are of normed ones).
        better: which way the principle wants it, `lower` or `higher`, if any.
        ddof: convention -> delta degrees of freedom of the reported std.
        lacks: what tokens without a value are, such as `zero`, if there may be any.
        none_where: what is said of samples without a value, `{}` for how many, where there may be
        any for another reason than that all their tokens lack one.
    """

    default: ClassVar[bool] = True
    label: ClassVar[str] = ""
    better: ClassVar[str | None] = None
    ddof: ClassVar[Mapping[str, int]] = {"paper": 1, "official": 1}
    lacks: ClassVar[str] = ""
    none_where: ClassVar[str] = ""

    @abstractmethod
    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """One float64 value a sample, (B,), or one a head, (B, K); NaN where tokens are not finite.

        Of a value a head the table holds the mean over heads, and `Result.matrices` each head's.
        """

    def left_out(self, layer: LayerTokens, site: str) -> Tensor | None:
        """How many tokens of each sample have no value, (B,) or (B, K); None where all have one.

        A sample of none but such tokens is NaN, and the table says why.
        """
        return None

    def undefined(self, layer: LayerTokens, site: str) -> Tensor | None:
        """Which samples of finite tokens have no value, (B,); None where all have one.

        They are NaN, and the table says why: by `lacks`, or `none_where`.
        """
        left_out = self.left_out(layer, site)
        return None if left_out is None else _lacking(left_out, layer.at(site))

    @classmethod
    def why_none(cls, lacking: str) -> str:
        """Why samples have no value, of how many it is said; empty where each has one."""
        told = cls.none_where or (f"all entries of {{}} are {cls.lacks}" if cls.lacks else "")
        return told.format(lacking)


def _lacking(left_out: Tensor, Z: Tensor) -> Tensor:
    """Which samples have no value, (B,): all their tokens, or those of a head, are left out.

    Shapes: left_out (B,) or (B, K) of tokens Z (B, n, d) or (B, K, n, p).
    """
    of = left_out.flatten(1) if left_out.ndim > 1 else left_out[:, None]
    return (of == Z.shape[1:-1].numel() // of.shape[1]).any(dim=1)


@dataclass(frozen=True, kw_only=True)
class DatasetMeasure(TokenMeasure):
    """A measure of all samples together, from sums: no value a sample, no interval.

    Neither batch size, order nor the number of processes shows in a sum. Class attributes:
        rows: the names in the table. labels: row -> the axis of a figure. units: row -> its unit,
        where it is another than `unit`.
        needs_labels: whether the samples' classes are used.
    """

    rows: ClassVar[tuple[str, ...]]
    labels: ClassVar[Mapping[str, str]] = {}
    units: ClassVar[Mapping[str, str]] = {}
    needs_labels: ClassVar[bool] = False

    @abstractmethod
    def add(self, sums: Sums, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Add a batch: its tokens, and a class (B,) for each sample where there are any."""

    @abstractmethod
    def numbers(self, sums: Sums) -> dict[str, float]:
        """The numbers of the samples so far, one for each of `rows`."""

    def notes(self, sums: Sums) -> Mapping[str, str]:
        """Row -> what it was taken over beside the count, and why it is NaN where it is."""
        return {}

    def counts(self, sums: Sums) -> Mapping[str, int]:
        """Row -> how many samples are in it, where some are left out."""
        return {}

    def matrices(self, sums: Sums) -> dict[str, Tensor]:
        """Matrices beside the numbers, if any."""
        return {}


@dataclass(frozen=True, kw_only=True)
class WeightMeasure(Measure):
    """A measure of a layer's subspaces alone: no data, no interval.

    Class attributes: rows: the names in the table, one number each. labels: row -> the axis of a
    figure. units: row -> its unit, where it is another than `unit`.
    """

    rows: ClassVar[tuple[str, ...]]
    labels: ClassVar[Mapping[str, str]] = {}
    units: ClassVar[Mapping[str, str]] = {}
    default: ClassVar[bool] = True
    group: ClassVar[str] = "coherence"
    cost: ClassVar[str] = "once a layer: O(K^2 d p^2)"
    needs_basis: ClassVar[bool] = True

    def having(self, U: Tensor) -> Tensor:
        """Which heads of U, (K, d, p), are measured, (K,); zero ones that are left out are told."""
        return torch.ones(len(U), dtype=torch.bool, device=U.device)

    def prepare(self, U: Tensor) -> Tensor:
        """What `measure` and `between` need of subspaces U, (K, d, p), computed once a layer."""
        return U

    @abstractmethod
    def measure(
        self, U: Tensor, prepared: Tensor | None = None
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Numbers and matrices of subspaces U, (K, d, p)."""

    def between(self, first: Tensor, second: Tensor) -> dict[str, float]:
        """Numbers of a layer's subspaces and the next layer's, both as `prepare` gives them."""
        return {}
