"""The attention step, by what it does to R^c."""

import numpy as np

from whitebox_probe.auditing.claim import Claim, Finding, Use, one_way, ratio_of, shares
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import paired_p

CHANGE = Use("attention_rate_change")
RADIAL, TANGENTIAL = Use("attention_rate_change_radial"), Use("attention_rate_change_tangential")
COMMON, SHUFFLED = Use("attention_rate_change_common"), Use("attention_rate_change_shuffled")
MEAN, SHARED = Use("attention_rate_change_mean"), Use("attention_rate_change_shared")
RATE = Use("compression", "z_in")


class AttentionDescends(Claim):
    """The attention step lowers R^c.

    A shift of all tokens by one vector lowers R^c after a norm whatever the tokens are, and so do
    many updates that were made for other tokens or other samples: none of these is counted.
    """

    name = "attention_descends"
    text = "the attention step lowers R^c"
    statistic = "R^c(Z^(l+1/2); U^l) - R^c(Z^l; U^l) over R^c(Z^l; U^l), all layers together"
    unit = "share of R^c"
    rule = (
        "R^c falls by at least `step`; half of that without the shift that all tokens share; half "
        "of that beyond what the mean update of other samples does, and all of it that looks at no "
        "token; by more than the same updates do when they are handed to other tokens; and layers "
        "agree on the side (a sign test of their means; all, where they are few)"
    )
    uses = (CHANGE, COMMON, RADIAL, TANGENTIAL, SHUFFLED, MEAN, SHARED, RATE)
    compares = (CHANGE, RADIAL, TANGENTIAL, RATE)
    wants = "low"
    keeps = ("eps", "basis", "class_token", "orthonormal", "samples")
    loses = {"prenorm": "the attention sees the tokens after its norm: R^c there is what it lowers"}
    place = 6

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """Over layers and samples."""
        t = thresholds
        change, common, radial, tangential, shuffled, mean, shared, rate = (
            self.values(result, use, setting) for use in self.uses
        )
        total = rate.sum(axis=1)
        told = common + radial + tangential
        if abs(float((change - told).mean())) > 0.01 * float(np.abs(change).mean() + 1e-4):
            return Finding(
                missing="what is read as attn_out is not what is added to the tokens: its parts "
                f"change R^c by {told.mean():+.2f} nats, the step by {change.mean():+.2f}"
            )
        value, low, high, p = ratio_of(change.sum(axis=1), total)
        own = (radial + tangential).sum(axis=1)
        beyond = (change - shuffled).sum(axis=1)
        looking = (change - mean).sum(axis=1)
        seen = (change - shared).sum(axis=1)
        side = 0 if abs(value) < t.step else 1 if value < 0 else -1
        why = "" if side > 0 else f"R^c changes by {value:+.2%}"
        if side and -side * own.mean() / total.mean() < t.step / 2:
            side, why = 0, "what changes R^c is a shift that all tokens share"
        elif side and -side * looking.mean() / total.mean() < t.step / 2:
            side, why = 0, "the mean update of other samples does as much"
        elif side and -side * seen.mean() / total.mean() < t.step / 2:
            side, why = 0, "what of it looks at no token does as much"
        elif side and -side * beyond.mean() <= 0:
            side, why = 0, "the same updates do as much when they are handed to other tokens"
        elif side and not one_way(change.mean(axis=0), -side, t):
            side, why = 0, "its layers do not agree on the side"
        parts = {
            "nats": float(change.mean()),
            "common_nats": float(common.mean()),
            "radial_nats": float(radial.mean()),
            "tangential_nats": float(tangential.mean()),
            "shuffled_nats": float(shuffled.mean()),
            "mean_nats": float(mean.mean()),
            "shared_nats": float(shared.mean()),
            "own_share": self.compared(result, setting, t),
            "layers": shares(change, -1),
        }
        p = max(p, *map(paired_p, (own, beyond, looking, seen)))
        return Finding(
            value, low, high, p, "samples", side, why, parts, compared=parts["own_share"]
        )

    def compared(self, result: Readings, setting: Setting, thresholds: Thresholds) -> float:
        """The share that is not of a common shift."""
        radial, tangential, rate = (
            self.values(result, use, setting).sum(axis=1) for use in (RADIAL, TANGENTIAL, RATE)
        )
        return float((radial + tangential).mean() / rate.mean())

    def sentence(self, found: Finding) -> str:
        """The change and its parts."""
        s = found.parts
        return (
            f"the attention changes R^c by {s['nats']:+.2f} nats a layer: {s['common_nats']:+.2f} "
            f"by a shift that all tokens share, {s['radial_nats']:+.2f} along each token, "
            f"{s['tangential_nats']:+.2f} at right angles to it; the same updates on other tokens "
            f"{s['shuffled_nats']:+.2f}, the mean update of other samples {s['mean_nats']:+.2f}, "
            f"all of it that looks at no token {s['shared_nats']:+.2f}"
        )
