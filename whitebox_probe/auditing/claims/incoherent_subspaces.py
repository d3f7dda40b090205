"""Incoherence: heads' subspaces overlap less than random ones."""

import math
from typing import Any

from whitebox_probe.auditing.claim import Claim, Finding, Use
from whitebox_probe.auditing.grid import Setting
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.results.result import Result

OVERLAP = Use("overlap_mean", convention=None)
Z95 = 1.959963984540054


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
    uses = (OVERLAP,)
    wants = "low"
    keeps = ("basis",)
    place = 4

    def requests(self, setting: Setting) -> list[Any]:
        """All numbers of the subspaces: they are one measure."""
        return [self._request(Use("coherence", convention=None), setting)]

    def find(self, result: Readings, setting: Setting, thresholds: Thresholds) -> Finding:
        """The place, tested against uniformly drawn subspaces."""
        overlap = self.rows(result, OVERLAP, setting)["mean"].to_numpy()
        if not overlap.size or math.isnan(float(overlap.mean())):
            return Finding(missing="it has one head, which overlaps with no other")
        run = result.run
        K, d, p = run.heads, run.dim, run.dim_head
        if p >= d:
            return Finding(missing="its heads span all directions: they cannot lie apart")
        chance = p / d
        excess = float(overlap.mean()) - chance
        sd = overlap_spread(d, K, p, len(overlap))
        value = excess / chance if excess < 0 else excess / (1 - chance)
        half = Z95 * sd / (chance if excess < 0 else 1 - chance)
        side = 0 if abs(value) < thresholds.position else 1 if value < 0 else -1
        why = "" if side > 0 else "it is above chance" if side else "it is where chance puts it"
        tail = math.erfc(abs(excess) / sd / math.sqrt(2))
        parts = {"overlap": float(overlap.mean()), "chance": chance}
        return Finding(
            value, value - half, value + half, tail, "random subspaces", side, why, parts
        )

    def sentence(self, found: Finding) -> str:
        """The overlap beside chance."""
        overlap, chance = found.parts["overlap"], found.parts["chance"]
        return (
            f"heads overlap by {overlap:.3f} on average, uniformly drawn subspaces by {chance:.3f}"
        )


def overlap_spread(d: int, K: int, p: int, layers: int) -> float:
    """Standard deviation of the mean overlap of uniformly drawn subspaces about p/d, exactly.

    The squared overlap of two of them, tr(P Q), has variance 2 p^2 (d-p)^2 / (d^2 (d-1) (d+2)). The
    pairs of K independent ones are uncorrelated: whatever one is, the other is uniform.

    References: Absil, Edelman and Koev 2006, Linear Algebra and its Applications 414 (angles of
    random subspaces); the variance follows from the second moments of a projector.
    """
    of_pair = 2 * (p * (d - p)) ** 2 / (d**2 * (d - 1) * (d + 2)) / p**2
    return math.sqrt(of_pair / (K * (K - 1) / 2 * layers))


def overlap_null(result: Result) -> tuple[float, float]:
    """95% range of the mean overlap, over its chance, less 1, of subspaces of a model's sizes."""
    run = result.run
    d, K, p, layers = (int(run[name]) for name in ("dim", "heads", "dim_head", "layers"))
    half = Z95 * overlap_spread(d, K, p, layers) * d / p
    return -half, half
