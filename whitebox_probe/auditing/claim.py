"""What a claim is: what it says, what is measured for it, its statistic, and how it is judged.

A claim is one file in `claims/` with one subclass of `Claim`; `claims()` finds them, and those that
other packages add. No verdict is worded by hand: a claim has one effect with its interval and its
test, and conditions that must hold beside it, by the numbers of `Thresholds`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from whitebox_probe._core import discover
from whitebox_probe.auditing import claims as rooms
from whitebox_probe.auditing.grid import AXES, Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.probing.plan import Request
from whitebox_probe.stats import fewest_layers, fewest_steps, mean_interval, paired_p, sign_p

WALKS = "its steps do not tell it from a walk without a direction"
OVER_LAYERS = 3
"""Claims about curves over depth, which share the level of the sign test of their steps."""
GROUP = "whitebox_probe.claims"
Array = np.ndarray


@dataclass(frozen=True)
class Use:
    """A measure that a claim uses: name, place, convention, and whether bases are orthonormal."""

    metric: str
    site: str | None = None
    convention: str | None = "paper"
    orthonormal: bool = False


@dataclass(frozen=True)
class Finding:
    """The effect that a claim is about, in one result and under one setting.

    Attributes:
        value: the effect, in the claim's unit. low, high: its 95% interval over samples.
        compared: what has to be beyond random weights: the value, or of it the part that controls
            leave, where large weights without training have a value as well.
        p: two-sided, of no effect; `tested` says what was drawn or permuted.
        side: 1 where effect and conditions support the claim, -1 where they contradict it, 0 where
            they do neither; whether that may be chance is not looked at.
        why: what it lacks to be supported; "" where it lacks nothing.
        parts: other numbers of it, by name.
        missing: why there is none.
        few: why it is too small a thing to be judged, as a trend over four layers; it is told.
    """

    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")
    tested: Literal["samples", "layers", "random subspaces", ""] = ""
    side: int = 0
    why: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    missing: str = ""
    few: str = ""
    compared: float = float("nan")

    def __post_init__(self) -> None:
        """The value itself, where no part of it is named."""
        if math.isnan(self.compared):
            object.__setattr__(self, "compared", self.value)


class Claim(ABC):
    """One claim of the principle.

    Class attributes:
        name: in tables. text: in words. statistic: what its effect is. unit: of the effect.
        rule: when it is supported. null: what random weights would have to do for the claim to say
        nothing of the training.
        uses: what is measured for it; the first shows it against depth. compares: what of it random
        weights are measured by, all of it where that is not given.
        wants: `low` or `high` values of the effect.
        keeps: the axes of the grid under which it keeps its meaning: one of them that overturns the
            verdict is told in its place. loses: those under which it does not -> why.
        place: where it stands among the others, which are in the order of the derivation.
        of_one_size: whether it compares rates of layers, which have to hold the same tokens.
        exempt: a contract of tests/contract/test_every_claim.py -> why it does not apply.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    statistic: ClassVar[str]
    unit: ClassVar[str]
    rule: ClassVar[str]
    uses: ClassVar[Sequence[Use]]
    compares: ClassVar[Sequence[Use]] = ()
    wants: ClassVar[Literal["low", "high"]]
    keeps: ClassVar[Sequence[str]] = ()
    loses: ClassVar[Mapping[str, str]] = {}
    place: ClassVar[int] = 100
    of_one_size: ClassVar[bool] = False
    exempt: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """The effect in a model's result, and whether it is on the claim's side."""

    @abstractmethod
    def sentence(self, found: Finding) -> str:
        """What was found, in one plain sentence with its numbers."""

    def compared(self, result: Readings, setting: Setting, thresholds: Thresholds) -> float:
        """What random weights show of the number that has to be beyond theirs.

        A claim with `compares` reads it from these measures alone: controls and conditions are of
        the model, and of many draws they cost the most. NaN where they show nothing.
        """
        return self.find(result, setting, thresholds).compared

    def requests(self, setting: Setting) -> list[Request]:
        """What is measured for it under a setting."""
        return [self._request(use, setting) for use in self.uses]

    def compared_requests(self, setting: Setting) -> list[Request]:
        """What is measured for it of random weights."""
        if not self.compares:
            return self.requests(setting)
        return [
            self._request(use, setting) for use in dict.fromkeys((self.uses[0], *self.compares))
        ]

    @staticmethod
    def _request(use: Use, setting: Setting) -> Request:
        return Request(
            metric=use.metric,
            site=use.site,
            convention=use.convention,
            basis=setting.basis,
            orthonormal=setting.orthonormal(use.orthonormal),
            prenorm=setting.prenorm,
            class_token=setting.class_token,
            eps=setting.eps,
            lam=setting.lam,
        )

    def looks_at(self, setting: Setting) -> bool:
        """Whether another setting than the usual one is looked at for this claim."""
        return setting.axis in self.keeps or setting.axis in self.loses

    def rows(self, result: Readings, use: Use, setting: Setting) -> pd.DataFrame:
        """A measure against depth, a row a layer."""
        return result.curve(use.metric, use.site, self._where(use, setting))

    def counts(self, result: Readings, use: Use, setting: Setting) -> Array:
        """Of how many samples or pairs of heads, (layers,)."""
        return result.counts(use.metric, use.site, self._where(use, setting))

    def values(self, result: Readings, use: Use, setting: Setting) -> Array:
        """The same, (samples, layers)."""
        return result.values(use.metric, use.site, self._where(use, setting))

    @staticmethod
    def _where(use: Use, setting: Setting) -> dict[str, Any]:
        where = setting.where(orthonormal=use.orthonormal)
        if use.convention == "official":
            del where["prenorm"]  # which the release always applies
        return where if use.convention is None else where | {"convention": use.convention}

    def curve(self, result: Readings, setting: Setting) -> pd.DataFrame:
        """What shows it against depth."""
        return self.rows(result, self.uses[0], setting)


def from_layer(values: Array, first: int) -> Array:
    """The columns from a layer on; of values (samples, layers)."""
    return values[:, first - 1 :]


def walks(curve: Array, thresholds: Thresholds) -> bool:
    """Whether the steps of a curve could as well have gone the other way each.

    By a sign test at a level that the claims over layers share (Bonferroni).

    Shapes: curve (L,).
    """
    return not sign_p(np.diff(curve)) <= thresholds.alpha / OVER_LAYERS


def one_way(means: Array, side: int, thresholds: Thresholds) -> bool:
    """Whether what layers do has a side that no chance of theirs gives it, by a sign test.

    Where layers are too few for the test, all of them have to be on that side.

    Shapes: means (L,).
    """
    if len(means) < fewest_steps(thresholds.alpha):
        return bool((np.sign(means) == side).all())
    return sign_p(means) <= thresholds.alpha


def too_few(layers: int, thresholds: Thresholds) -> str:
    """Why so many layers tell no trend from chance, and no walk from a direction; "" if they do."""
    steps = fewest_steps(thresholds.alpha / OVER_LAYERS)
    least = max(fewest_layers(thresholds.alpha), steps + 1)
    return f"{layers} layers are too few to tell a trend from chance" if layers < least else ""


def mean_of(values: Array, *, seed: int = 0) -> tuple[float, float, float]:
    """The mean of one value a sample, with its 95% interval."""
    low, high = mean_interval(values[:, None], seed=seed)
    return float(values.mean()), float(low[0]), float(high[0])


def ratio_of(above: Array, below: Array, *, seed: int = 0) -> tuple[float, float, float, float]:
    """Mean of one over the mean of another, its interval, and the p of a ratio of 0.

    By the delta method: samples enter through the linearisation of the ratio. NaN where the other
    one is zero, as of a layer whose subspaces hold nothing.
    """
    if not below.mean():
        return math.nan, math.nan, math.nan, math.nan
    ratio = float(above.mean() / below.mean())
    spread = (above - ratio * below) / below.mean()
    _, low, high = mean_of(spread, seed=seed)
    return ratio, ratio + low, ratio + high, paired_p(spread + ratio)


def shares(found: Array, side: int) -> float:
    """Share of layers whose mean has a sign; of values (samples, layers)."""
    return float((np.sign(found.mean(axis=0)) == side).mean())


@cache
def claims() -> dict[str, Claim]:
    """Every claim by its name, in their order.

    Raises: PluginError for another package's claim that cannot be had, or whose name is taken.
    """
    kinds = discover.subclasses(rooms, Claim)  # type: ignore[type-abstract]
    what = "a subclass of Claim of that name"
    kinds |= discover.added(GROUP, kinds, partial(discover.one_of, Claim), what)
    found = {name: kind() for name, kind in kinds.items()}
    for claim in found.values():
        assert {*claim.keeps, *claim.loses} <= set(AXES), f"{claim.name} names other axes"
    return dict(sorted(found.items(), key=lambda item: (item[1].place, item[0])))
