"""The attention step, by its direction."""

from whitebox_probe.auditing.claim import Claim, Finding, Use, mean_of, one_way, shares
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import paired_p

COSINE, COMMON = Use("descent_cosine"), Use("descent_cosine_common")
MEAN, SHARED = Use("descent_cosine_mean"), Use("descent_cosine_shared")


class AttentionAligned(Claim):
    """The attention update points along -grad R^c."""

    name = "attention_aligned"
    text = "the attention update points along -grad R^c"
    statistic = "cosine of the update and -grad R^c in the residual stream, mean over layers"
    unit = "cosine"
    rule = (
        "the mean is at least `cosine`, half of that without the shift that all tokens share, half "
        "of that without the mean update of other samples, half without all of it that looks at no "
        "token; and layers agree on the side (a sign test of their means; all, where they are few)"
    )
    uses = (COSINE, COMMON, MEAN, SHARED)
    compares = (COSINE,)
    wants = "high"
    keeps = ("eps", "basis", "class_token", "orthonormal", "samples")
    loses = {"prenorm": "the attention sees the tokens after its norm: R^c there is what it lowers"}
    place = 5

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """Over layers and samples."""
        values = self.values(result, COSINE, setting)
        own = (values - self.values(result, COMMON, setting)).mean(axis=1)
        looking = (values - self.values(result, MEAN, setting)).mean(axis=1)
        seen = (values - self.values(result, SHARED, setting)).mean(axis=1)
        each = values.mean(axis=1)
        value, low, high = mean_of(each)
        side = 0 if abs(value) < thresholds.cosine else 1 if value > 0 else -1
        why = "" if side > 0 else f"the mean is below {thresholds.cosine:g}"
        if side and side * float(own.mean()) < thresholds.cosine / 2:
            side, why = 0, "what points there is a shift that all tokens share"
        elif side and side * float(looking.mean()) < thresholds.cosine / 2:
            side, why = 0, "the mean update of other samples points there as well"
        elif side and side * float(seen.mean()) < thresholds.cosine / 2:
            side, why = 0, "what points there looks at no token"
        elif side and not one_way(values.mean(axis=0), side, thresholds):
            side, why = 0, "its layers do not agree on the side"
        parts = {
            "own": float(own.mean()),
            "looking": float(looking.mean()),
            "layers": shares(values, 1),
        }
        p = max(map(paired_p, (each, own, looking, seen)))
        return Finding(value, low, high, p, "samples", side, why, parts)

    def compared(self, result: Readings, setting: Setting, thresholds: Thresholds) -> float:
        """The cosine."""
        return float(self.values(result, COSINE, setting).mean())

    def sentence(self, found: Finding) -> str:
        """The cosine."""
        return (
            f"the update's cosine with -grad R^c is {found.value:+.3f} on average "
            f"({found.parts['own']:+.3f} without the shift that all tokens share, "
            f"{found.parts['looking']:+.3f} without what other samples get as well), and above "
            f"0 in {found.parts['layers']:.0%} of the layers"
        )
