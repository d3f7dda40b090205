"""Compression: R^c falls with depth, by what the layers do to the tokens."""

import numpy as np

from whitebox_probe.auditing.claim import (
    WALKS,
    Claim,
    Finding,
    Use,
    from_layer,
    ratio_of,
    too_few,
    walks,
)
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import paired_p, permutation_p, spearman

BEFORE, AFTER = (Use("compression", site, "official") for site in ("z_in", "z_out"))
WORK = Use("attention_rate_change_tangential")
CHANGE, SHUFFLED = Use("attention_rate_change"), Use("attention_rate_change_shuffled")
MEAN, SHARED = Use("attention_rate_change_mean"), Use("attention_rate_change_shared")
RATE = Use("compression", "z_in")


class Compresses(Claim):
    """R^c falls with depth, by what the layers do to the tokens.

    The curve is the release's, R^c(Z^l; U^l) on tokens of unit norm in each head, and at its end
    what leaves the last layer. Along it both tokens and subspaces change. What the tokens alone did
    is R^c(Z^(l+1); U^l) - R^c(Z^l; U^l), each layer's own subspaces kept: that is the effect; the
    rest is the change of U and of the norm. Of the attention's part, what a shift of all tokens by
    one vector does is no compression of a token set: it is taken off, and so is what changes their
    norms alone, which the curve does not see, what the same updates do when they are handed to
    other tokens, and what looks at no token, the mean update of other samples among it.
    """

    name = "compresses"
    text = "R^c falls with depth, by what the layers do to the tokens"
    statistic = (
        "change of R^c (official convention) at fixed U, over all layers from {first} on, where "
        "steps have acted"
    )
    unit = "share of R^c"
    rule = (
        "R^c falls by at least `change` at fixed U, and with U, layer after layer (permutation "
        "test of Spearman's rho, and a sign test of the steps: a walk has a trend, and no "
        "direction); and the attention takes part, by half of `change` of R^c over all layers: "
        "at right angles to each token, beyond what looks at none of them, and by more than its "
        "updates do on other tokens"
    )
    uses = (BEFORE, AFTER, WORK, CHANGE, SHUFFLED, MEAN, SHARED, RATE)
    compares = (WORK, RATE)
    wants = "low"
    keeps = ("eps", "basis", "class_token", "first_layer", "orthonormal", "samples")
    loses = {"embedding": "what enters the first layer is the embedding: no step has acted on it"}
    place = 1
    of_one_size = True

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """The change, its trend, and whose work it is."""
        entering, leaving = (self.values(result, use, setting) for use in (BEFORE, AFTER))
        curve = from_layer(np.hstack([entering, leaving[:, -1:]]), setting.first_layer)
        count = curve.shape[1]
        if count < 3:
            return Finding(missing="one layer has no change with depth")
        first = curve[:, 0]
        moved = from_layer(leaving - entering, setting.first_layer).sum(axis=1)
        value, low, high, _ = ratio_of(moved, first)
        if np.isnan(value):
            return Finding(missing="R^c is zero where steps begin to act, or no number")
        whole = float((curve[:, -1] - first).mean() / first.mean())
        work, change, shuffled, mean, shared, rate = (
            self.values(result, use, setting)
            for use in (WORK, CHANGE, SHUFFLED, MEAN, SHARED, RATE)
        )
        # Of R^c as the steps see it, in the residual stream: over all layers, of one layer's.
        shares = tuple(
            each.sum(axis=1) / rate.mean()
            for each in (work, change - mean, change - shared, change - shuffled)
        )
        parts = {
            "rho": spearman(curve.mean(axis=0)),
            "whole": whole,
            "subspaces": whole - value,
            "attention_nats": float(np.mean(work)),
            "beyond_shuffled_nats": float(np.mean(change - shuffled)),
            "beyond_mean_nats": float(np.mean(change - mean)),
            "beyond_shared_nats": float(np.mean(change - shared)),
            "attention_share": self.compared(result, setting, thresholds),
        }
        side, why = _side(moved / first.mean(), whole, shares, thresholds)
        if side and walks(curve.mean(axis=0), thresholds):
            side, why = 0, WALKS
        return Finding(
            value,
            low,
            high,
            permutation_p(curve.mean(axis=0)),
            "layers",
            side,
            why,
            parts,
            compared=parts["attention_share"],
            few=too_few(count, thresholds),
        )

    def compared(self, result: Readings, setting: Setting, thresholds: Thresholds) -> float:
        """The attention's part at right angles to each token, over R^c as its steps see it."""
        work, rate = (self.values(result, use, setting) for use in (WORK, RATE))
        return float(work.sum(axis=1).mean() / rate.mean())

    def sentence(self, found: Finding) -> str:
        """The change, and how much of it is the tokens'."""
        whole, of_U = found.parts["whole"], found.parts["subspaces"]
        return (
            f"R^c changes by {found.value:+.1%} over the layers at fixed U, by what they do to the "
            f"tokens, and by {whole:+.1%} with the change of U, which adds {of_U:+.1%} (rho "
            f"{found.parts['rho']:+.2f})"
        )


def _side(
    moved: np.ndarray, whole: float, shares: tuple[np.ndarray, ...], t: Thresholds
) -> tuple[int, str]:
    """1 or -1 for a change of size that is the tokens' and the attention's own; and what lacks."""
    half, value = t.change / 2, float(moved.mean())
    work, looking, own, beyond = shares
    if abs(value) < t.change:
        alone = " by what the layers do to the tokens" if abs(whole) >= t.change else ""
        return 0, f"R^c changes by less than {t.change:.0%}{alone}"
    side = -int(np.sign(value))
    if whole * value < 0 or abs(whole) < t.change:
        return 0, "at fixed U R^c changes, and the change of U undoes it"
    if not paired_p(moved) <= t.alpha:
        return 0, "samples differ too much to tell it from none"
    if side < 0:
        return -1, "R^c rises"
    lacks = (
        (work, half, "the attention's part at right angles to each token"),
        (looking, half, "its part beyond the mean update of other samples"),
        (own, half, "its part beyond what looks at no token"),
        (beyond, 0.0, "its part beyond what its updates do when they are handed to other tokens"),
    )
    for part, least, what in lacks:
        if part.mean() >= -least:
            return 0, f"{what} is {part.mean():+.1%}"
        if not paired_p(part) <= t.alpha:
            return 0, f"{what} is {part.mean():+.1%}, and may be chance"
    return 1, ""
