"""What a claim is: what it says, what is measured for it, its statistic, and how it is judged.

A claim is one file in `claims/` with one subclass of `Claim`; `claims()` finds them, and those that
other packages add. No verdict is worded by hand: a claim has one statistic with a 95% interval, and
a rule with the thresholds of `Thresholds`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from whitebox_probe._core import discover
from whitebox_probe.auditing import claims as rooms
from whitebox_probe.auditing.verdicts import (
    CONTRADICTED,
    NOT_APPLICABLE,
    NOT_JUDGED,
    NOT_SUPPORTED,
    SUPPORTED,
    Thresholds,
)
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.plan import Request
from whitebox_probe.results.result import Result
from whitebox_probe.results.run import QR
from whitebox_probe.stats import mean_interval

GROUP = "whitebox_probe.claims"


@dataclass(frozen=True)
class Statistic:
    """A number with its 95% interval.

    Attributes: second: a second number that the rule looks at. missing: why there is none.
    """

    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    second: float = float("nan")
    missing: str = ""


class Claim(ABC):
    """One claim of the principle.

    Class attributes:
        name: in tables. text: in words. statistic: what is tested. rule: when it is supported.
        metric, where: the measure that shows it against depth, and its settings.
        wants: `low` or `high` values of the statistic.
        place: where it stands among the others, which are in the order of the derivation.
        revised: why there is no verdict while the rule is under revision; "" where there is one.
        exempt: a contract of tests/contract/test_every_claim.py -> why it does not apply.
    """

    name: ClassVar[str]
    text: ClassVar[str]
    statistic: ClassVar[str]
    rule: ClassVar[str]
    metric: ClassVar[str]
    where: ClassVar[Mapping[str, Any]] = {}
    wants: ClassVar[Literal["low", "high"]]
    place: ClassVar[int] = 100
    revised: ClassVar[str] = ""
    exempt: ClassVar[Mapping[str, str]] = {}

    def requests(self, model: ProbeModel) -> Sequence[Request]:
        """What is measured for it: what it shows, unless it says more."""
        settings = {k: v for k, v in self.where.items() if k in ("convention", "orthonormal")}
        return [Request(metric=self.metric, **settings)]

    @abstractmethod
    def take(self, result: Result, thresholds: Thresholds) -> Statistic:
        """The statistic of a model's result."""

    @abstractmethod
    def judge(self, found: Statistic, thresholds: Thresholds) -> str:
        """The verdict on a statistic that is there."""

    def verdict(self, found: Statistic, thresholds: Thresholds) -> str:
        """The verdict, which may be that there is none."""
        if found.missing:
            return NOT_APPLICABLE
        return NOT_JUDGED if self.revised else self.judge(found, thresholds)

    def settings(self, result: Result) -> dict[str, Any]:
        """The settings, as `Result.curve` takes them, of the rows that this claim is about."""
        found = {k: v for k, v in self.where.items() if k != "orthonormal"}
        if "orthonormal" in self.where:
            wanted = self.where["orthonormal"]
            labels = result.run.basis_labels
            found["basis"] = [label for label in labels if label.endswith(QR) == wanted]
        return found

    def curve(self, result: Result) -> pd.DataFrame:
        """What shows it against depth, a row a layer."""
        return result.curve(self.metric, **self.settings(result))

    def values(self, result: Result) -> np.ndarray:
        """The same, a value a sample and layer."""
        return result.values(self.metric, **self.settings(result))


def trend(claim: Claim, result: Result) -> Statistic:
    """Rank correlation of the claim's curve with depth; second: its change over all layers."""
    found = result.trend(claim.metric, **claim.settings(result))
    # What an interval of the change does not exclude is no change.
    sign = found.change if found.change_low * found.change_high > 0 else 0.0
    return Statistic(found.rho, found.rho_low, found.rho_high, second=sign)


def mean_over_layers(claim: Claim, result: Result) -> Statistic:
    """Mean of the claim's measure over layers and samples; second: share of layers below 0."""
    if claim.metric not in set(result.frame["metric"]):
        return Statistic(missing="its layers have no such step")
    values = claim.values(result)
    means = values.mean(axis=1, keepdims=True)
    low, high = mean_interval(means, seed=int(result.run["seed"]))
    falling = float((values.mean(axis=0) < 0).mean())
    return Statistic(float(means.mean()), float(low[0]), float(high[0]), second=falling)


def falls_with_depth(s: Statistic, t: Thresholds) -> str:
    """Both the rank correlation (`value`) and the change from first to last layer (`second`)."""
    if s.value <= -t.rho and s.high < 0 and s.second < 0:
        return SUPPORTED
    return CONTRADICTED if s.value >= t.rho and s.low > 0 and s.second > 0 else NOT_SUPPORTED


def below_zero(s: Statistic) -> str:
    """By the interval."""
    return SUPPORTED if s.high < 0 else CONTRADICTED if s.low > 0 else NOT_SUPPORTED


@cache
def claims() -> dict[str, Claim]:
    """Every claim by its name, in their order.

    Raises: PluginError for another package's claim that cannot be had, or whose name is taken.
    """
    kinds = discover.subclasses(rooms, Claim)  # type: ignore[type-abstract]
    what = "a subclass of Claim of that name"
    kinds |= discover.added(GROUP, kinds, partial(discover.one_of, Claim), what)
    found = {name: kind() for name, kind in kinds.items()}
    return dict(sorted(found.items(), key=lambda item: (item[1].place, item[0])))
