"""Tested p-values: of a curve over its layers, of differences over samples, and of several at once.

All are two-sided unless a direction is given.
"""

import math
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from whitebox_probe.stats.intervals import Array

EXACT_LAYERS = 12
"""The longest curve whose permutations are all counted."""
DRAWS = 99_999
"""Permutations, or flips, drawn where there are too many to count."""
LEAST_P = 1 / (1 + DRAWS)
"""No level below it can be asked of permutations."""
_FLIPS = 17  # samples, whose 2^16 flips are counted
_CELLS = 1 << 21  # numbers held at a time

Integers = NDArray[np.int64]


def permutation_p(curve: Array) -> float:
    """Exact two-sided p of Spearman's rho between a curve and its depth.

    The null: the values of the layers could stand in any order. Up to `EXACT_LAYERS` layers all
    orders are counted, of tied values too; above, `DRAWS` of them are drawn and the curve's own is
    counted in. A walk, each of whose layers adds noise to the one before, is no such curve: its
    rho is large by chance far more often. `sign_p` of its steps tests that.

    Shapes: curve (L,), in the order of the layers. NaN if it holds NaN, 1 for fewer than two.
    References: Spearman 1904; Phipson and Smyth 2010 for the curve's own among the drawn.

    >>> permutation_p(np.arange(5.0))  # 2 of 120 orders
    0.016666666666666666
    """
    if np.isnan(curve).any():
        return math.nan
    if len(curve) < 2:
        return 1.0
    ranks = doubled_ranks(curve)
    own = abs(int(_weights(len(curve)) @ ranks))
    sizes, shares = _null(tuple(sorted(ranks.tolist())))
    return float(shares[np.searchsorted(sizes, own)])


def smallest_p(layers: int) -> float:
    """The least p that `permutation_p` gives a curve of so many layers.

    >>> smallest_p(4)
    0.08333333333333333
    """
    if layers < 2:
        return 1.0
    return 2 / math.factorial(layers) if layers <= EXACT_LAYERS else 1 / (1 + DRAWS)


def fewest_layers(alpha: float = 0.05) -> int:
    """The fewest layers whose smallest p is at or below `alpha`.

    Raises: ValueError for an alpha below `LEAST_P`, that no number of layers reaches.

    >>> fewest_layers(0.05)
    5
    """
    for layers in range(1, EXACT_LAYERS + 1):
        if smallest_p(layers) <= alpha:
            return layers
    raise ValueError(f"no curve has a p of {alpha}: the least that is told is {1 / (1 + DRAWS)}")


def fewest_steps(alpha: float = 0.05) -> int:
    """The fewest steps of one sign whose `sign_p` is at or below `alpha`.

    >>> fewest_steps(0.05)
    6
    """
    return math.ceil(1 - math.log2(alpha))


def doubled_ranks(values: Array) -> Integers:
    """Twice the rank of each value among its row, whole numbers even where some are tied.

    Shapes: (..., L) -> (..., L)
    """
    one, other = values[..., :, None], values[..., None, :]
    found: Integers = 2 * (other < one).sum(axis=-1) + (other == one).sum(axis=-1) + 1
    return found


def _weights(layers: int) -> Integers:
    """Twice the depth of each layer, about its middle: whole numbers that add up to 0."""
    return 2 * np.arange(layers, dtype=np.int64) - (layers - 1)


@lru_cache(maxsize=256)
def _null(ranks: tuple[int, ...]) -> tuple[Integers, Array]:
    """Sizes |T| that occur, ascending, and the share of orders that are as large or larger.

    T is the sum of rank times depth, in whole numbers, so that ties of T are exact; rho is T by a
    constant.
    """
    if len(ranks) <= EXACT_LAYERS:
        totals, counts = _counted(ranks)
        own = 0
    else:
        totals, counts = _drawn(ranks)
        own = 1
    sizes, places = np.unique(np.abs(totals), return_inverse=True)
    found = np.bincount(places, weights=counts)
    above = found[::-1].cumsum()[::-1]
    if own:  # a size that was not drawn has the p of the next that was; none, that of its own order
        sizes = np.append(sizes, np.iinfo(np.int64).max)
        above = np.append(above, 0)
    return sizes, (above + own) / (found.sum() + own)


def _counted(ranks: tuple[int, ...]) -> tuple[Integers, Array]:
    """T of all orders, by dynamic programming over the sets of ranks that are placed so far."""
    layers = len(ranks)
    length = sum(place * rank for place, rank in enumerate(sorted(ranks))) + 1
    ways = {0: np.zeros(length)}
    ways[0][0] = 1
    for place in range(layers):
        following: dict[int, Array] = {}
        for chosen, counts in ways.items():
            for index, rank in enumerate(ranks):
                if chosen >> index & 1:
                    continue
                into = following.setdefault(chosen | 1 << index, np.zeros(length))
                shift = place * rank
                into[shift:] += counts[: length - shift]
        ways = following
    counts = ways[(1 << layers) - 1]
    totals = np.flatnonzero(counts)
    return 2 * totals - (layers - 1) * sum(ranks), counts[totals]


def _drawn(ranks: tuple[int, ...]) -> tuple[Integers, Array]:
    """T of orders that are drawn; always the same ones, so that a curve has one p."""
    random = np.random.default_rng(0)
    weights, own = _weights(len(ranks)), np.array(ranks)
    totals = np.empty(DRAWS, dtype=np.int64)
    batch = max(1, _CELLS // len(ranks))
    for start in range(0, DRAWS, batch):
        part = totals[start : start + batch]
        orders = random.random((len(part), len(ranks))).argsort(axis=1)
        part[:] = own[orders] @ weights
    return totals, np.ones(DRAWS)


def rank_p(value: float, draws: Array, *, direction: Literal["low", "high"]) -> float:
    """One-sided rank p of a value among draws of its null: its own rank among them.

    (1 + number of draws at least as low, or high) / (1 + number of draws): never below
    1 / (1 + number of draws).

    Shapes: draws (n,). NaN where the value or a draw is NaN, or there are no draws.
    References: Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero".

    >>> rank_p(0.0, np.arange(1.0, 20.0), direction="low")
    0.05
    """
    if direction not in ("low", "high"):
        raise ValueError(f"direction is 'low' or 'high', not '{direction}'")
    if not len(draws) or np.isnan(draws).any() or math.isnan(value):
        return math.nan
    beyond = draws <= value if direction == "low" else draws >= value
    return float((1 + beyond.sum()) / (1 + len(draws)))


def holm(p_values: Array) -> Array:
    """Holm's adjusted p-values: below alpha with a family-wise error of at most alpha.

    NaN stays NaN and is not counted among the tests.

    Shapes: (m,) -> (m,)
    References: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".

    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    p_values = np.asarray(p_values, dtype=np.float64)
    found = np.full_like(p_values, np.nan)
    order = np.argsort(p_values)[: (~np.isnan(p_values)).sum()]  # NaN is sorted last
    steps = p_values[order] * np.arange(len(order), 0, -1)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return found


def paired_p(values: Array) -> float:
    """Two-sided p of a mean of 0, by Student's t: exact where the values are normal.

    Shapes: values (N,), differences sample by sample. NaN for fewer than two samples.
    """
    return float(paired_ps(values[:, None])[0])


def paired_ps(values: Array) -> Array:
    """`paired_p` of each column. Columns of zeros have 1; of one other number, 0.

    Shapes: values (N, C) -> (C,)
    References: Student 1908, "The Probable Error of a Mean".
    """
    count = len(values)
    if count < 2:
        return np.full(values.shape[1], np.nan)
    from scipy.special import stdtr  # a tenth of a second, which a probe need not wait for

    mean, error = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(count)
    size = np.where(mean == 0, 0.0, np.inf)
    size = np.divide(np.abs(mean), error, out=size, where=error > 0)
    found: Array = np.where(np.isnan(mean), np.nan, 2 * stdtr(count - 1, -size))
    return found


def sign_p(values: Array) -> float:
    """Two-sided sign-flip p of a mean of 0: exact where the values are symmetric about 0.

    The null: each value could as well have the other sign. Up to 17 values all flips are counted;
    above, `DRAWS` of them are drawn and the values' own signs are counted in.

    Of the steps of a curve, `sign_p(np.diff(curve))`, it tests the change from first layer to last
    against a walk without a direction.

    Shapes: values (N,). NaN if they hold NaN, or there is none.
    References: Fisher 1935, "The Design of Experiments", section 21.

    >>> sign_p(np.ones(6))  # 2 of 64
    0.03125
    """
    if not len(values) or np.isnan(values).any():
        return math.nan
    whole = np.abs(values).sum()
    # What differs by rounding alone is as large.
    least = abs(values.sum()) - 1e-12 * whole
    if len(values) <= _FLIPS:
        sums = values[:1]
        for value in values[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) >= least).mean())
    random, beyond = np.random.default_rng(0), 0
    batch = max(1, _CELLS // len(values))
    for start in range(0, DRAWS, batch):
        rows = min(batch, DRAWS - start)
        flipped = random.integers(0, 2, size=(rows, len(values)), dtype=np.int8) @ values
        beyond += int((np.abs(values.sum() - 2 * flipped) >= least).sum())
    return (1 + beyond) / (1 + DRAWS)
