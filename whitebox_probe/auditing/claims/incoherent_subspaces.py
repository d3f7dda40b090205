"""Incoherence: heads' subspaces overlap less than random ones."""

import math
from functools import cache
from typing import Any

import numpy as np

from whitebox_probe.auditing.claim import Claim, Finding, Use
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.probing.bases import FREE

OVERLAP, CHANCE = Use("overlap_mean", convention=None), Use("overlap_random", convention=None)
Z95 = 1.959963984540054
DRAWS = 10_000
_SMALL = 4096
"""Of K d p: draws of larger ones take long, and are normal enough."""
_AT_ONCE = 2_000_000
"""Numbers of a simulation that are held at once."""


class IncoherentSubspaces(Claim):
    """The heads' subspaces overlap less than random ones.

    The overlap |Q_i^T Q_j|_F^2/p of two subspaces is 1 for the same one, 0 for orthogonal ones, and
    p/d on average for two that are drawn uniformly.
    """

    name = "incoherent_subspaces"
    text = "heads' subspaces overlap less than random ones"
    statistic = "place of the overlap |Q_i^T Q_j|_F^2/p, mean over layers, about its chance p/d"
    unit = "-1 orthogonal, 0 chance, 1 identical"
    rule = "it is at least `position` below chance, and less than uniformly drawn subspaces give"
    uses = (OVERLAP, CHANCE)
    wants = "low"
    keeps = ("basis",)
    place = 4

    def requests(self, setting: Setting) -> list[Any]:
        """All numbers of the subspaces: they are one measure."""
        return [self._request(Use("coherence", convention=None), setting)]

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """The place, tested against uniformly drawn subspaces."""
        if setting.basis in FREE and setting.basis != "qk":
            return Finding(missing=f"{setting.basis} subspaces are none of the heads' weights")
        overlap, random = (
            self.rows(result, use, setting)["mean"].to_numpy() for use in (OVERLAP, CHANCE)
        )
        if not overlap.size or math.isnan(float(overlap.mean())):
            return Finding(missing="it has one head, which overlaps with no other")
        # Of this basis: several queries may share a key, and a head may span nothing.
        K, d = heads_of(int(self.counts(result, OVERLAP, setting).min())), result.run.dim
        chance = float(random.mean())
        p = max(1, round(chance * d))  # of what the heads span
        if p >= d:
            return Finding(missing="its heads span all directions: they cannot lie apart")
        found = float(overlap.mean())
        excess = found - chance
        value = excess / chance if excess < 0 else excess / (1 - chance)
        half = Z95 * overlap_spread(d, K, p) / (chance if excess < 0 else 1 - chance)
        side = 0 if abs(value) < thresholds.position else 1 if value < 0 else -1
        near = f"it is less than {thresholds.position:.0%} of the way from chance"
        why = "" if side > 0 else "it is above chance" if side else near
        parts = {"overlap": found, "chance": chance}
        return Finding(
            value,
            max(-1.0, value - half),
            min(1.0, value + half),
            overlap_p(excess, d, K, p),
            "random subspaces",
            side,
            why,
            parts,
        )

    def sentence(self, found: Finding) -> str:
        """The overlap beside chance."""
        overlap, chance = found.parts["overlap"], found.parts["chance"]
        return (
            f"heads overlap by {overlap:.3f} on average, uniformly drawn subspaces by {chance:.3f}"
        )


def heads_of(pairs: int) -> int:
    """How many heads have so many pairs, at least two.

    >>> [heads_of(pairs) for pairs in (0, 1, 3, 6, 10)]
    [2, 2, 3, 4, 5]
    """
    return max(2, round((1 + math.sqrt(1 + 8 * pairs)) / 2))


def overlap_spread(d: int, K: int, p: int) -> float:
    """Standard deviation of the mean overlap of a layer's K uniformly drawn subspaces, exactly.

    The squared overlap of two of them, tr(P Q), has variance 2 p^2 (d-p)^2 / (d^2 (d-1) (d+2)). The
    pairs of K independent ones are uncorrelated: whatever one is, the other is uniform. The mean
    over layers is taken to be as wide, since their subspaces may be much the same: residual
    networks change them little, and some share them.

    References: Absil, Edelman and Koev 2006, Linear Algebra and its Applications 414 (angles of
    random subspaces); the variance follows from the second moments of a projector.
    """
    of_pair = 2 * (p * (d - p)) ** 2 / (d**2 * (d - 1) * (d + 2)) / p**2
    return math.sqrt(of_pair / (K * (K - 1) / 2))


@cache
def _simulated(d: int, K: int, p: int) -> np.ndarray:
    """Excess over p/d of the mean overlap of drawn subspaces, sorted; empty where that is long."""
    if K * d * p > _SMALL:
        return np.empty(0)
    random, found = np.random.default_rng(0), []
    at_once = max(1, _AT_ONCE // (K * d * p))
    i, j = np.triu_indices(K, 1)
    for start in range(0, DRAWS, at_once):
        drawn = random.standard_normal((min(at_once, DRAWS - start), K, d, p))
        Q = np.linalg.qr(drawn)[0] if p > 1 else drawn / np.linalg.norm(drawn, axis=2)[:, :, None]
        flat = Q.transpose(0, 2, 1, 3).reshape(len(Q), d, K * p)
        cross = (flat.transpose(0, 2, 1) @ flat).reshape(len(Q), K, p, K, p)
        squares = np.square(cross).sum(axis=(2, 4))
        found.append(squares[:, i, j].mean(axis=1) / p - p / d)
    return np.sort(np.concatenate(found))


def overlap_p(excess: float, d: int, K: int, p: int) -> float:
    """Two-sided p of a mean overlap that is so far from chance.

    By simulation where that is quick, since few small subspaces have skewed overlaps; of larger
    ones by the normal distribution.
    """
    drawn = _simulated(d, K, p)
    if not len(drawn):
        return math.erfc(abs(excess) / overlap_spread(d, K, p) / math.sqrt(2))
    below = int(np.searchsorted(drawn, excess, side="right"))
    above = len(drawn) - int(np.searchsorted(drawn, excess, side="left"))
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(drawn)))
