"""Whether something may be chance: tests over layers, over samples, and of several at a time."""

import math
from collections.abc import Sequence
from functools import cache
from itertools import permutations

import numpy as np

from whitebox_probe.stats.intervals import Array

EXACT = 9
"""Up to so many layers all their orders are gone through; beyond, `ORDERS` are drawn."""
ORDERS = 199_999


def spearman(curve: Array) -> float:
    """Spearman's rank correlation of a curve with depth; 0 of a constant one.

    Shapes: curve (L,), L > 1.
    References: Spearman 1904; ties have their mean rank.
    """
    ranks = _ranks(curve)
    order = np.arange(len(curve)) - (len(curve) - 1) / 2
    scale = math.sqrt(float(ranks @ ranks) * float(order @ order))
    return float(ranks @ order) / scale if scale > 0 else 0.0


def _ranks(curve: Array) -> Array:
    """Centred ranks, ties sharing their mean."""
    _, inverse, counts = np.unique(curve, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean = last - (counts - 1) / 2
    ranks = mean[inverse]
    return np.asarray(ranks - ranks.mean(), dtype=np.float64)


def permutation_p(curve: Array) -> float:
    """Two-sided p of a rank correlation with depth: the share of orders with one as large.

    Exact up to `EXACT` layers: every order of the curve's own values, ties included. Beyond,
    `ORDERS` orders are drawn, and the curve's own counts as one of them, so that p is never too
    small.

    Shapes: curve (L,); 1 for fewer than two layers, and for a constant curve.
    References: Pitman 1937, Supplement to the Journal of the Royal Statistical Society 4; Phipson
        and Smyth 2010, Statistical Applications in Genetics 9 (p values of drawn orders).
    """
    count = len(curve)
    ranks = _ranks(curve)
    if count < 2 or not ranks.any():
        return 1.0
    order = np.arange(count) - (count - 1) / 2
    least = abs(float(ranks @ order)) * (1 - 1e-12)
    if count <= EXACT:
        return float((np.abs(ranks[_orders(count)] @ order) >= least).mean())
    reached = int((np.abs(ranks[_drawn(count)] @ order) >= least).sum())
    return (1 + reached) / (1 + ORDERS)


@cache
def _orders(count: int) -> np.ndarray:
    """All orders, (count!, count)."""
    return np.array(list(permutations(range(count))), dtype=np.int8)


@cache
def _drawn(count: int) -> np.ndarray:
    random = np.random.default_rng(0)
    return np.argsort(random.random((ORDERS, count)), axis=1).astype(np.int16)


def smallest_p(layers: int) -> float:
    """The least two-sided p that any order of so many layers has."""
    return min(1.0, 2 / math.factorial(layers)) if layers > 1 else 1.0


def fewest_layers(alpha: float) -> int:
    """The fewest layers of which some order has a p of at most `alpha`: 5 for 0.05.

    >>> fewest_layers(0.05), smallest_p(4) > 0.05 > smallest_p(5)
    (5, True)
    """
    count = 2
    while smallest_p(count) > alpha:
        count += 1
    return count


def paired_p(differences: Array) -> float:
    """Two-sided p of a mean of 0 by Student's t: of differences of pairs, or of any values.

    1 where all are 0, 0 where all are one other value; NaN for one value alone.

    Shapes: differences (N,).
    References: Student 1908, Biometrika 6.
    """
    count = len(differences)
    if count < 2:
        return math.nan
    mean, spread = float(np.mean(differences)), float(np.std(differences, ddof=1))
    if spread <= abs(mean) * 1e-14:
        return 1.0 if mean == 0 else 0.0
    from scipy.special import stdtr

    return float(2 * stdtr(count - 1, -abs(mean) / spread * math.sqrt(count)))


def holm(values: Sequence[float]) -> list[float]:
    """P values corrected over all of them, each at most 1; NaN stays, and is not counted.

    References: Holm 1979, Scandinavian Journal of Statistics 6.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    found, most = np.full(len(p), np.nan), 0.0
    for place, index in enumerate(known[np.argsort(p[known], kind="stable")]):
        most = max(most, min(1.0, (len(known) - place) * float(p[index])))
        found[index] = most
    return [float(value) for value in found]


def rank_p(value: float, draws: Array, *, wants: str) -> float:
    """Share of draws, the value among them, that lie as far on its side; 1/(n+1) at least.

    Args: wants: `low` or `high`: the side on which a value is extreme.
    """
    reached = draws <= value if wants == "low" else draws >= value
    return (1 + int(reached.sum())) / (1 + len(draws))
