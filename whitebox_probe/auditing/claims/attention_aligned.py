"""The attention step, by its direction."""

from whitebox_probe.auditing.claim import Claim, Statistic, mean_over_layers
from whitebox_probe.auditing.verdicts import CONTRADICTED, NOT_SUPPORTED, SUPPORTED, Thresholds
from whitebox_probe.results.result import Result


class AttentionAligned(Claim):
    """The attention update points along -grad R^c."""

    name = "attention_aligned"
    text = "the attention update points along -grad R^c"
    statistic = "cosine of the update and -grad R^c(X; U), mean over layers"
    rule = "the interval is above 0, and the mean is at least `cosine`"
    metric = "descent_cosine"
    where = {"convention": "paper", "orthonormal": False}
    wants = "high"
    place = 5

    def take(self, result: Result, thresholds: Thresholds) -> Statistic:
        """Over layers and samples."""
        return mean_over_layers(self, result)

    def judge(self, found: Statistic, thresholds: Thresholds) -> str:
        """By the interval, and the size of the cosine."""
        if found.low > 0 and found.value >= thresholds.cosine:
            return SUPPORTED
        against = found.high < 0 and found.value <= -thresholds.cosine
        return CONTRADICTED if against else NOT_SUPPORTED
