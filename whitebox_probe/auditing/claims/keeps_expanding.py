"""Expansion: R of the whole does not collapse."""

import numpy as np

from whitebox_probe.auditing.claim import Claim, Finding, Use, from_layer, ratio_of
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import paired_p

RATE, LEFT = (Use("coding_rate", site, "official") for site in ("z_in", "z_out"))


class KeepsExpanding(Claim):
    """R of the whole does not collapse."""

    name = "keeps_expanding"
    text = "R of the whole does not collapse"
    statistic = "R (official convention) of what leaves the last layer over that of layer {first}"
    unit = "ratio"
    rule = (
        "the ratio is at least `keeps`, behind the last layer and in every one before, and "
        "more than with random weights"
    )
    uses = (RATE, LEFT)
    wants = "high"
    keeps = ("eps", "class_token", "first_layer", "samples")
    loses = {"embedding": "what enters the first layer is the embedding: no step has acted on it"}
    place = 2
    of_one_size = True
    exempt = {
        "flat": "an R that does not change is what it claims; random weights are what it beats"
    }

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """The ratio, tested against `keeps`."""
        entering, leaving = (self.values(result, use, setting) for use in self.uses)
        values = from_layer(np.hstack([entering, leaving[:, -1:]]), setting.first_layer)
        if values.shape[1] < 2:
            return Finding(missing="one layer has no change with depth")
        first, last = values[:, 0], values[:, -1]
        ratio, low, high, _ = ratio_of(last, first)
        spread = (last - thresholds.keeps * first) / first.mean()
        if np.isnan(ratio):
            return Finding(missing="R is zero where steps begin to act, or no number")
        side = int(np.sign(ratio - thresholds.keeps))
        why = "" if side > 0 else f"R keeps less than {thresholds.keeps:.0%}"
        least = float(values.mean(axis=0).min() / first.mean())
        if side > 0 and least < thresholds.keeps:
            side, why = 0, f"on the way R falls to {least:.1%}, and comes back"
        parts = {"least": least}
        return Finding(ratio, low, high, paired_p(spread), "samples", side, why, parts)

    def sentence(self, found: Finding) -> str:
        """The ratio, and the least of the way."""
        return (
            f"R behind the last layer is {found.value:.1%} of what it is where steps begin to act, "
            f"and {found.parts['least']:.1%} where it is least"
        )
