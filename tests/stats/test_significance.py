"""Tests have the error rates that they say, and the values of SciPy and of hand computation."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from whitebox_probe import stats


def test_spearman_is_scipys_ties_included():
    random = np.random.default_rng(0)
    for layers in (2, 3, 7, 20):
        for curve in (random.standard_normal(layers), np.round(random.standard_normal(layers))):
            if np.ptp(curve) > 0:
                want = scipy.stats.spearmanr(np.arange(layers), curve).statistic
                assert stats.spearman(curve) == pytest.approx(want)
    assert stats.spearman(np.ones(5)) == 0


@pytest.mark.parametrize("layers", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("ties", [False, True])
def test_p_is_the_share_of_orders_counted_one_by_one(layers, ties):
    curve = np.random.default_rng(layers).standard_normal(layers)
    curve = np.round(curve) if ties else curve
    own = abs(stats.spearman(curve))
    orders = [abs(stats.spearman(np.array(o))) for o in itertools.permutations(curve)]
    want = np.mean([other >= own - 1e-12 for other in orders])
    assert stats.permutation_p(curve) == pytest.approx(1.0 if np.ptp(curve) == 0 else want)


@pytest.mark.parametrize("layers", range(2, 25))
def test_curves_without_a_trend_are_called_one_at_most_in_one_of_twenty(layers):
    random = np.random.default_rng(layers)
    p = np.array([stats.permutation_p(random.standard_normal(layers)) for _ in range(300)])
    # Of 300 at 5%, more than 26 would be seen once in 1,000 times.
    assert (p <= 0.05).sum() <= 26
    assert p.min() >= min(stats.smallest_p(layers), 1 / (1 + 199_999))


def test_the_least_p_and_the_fewest_layers():
    assert [stats.smallest_p(n) for n in (1, 2, 4, 5)] == [1, 1, 2 / 24, 2 / 120]
    assert stats.fewest_layers(0.05) == 5
    assert stats.fewest_layers(0.001) == 7
    assert stats.permutation_p(np.arange(7.0)) == pytest.approx(2 / math.factorial(7))
    assert stats.permutation_p(np.arange(12.0)) == pytest.approx(1 / 200_000)


def test_holm_by_hand():
    # 0.01 * 4, then max(0.02 * 3, ...), then 0.03 * 2 raised to the one before, then 0.5.
    p = [0.03, 0.01, math.nan, 0.5, 0.02]
    assert stats.holm(p)[:2] == pytest.approx([0.06, 0.04])
    assert math.isnan(stats.holm(p)[2])
    assert stats.holm(p)[3:] == pytest.approx([0.5, 0.06])
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]


def test_paired_p_is_scipys():
    values = np.random.default_rng(7).standard_normal(9) + 0.5
    want = scipy.stats.ttest_1samp(values, 0).pvalue
    assert stats.paired_p(values) == pytest.approx(want)
    assert stats.paired_p(np.zeros(4)) == 1
    assert stats.paired_p(np.full(4, -2.0)) == 0
    assert math.isnan(stats.paired_p(np.ones(1)))


def test_a_rank_among_draws():
    draws = np.arange(20.0)
    assert stats.rank_p(-1, draws, wants="low") == pytest.approx(1 / 21)
    assert stats.rank_p(-1, draws, wants="high") == 1
    assert stats.rank_p(18.5, draws, wants="high") == pytest.approx(2 / 21)


def test_steps_of_flat_curves_are_called_significant_at_most_in_one_of_twenty():
    random = np.random.default_rng(8)
    seen = 0
    for _ in range(300):
        found = stats.trend(10 + random.standard_normal((20, 8)))
        seen += found.falling + found.rising > 0
    assert seen <= 26
    steep = stats.trend(np.linspace(0, 3, 8) + 0.1 * random.standard_normal((20, 8)))
    assert (steep.rising, steep.falling) == (1, 0)
    assert steep.p == pytest.approx(2 / math.factorial(8))
