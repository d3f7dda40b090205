"""Sparsity: the share of non-zero entries falls."""

from whitebox_probe.auditing.claim import WALKS, Claim, Finding, Use, ratio_of, too_few, walks
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import permutation_p, spearman

SHARE = Use("l0")


class Sparsifies(Claim):
    """The share of non-zero entries falls with depth."""

    name = "sparsifies"
    text = "the share of non-zero entries falls with depth"
    statistic = "change of the l0 share behind each layer, from the first to the last"
    unit = "share of it"
    rule = (
        "it falls by at least `change`, layer after layer (permutation test of Spearman's rho, and "
        "sign test of the steps: a walk has a trend, and no direction)"
    )
    uses = (SHARE,)
    wants = "low"
    keeps = ("class_token", "samples")
    place = 3

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """Of the curve, where there are exact zeros at all."""
        values = self.values(result, SHARE, setting)
        means = values.mean(axis=0)
        if 1 - means.min() < thresholds.zeros:
            return Finding(missing="the model makes no exact zeros")
        if len(means) < 2:
            return Finding(missing="one layer has no change with depth")
        value, low, high, _ = ratio_of(values[:, -1] - values[:, 0], values[:, 0])
        side = 0 if abs(value) < thresholds.change else 1 if value < 0 else -1
        why = "" if side > 0 else "it rises" if side else f"it changes by {value:+.1%} only"
        parts = {"rho": spearman(means), "first": float(means[0]), "last": float(means[-1])}
        if side and walks(means, thresholds):
            side, why = 0, WALKS
        p = permutation_p(means)
        few = too_few(len(means), thresholds)
        return Finding(value, low, high, p, "layers", side, why, parts, few=few)

    def sentence(self, found: Finding) -> str:
        """The change, and its trend."""
        return (
            f"the share of non-zero entries goes from {found.parts['first']:.3f} to "
            f"{found.parts['last']:.3f} (rho {found.parts['rho']:+.2f})"
        )
