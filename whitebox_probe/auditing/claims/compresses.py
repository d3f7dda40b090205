"""Compression: R^c falls with depth."""

from whitebox_probe.auditing.claim import Claim, Statistic, falls_with_depth, trend
from whitebox_probe.auditing.verdicts import Thresholds
from whitebox_probe.results.result import Result


class Compresses(Claim):
    """R^c falls with depth."""

    name = "compresses"
    text = "R^c falls with depth"
    statistic = "Spearman's rho of R^c (official convention) with the layer"
    rule = "rho is at most -`rho`, and its interval and the change over all layers are below 0"
    metric = "compression"
    where = {"convention": "official", "orthonormal": False}
    wants = "low"
    place = 1

    def take(self, result: Result, thresholds: Thresholds) -> Statistic:
        """Of the curve."""
        return trend(self, result)

    def judge(self, found: Statistic, thresholds: Thresholds) -> str:
        """By trend and change."""
        return falls_with_depth(found, thresholds)
