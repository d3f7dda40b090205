"""The sparsifying step, by what it does to its LASSO objective."""

from whitebox_probe.auditing.claim import Claim, Finding, Use, mean_of, shares
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import paired_p

GAP, CHANGE, STEP = Use("lasso_gap_closed"), Use("lasso_change"), Use("lasso_step")
ZERO = Use("lasso_vs_zero")
LIMIT = 2.0
"""Of eta |D|_2^2: with a longer step a proximal gradient method need not descend."""


class IstaDescends(Claim):
    """The ISTA step lowers its LASSO objective."""

    name = "ista_descends"
    text = "the ISTA step lowers its LASSO objective"
    statistic = "share (F0 - F)/(F0 - F*) of the way to the optimum, mean over the layers with it"
    unit = "share of the gap"
    rule = (
        "at least `gap` of the way is closed, and more than half of the layers close some of it; "
        "against it: F rises, or eta |D|^2 is above 2, the limit of such a step, in half of them"
    )
    uses = (GAP, CHANGE, STEP, ZERO)
    wants = "high"
    keeps = ("class_token",)
    place = 7

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """Over layers and samples."""
        values = self.values(result, GAP, setting)
        each = values.mean(axis=1)
        value, low, high = mean_of(each)
        steps = self.values(result, STEP, setting).mean(axis=0)
        parts = {
            "change": float(self.values(result, CHANGE, setting).mean()),
            "step": float(steps.max()),
            "over_zero": float(self.values(result, ZERO, setting).mean()),
            "layers": shares(values, 1),
        }
        t = thresholds
        p = paired_p(each)
        if float((steps > LIMIT).mean()) >= 0.5:
            side, why, p = -1, "its steps are longer than a proximal step may be", 0.0
        elif value <= -t.gap:
            side, why = -1, "the objective rises"
        elif value < t.gap:
            side, why = 0, f"it closes less than {t.gap:.0%} of the way to the optimum"
        elif shares(values, 1) <= 0.5:
            side, why = 0, "it does so in half of the layers at most"
        else:
            side, why = 1, ""
        return Finding(value, low, high, p, "samples", side, why, parts)

    def sentence(self, found: Finding) -> str:
        """The share, the change, and the step's length."""
        s = found.parts
        return (
            f"the step changes its objective by {s['change']:+.1%}, {found.value:.1%} of the way "
            f"to the optimum; eta |D|^2 is {s['step']:.2f} at most, of 2 allowed; what it leaves "
            f"is {s['over_zero'] - 1:+.0%} against a code of zeros"
        )
