"""Sparsity: the share of non-zero entries falls."""

from whitebox_probe.auditing.claim import Claim, Statistic, falls_with_depth, trend
from whitebox_probe.auditing.verdicts import Thresholds
from whitebox_probe.results.result import Result


class Sparsifies(Claim):
    """The share of non-zero entries falls with depth."""

    name = "sparsifies"
    text = "the share of non-zero entries falls"
    statistic = "Spearman's rho of the l0 share of z_out with the layer"
    rule = "rho is at most -`rho`, and its interval and the change over all layers are below 0"
    metric = "l0"
    where = {"convention": "paper"}
    wants = "low"
    place = 3

    def take(self, result: Result, thresholds: Thresholds) -> Statistic:
        """Of the curve, where there are exact zeros at all."""
        values = self.values(result)
        if 1 - values.mean(axis=0).min() < thresholds.zeros:
            return Statistic(missing="the model makes no exact zeros")
        return trend(self, result)

    def judge(self, found: Statistic, thresholds: Thresholds) -> str:
        """By trend and change."""
        return falls_with_depth(found, thresholds)
