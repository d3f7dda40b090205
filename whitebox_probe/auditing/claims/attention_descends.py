"""The attention step, by what it does to R^c."""

from whitebox_probe.auditing.claim import Claim, Statistic, below_zero, mean_over_layers
from whitebox_probe.auditing.verdicts import Thresholds
from whitebox_probe.results.result import Result


class AttentionDescends(Claim):
    """The attention step lowers R^c."""

    name = "attention_descends"
    text = "the attention step lowers R^c"
    statistic = "R^c(Z^(l+1/2)) - R^c(Z^l) in nats, mean over layers"
    rule = "the interval is below 0"
    metric = "attention_rate_change"
    where = {"convention": "paper", "orthonormal": False}
    wants = "low"
    place = 6

    def take(self, result: Result, thresholds: Thresholds) -> Statistic:
        """Over layers and samples."""
        return mean_over_layers(self, result)

    def judge(self, found: Statistic, thresholds: Thresholds) -> str:
        """By the interval."""
        return below_zero(found)
