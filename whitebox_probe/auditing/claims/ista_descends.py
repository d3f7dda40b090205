"""The sparsifying step, by what it does to its LASSO objective."""

from whitebox_probe.auditing.claim import Claim, Finding, Use, mean_of, shares
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import paired_p

GAP, CHANGE, STEP = Use("lasso_gap_closed"), Use("lasso_change"), Use("lasso_step")
ZERO, OTHERS = Use("lasso_vs_zero"), Use("lasso_gap_others")
SHRUNK = Use("lasso_gap_shrunk")


class IstaDescends(Claim):
    """The ISTA step lowers its LASSO objective."""

    name = "ista_descends"
    text = "the ISTA step lowers its LASSO objective"
    statistic = "share (F0 - F)/(F0 - F*) of the way to the optimum, mean over the layers with it"
    unit = "share of the gap"
    rule = (
        "at least `gap` of the way is closed, `part` of it beyond what the same codes close with "
        "other atoms in place of their own, and beyond what scaling its start as the step does "
        "closes (`scaling`); more than half of the layers close some of it; against it: F rises by "
        "`gap` of the way"
    )
    uses = (GAP, CHANGE, STEP, ZERO, OTHERS, SHRUNK)
    compares = (GAP,)
    wants = "high"
    keeps = ("class_token", "samples")
    place = 7

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """Over layers and samples."""
        values = self.values(result, GAP, setting)
        each = values.mean(axis=1)
        value, low, high = mean_of(each)
        steps = self.values(result, STEP, setting).mean(axis=0)
        others = self.values(result, OTHERS, setting).mean(axis=1)
        shrunk = self.values(result, SHRUNK, setting).mean(axis=1)
        parts = {
            "change": float(self.values(result, CHANGE, setting).mean()),
            "step": float(steps.max()),
            "over_zero": float(self.values(result, ZERO, setting).mean()),
            "layers": shares(values, 1),
            "others": float(others.mean()),
            "shrunk": float(shrunk.mean()),
        }
        t = thresholds
        p = paired_p(each)
        if value <= -t.gap:
            side, why = -1, "the objective rises"
        elif value < t.gap:
            side, why = 0, f"it closes less than {t.gap:.0%} of the way to the optimum"
        elif shares(values, 1) <= 0.5:
            side, why = 0, "it does so in half of the layers at most"
        elif float((each - others).mean()) < t.part * value:
            side, why = 0, f"with other atoms the same codes close {others.mean():.1%}"
        elif float((each - shrunk).mean()) < t.scaling * value:
            side, why = 0, f"scaling its start as the step does closes {shrunk.mean():.1%}"
        else:
            side, why = 1, ""
            p = max(p, paired_p(each - others), paired_p(each - shrunk))
        return Finding(value, low, high, p, "samples", side, why, parts)

    def compared(self, result: Readings, setting: Setting, thresholds: Thresholds) -> float:
        """The share of the gap."""
        return float(self.values(result, GAP, setting).mean())

    def sentence(self, found: Finding) -> str:
        """The share, the change, and the step's length."""
        s = found.parts
        limit = ", of 2 that a proximal step may have" if s["step"] > 2 else ""
        return (
            f"the step changes its objective by {s['change']:+.1%}, {found.value:.1%} of the way "
            f"to the optimum ({s['others']:.1%} with other atoms in place of its own, "
            f"{s['shrunk']:.1%} by scaling alone); eta |D|^2 "
            f"is {s['step']:.2f} at most{limit}; what it leaves is {s['over_zero'] - 1:+.0%} "
            "against a code of zeros"
        )
