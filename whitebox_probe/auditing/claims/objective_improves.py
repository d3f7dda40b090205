"""The objective as a whole."""

from whitebox_probe.auditing.claim import Claim, Statistic
from whitebox_probe.auditing.verdicts import CONTRADICTED, NOT_SUPPORTED, SUPPORTED, Thresholds
from whitebox_probe.results.result import Result


class ObjectiveImproves(Claim):
    """R - R^c - lam|Z|_0 rises layer after layer."""

    name = "objective_improves"
    text = "R - R^c - lam|Z|_0 rises layer after layer"
    statistic = "its change from first to last layer, in nats; and the share of steps that rise"
    rule = "the interval is above 0, and at least `rises` of the steps rise by their interval"
    metric = "sparse_rate_reduction"
    where = {"convention": "paper", "orthonormal": True}
    wants = "high"
    place = 8

    def take(self, result: Result, thresholds: Thresholds) -> Statistic:
        """The change; second: the share of steps that rise."""
        found = result.trend(self.metric, **self.settings(result))
        return Statistic(found.change, found.change_low, found.change_high, second=found.rising)

    def judge(self, found: Statistic, thresholds: Thresholds) -> str:
        """By the interval, and the share of steps."""
        if found.low > 0 and found.second >= thresholds.rises:
            return SUPPORTED
        return CONTRADICTED if found.high < 0 else NOT_SUPPORTED
