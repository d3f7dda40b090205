"""Incoherence: heads' subspaces overlap less than random ones."""

from functools import cache

import numpy as np

from whitebox_probe.auditing.claim import Claim, Statistic, below_zero
from whitebox_probe.auditing.verdicts import Thresholds
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.plan import Request
from whitebox_probe.results.result import Result


class IncoherentSubspaces(Claim):
    """The heads' subspaces overlap less than random ones."""

    name = "incoherent_subspaces"
    text = "heads' subspaces overlap less than random ones"
    statistic = "|Q_i^T Q_j|_F^2/p over its expectation p/d, minus 1, mean over layers"
    rule = "the value is below 0 by more than 95% of draws of random subspaces"
    metric = "overlap_mean"
    where = {"orthonormal": False}
    wants = "low"
    place = 4

    def requests(self, model: ProbeModel) -> list[Request]:
        """All numbers of the subspaces."""
        return [Request(metric="coherence", orthonormal=False)]

    def take(self, result: Result, thresholds: Thresholds) -> Statistic:
        """The excess, with the range of the null about it: below chance if 0 is above it."""
        where = self.settings(result)
        mine = result.curve("overlap_mean", **where)["mean"].to_numpy()
        chance = result.curve("overlap_random", **where)["mean"].to_numpy()
        if np.isnan(mine).any():
            return Statistic(missing="it has one head")
        excess = float((mine / chance - 1).mean())
        low, high = overlap_null(result)
        return Statistic(excess, excess + low, excess + high)

    def judge(self, found: Statistic, thresholds: Thresholds) -> str:
        """By the interval."""
        return below_zero(found)


def overlap_null(result: Result, *, draws: int = 200) -> tuple[float, float]:
    """95% range of the mean relative overlap of random subspaces of a model's sizes."""
    run = result.run
    return _range_of(run.dim, run.heads, run.dim_head, run.layers, draws)


@cache
def _range_of(d: int, K: int, p: int, layers: int, draws: int) -> tuple[float, float]:
    """The same, of subspaces of these sizes: one model's and its null's are drawn once."""
    random = np.random.default_rng(0)
    pairs = np.triu_indices(K, 1)
    one = np.empty(draws)
    for i in range(draws):
        Q = np.linalg.qr(random.standard_normal((K, d, p)))[0]
        together = Q.transpose(1, 0, 2).reshape(d, K * p)
        cross = (together.T @ together).reshape(K, p, K, p)  # Q_k^T Q_j of all pairs
        shares = (cross**2).sum(axis=(1, 3)) / p
        one[i] = shares[pairs].mean() / (p / d) - 1
    # Layers are drawn independently: the mean over L of them.
    means = random.choice(one, size=(2000, layers)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
