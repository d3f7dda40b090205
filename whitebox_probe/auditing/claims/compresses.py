"""Compression: R^c falls with depth, by what the layers do to the tokens."""

import numpy as np

from whitebox_probe.auditing.claim import (
    BOTH_WAYS,
    Claim,
    Finding,
    Use,
    from_layer,
    ratio_of,
    too_few,
)
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import (
    paired_p,
    permutation_p,
    sign_p,
    spearman,
)

BEFORE, AFTER = (Use("compression", site, "official") for site in ("z_in", "z_out"))
WORK = (Use("attention_rate_change_radial"), Use("attention_rate_change_tangential"))
CHANGE, SHUFFLED = Use("attention_rate_change"), Use("attention_rate_change_shuffled")
MEAN, RATE = Use("attention_rate_change_mean"), Use("compression", "z_in")


class Compresses(Claim):
    """R^c falls with depth, by what the layers do to the tokens.

    The curve is the release's, R^c(Z^l; U^l) on tokens of unit norm in each head. Along it both
    tokens and subspaces change. What the tokens alone did is R^c(Z^(l+1); U^l) - R^c(Z^l; U^l),
    each layer's own subspaces kept; the rest is the change of U and of the norm. Of the attention's
    part, what a shift of all tokens by one vector does is no compression of a token set: it is
    taken off, and so is what the same updates do when they are handed to other tokens, and what
    the mean update of other samples does.
    """

    name = "compresses"
    text = "R^c falls with depth, by what the layers do to the tokens"
    statistic = (
        "change of R^c (official convention) from layer {first}, on which a step has acted, on"
    )
    unit = "share of R^c"
    rule = (
        "R^c falls by at least `change`, layer after layer (permutation test of Spearman's rho, "
        "and a sign test of the steps: a walk has a trend, and no direction); "
        "so it does at fixed U; and the attention takes part, by half of `change` of R^c over all "
        "layers: without a common shift of all tokens, beyond the mean update of other samples, "
        "and by more than its updates do when they are handed to other tokens"
    )
    uses = (BEFORE, AFTER, *WORK, CHANGE, SHUFFLED, MEAN, RATE)
    compares = (*WORK, RATE)
    wants = "low"
    keeps = ("eps", "basis", "class_token", "first_layer", "orthonormal", "samples")
    loses = {"embedding": "what enters the first layer is the embedding: no step has acted on it"}
    place = 1

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """The change, its trend, and whose work it is."""
        whole = self.values(result, BEFORE, setting)
        curve = from_layer(whole, setting.first_layer)
        count = curve.shape[1]
        if count < 2:
            return Finding(missing="one layer has no change with depth")
        first = curve[:, 0]
        value, low, high, _ = ratio_of(curve[:, -1] - first, first)
        tokens = from_layer(self.values(result, AFTER, setting) - whole, setting.first_layer)
        moved = tokens[:, :-1].sum(axis=1) / first.mean()
        radial, tangential = (self.values(result, use, setting) for use in WORK)
        work = radial + tangential
        change, rate = self.values(result, CHANGE, setting), self.values(result, RATE, setting)
        own = change - self.values(result, SHUFFLED, setting)
        looking = change - self.values(result, MEAN, setting)
        # Of R^c as the steps see it, in the residual stream: over all layers, of one layer's.
        shares = tuple(each.sum(axis=1) / rate.mean() for each in (work, looking, own))
        parts = {
            "rho": spearman(curve.mean(axis=0)),
            "tokens": float(moved.mean()),
            "subspaces": value - float(moved.mean()),
            "attention_nats": float(np.mean(work)),
            "beyond_shuffled_nats": float(np.mean(own)),
            "beyond_mean_nats": float(np.mean(looking)),
            "attention_share": self.compared(result, setting, thresholds),
        }
        side, why = _side(value, moved, shares, thresholds)
        if side and sign_p(np.diff(curve.mean(axis=0))) > thresholds.alpha:
            side, why = 0, BOTH_WAYS
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
        """The attention's part without a common shift, over R^c as its steps see it."""
        radial, tangential, rate = (self.values(result, use, setting) for use in (*WORK, RATE))
        return float((radial + tangential).sum(axis=1).mean() / rate.mean())

    def sentence(self, found: Finding) -> str:
        """The change, and how much of it is the tokens'."""
        moved = found.parts["tokens"]
        return (
            f"R^c changes by {found.value:+.1%} over the layers (rho {found.parts['rho']:+.2f}): "
            f"{moved:+.1%} is what the layers do to the tokens at fixed U, "
            f"{found.parts['subspaces']:+.1%} the change of U"
        )


def _side(
    value: float,
    moved: np.ndarray,
    shares: tuple[np.ndarray, ...],
    t: Thresholds,
) -> tuple[int, str]:
    """1 or -1 for a change of size that is the tokens' and the attention's own; and what lacks."""
    half = t.change / 2
    work, looking, own = shares
    side = -int(np.sign(value)) if abs(value) >= t.change else 0
    if side == 0:
        return 0, f"R^c changes by less than {t.change:.0%}"
    if side < 0:
        rises = _is(moved, t.change, t)
        return (-1, "R^c rises") if rises else (0, "R^c rises, but by the change of U alone")
    if not _is(-moved, t.change, t):
        return 0, "at fixed U the tokens are not compressed: the fall is the change of U"
    if not _is(-work, half, t):
        return 0, f"without a common shift of all tokens the attention's part is {work.mean():+.1%}"
    if not _is(-looking, half, t):
        return 0, "the mean update of other samples does as much"
    if not _is(-own, 0.0, t):
        return 0, "the attention's updates do as much when they are handed to other tokens"
    return 1, ""


def _is(values: np.ndarray, least: float, t: Thresholds) -> bool:
    """Whether a mean is above 0 and of size, and no chance."""
    mean = float(values.mean())
    return mean > 0 and mean >= least and paired_p(values) <= t.alpha
