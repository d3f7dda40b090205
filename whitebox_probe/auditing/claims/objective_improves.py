"""The objective as a whole."""

import numpy as np

from whitebox_probe.auditing.claim import WALKS, Claim, Finding, Use, mean_of, too_few, walks
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import permutation_p, spearman, trend

SRR = Use("sparse_rate_reduction", orthonormal=True)
DELTA = Use("rate_reduction", orthonormal=True)
RATE = Use("coding_rate", orthonormal=True)


class ObjectiveImproves(Claim):
    """R - R^c - lam|Z|_0 rises layer after layer."""

    name = "objective_improves"
    text = "R - R^c - lam|Z|_0 rises layer after layer"
    statistic = "its change from behind the first layer to behind the last, over R there"
    unit = "share of R"
    rule = (
        "it rises by at least `change` of R, layer after layer (permutation test of Spearman's "
        "rho, and a sign test of the steps: a walk has a trend, and no direction), in at least "
        "`rises` of the steps by their own test, and falls in none"
    )
    uses = (SRR, DELTA, RATE)
    compares = (SRR, RATE)
    wants = "high"
    keeps = ("eps", "prenorm", "basis", "lam", "class_token", "orthonormal", "samples")
    place = 8
    of_one_size = True

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """The change, its trend and steps; and the lam at which its sign turns."""
        values = self.values(result, SRR, setting)
        delta = self.values(result, DELTA, setting)
        rate = self.values(result, RATE, setting)[:, 0].mean()
        count = values.shape[1]
        if count < 2:
            return Finding(missing="one layer has no change with depth")
        value, low, high = mean_of((values[:, -1] - values[:, 0]) / rate)
        means = values.mean(axis=0)
        # What the two measures differ by is lam |Z|_0.
        nonzero = (delta - values).mean(axis=0) / setting.lam
        nats, entries = delta.mean(axis=0)[-1] - delta.mean(axis=0)[0], nonzero[-1] - nonzero[0]
        turns = nats / entries if entries and nats / entries > 0 else float("nan")
        steps = trend(values)
        parts = {
            "rho": spearman(means),
            "rate_reduction_nats": float(nats),
            "nonzero_entries": float(entries),
            "lam_turns": float(turns),
            "rising": steps.rising,
            "falling": steps.falling,
        }
        # Few samples have no p: a step that falls in each of them falls.
        every = float((np.diff(values, axis=1) < 0).all(axis=0).mean())
        side, why = _side(value, steps.rising, max(steps.falling, every), thresholds)
        if side and walks(means, thresholds):
            side, why = 0, WALKS
        few = too_few(count, thresholds)
        p = permutation_p(means)
        return Finding(value, low, high, p, "layers", side, why, parts, few=few)

    def compared(self, result: Readings, setting: Setting, thresholds: Thresholds) -> float:
        """The change over R."""
        values, rate = (self.values(result, use, setting) for use in (SRR, RATE))
        return float((values[:, -1] - values[:, 0]).mean() / rate[:, 0].mean())

    def sentence(self, found: Finding) -> str:
        """R - R^c and |Z|_0 apart, and the lam at which the sign turns."""
        s = found.parts
        turns = s["lam_turns"]
        told = "no lam above 0 turns its sign" if np.isnan(turns) else f"lam={turns:.2g} turns it"
        return (
            f"R - R^c changes by {s['rate_reduction_nats']:+.1f} nats and |Z|_0 by "
            f"{s['nonzero_entries']:+.0f} entries ({told}); {s['rising']:.0%} of the steps rise "
            f"and {s['falling']:.0%} fall"
        )


def _side(value: float, rising: float, falling: float, t: Thresholds) -> tuple[int, str]:
    if value <= -t.change:
        return -1, "it falls"
    if value < t.change:
        return 0, f"it changes by {value:+.1%} of R only"
    if falling > 0:
        return 0, "it falls from some layer to the next"
    if rising < t.rises:
        return 0, f"fewer than {t.rises:.0%} of its steps rise"
    return 1, ""
