"""Expansion: R of the whole does not collapse."""

from whitebox_probe.auditing.claim import Claim, Statistic
from whitebox_probe.auditing.verdicts import CONTRADICTED, NOT_SUPPORTED, SUPPORTED, Thresholds
from whitebox_probe.results.result import Result
from whitebox_probe.stats import mean_interval


class KeepsExpanding(Claim):
    """R of the whole does not collapse."""

    name = "keeps_expanding"
    text = "R of the whole does not collapse"
    statistic = "R (official convention) of the last layer over the first"
    rule = "the interval is at or above `keeps`"
    metric = "coding_rate"
    where = {"convention": "official"}
    wants = "high"
    place = 2

    def take(self, result: Result, thresholds: Thresholds) -> Statistic:
        """A ratio of means: resampled through its linearisation, as the delta method has it."""
        values = self.values(result)
        first, last = values[:, :1], values[:, -1:]
        ratio = float(last.mean() / first.mean())
        low, high = mean_interval((last - ratio * first) / first.mean(), seed=0)
        return Statistic(ratio, ratio + float(low[0]), ratio + float(high[0]))

    def judge(self, found: Statistic, thresholds: Thresholds) -> str:
        """By the interval."""
        if found.low >= thresholds.keeps:
            return SUPPORTED
        return CONTRADICTED if found.high < thresholds.keeps else NOT_SUPPORTED
