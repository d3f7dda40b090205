"""p-values: against all orders one by one, SciPy, examples by hand, and curves without a trend."""

import math
from itertools import permutations, product

import numpy as np
import pytest
import scipy.stats

from whitebox_probe.stats import (
    fewest_layers,
    holm,
    paired_p,
    paired_ps,
    permutation_p,
    rank_p,
    sign_p,
    smallest_p,
    trend,
)
from whitebox_probe.stats.significance import EXACT_LAYERS


@pytest.fixture
def random():
    return np.random.default_rng(0)


def p_of_all_orders(curve):
    ranks = scipy.stats.rankdata(curve)
    depth = np.arange(len(curve)) - (len(curve) - 1) / 2
    sizes = np.abs(np.array(list(permutations(ranks))) @ depth)
    return (sizes >= abs(ranks @ depth) - 1e-9).mean()


@pytest.mark.parametrize("layers", [2, 3, 4, 5, 6, 7, 8])
@pytest.mark.parametrize("values", [2, 4, 1000])
def test_p_counts_all_orders_of_tied_values_too(random, layers, values):
    curve = random.integers(0, values, size=layers).astype(float)
    assert permutation_p(curve) == pytest.approx(p_of_all_orders(curve), abs=1e-12)


def test_p_of_a_monotone_curve_is_the_smallest():
    for layers in range(2, EXACT_LAYERS + 2):
        assert permutation_p(-np.arange(float(layers))) == pytest.approx(smallest_p(layers))
        if layers <= EXACT_LAYERS:
            assert smallest_p(layers) == pytest.approx(2 / math.factorial(layers))


def test_p_beyond_the_exact_lengths_is_that_of_the_asymptotic_distribution(random):
    curve = np.arange(40.0) + 40 * random.normal(size=40)
    want = scipy.stats.spearmanr(range(40), curve).pvalue
    assert 0.001 < want < 0.5
    assert permutation_p(curve) == pytest.approx(want, rel=0.1)


def test_p_drawn_and_p_counted_agree_where_they_meet(random, monkeypatch):
    import whitebox_probe.stats.significance as module

    curve = random.normal(size=9)
    counted = permutation_p(curve)
    module._null.cache_clear()
    monkeypatch.setattr(module, "EXACT_LAYERS", 4)
    drawn = permutation_p(curve)
    module._null.cache_clear()
    assert drawn != counted
    assert drawn == pytest.approx(counted, abs=0.007)  # four standard errors of 99,999 draws


def test_a_flat_curve_one_layer_or_nan_is_no_trend():
    assert permutation_p(np.zeros(6)) == permutation_p(np.zeros(20)) == 1
    assert permutation_p(np.zeros(1)) == 1
    assert math.isnan(permutation_p(np.array([0.0, np.nan, 1.0])))


def test_five_layers_are_the_fewest_that_reach_a_twentieth():
    assert fewest_layers(0.05) == 5
    assert smallest_p(4) > 0.05 >= smallest_p(5)
    assert fewest_layers(0.01) == 6
    with pytest.raises(ValueError, match="no curve has a p of 1e-12"):
        fewest_layers(1e-12)


@pytest.mark.parametrize("layers", range(2, 25))
def test_a_curve_without_a_trend_is_significant_at_most_once_in_twenty(layers):
    curves = np.random.default_rng(layers).normal(size=(2000, layers))
    wrong = np.mean([permutation_p(curve) <= 0.05 for curve in curves])
    # 5% of 2,000 within three standard errors; exact p-values of few layers are below.
    assert wrong <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 2000)
    assert (wrong == 0) == (layers < 5)


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, and never below the one before.
    found = holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])).tolist() == [1.0, 1.0]


def test_holm_leaves_out_what_was_not_tested():
    found = holm(np.array([np.nan, 0.02, np.nan, 0.03]))
    np.testing.assert_allclose(found, [np.nan, 0.04, np.nan, 0.04])
    assert holm(np.array([])).size == 0
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_paired_p_is_scipys(random):
    values = random.normal(0.3, 1.0, size=(9, 4))
    np.testing.assert_allclose(paired_ps(values), scipy.stats.ttest_1samp(values, 0).pvalue)
    assert paired_p(values[:, 1]) == paired_ps(values)[1]


def test_paired_p_of_constants_and_of_one_sample():
    assert paired_p(np.zeros(4)) == 1
    assert paired_p(np.ones(4)) == 0
    assert math.isnan(paired_p(np.ones(1)))
    assert math.isnan(paired_p(np.array([1.0, np.nan, 2.0])))


@pytest.mark.parametrize("count", [1, 2, 6, 9])
def test_sign_p_counts_all_flips(random, count):
    values = random.normal(0.5, 1.0, size=count)
    sums = np.abs(np.array(list(product((1, -1), repeat=count))) @ values)
    assert sign_p(values) == pytest.approx((sums >= abs(values.sum()) - 1e-12).mean())


def test_sign_p_of_many_is_near_students(random):
    values = random.normal(0.15, 1.0, size=100)
    assert sign_p(values) == pytest.approx(paired_p(values), abs=0.01)


def test_sign_p_of_zeros_is_one_and_of_nothing_nan():
    assert sign_p(np.zeros(5)) == sign_p(np.zeros(30)) == 1
    assert math.isnan(sign_p(np.array([])))
    assert math.isnan(sign_p(np.array([np.nan, 1.0])))


def test_sign_p_of_the_steps_of_a_walk_is_significant_once_in_twenty():
    random = np.random.default_rng(3)
    walks = random.normal(size=(2000, 12)).cumsum(axis=1)
    assert np.mean([sign_p(np.diff(each)) <= 0.05 for each in walks]) == pytest.approx(
        0.05, abs=0.015
    )
    # What rho's own p takes for a trend, as it says.
    assert np.mean([permutation_p(each) <= 0.05 for each in walks]) > 0.3


def test_rank_p_counts_the_value_among_the_draws():
    draws = np.arange(1.0, 21.0)
    assert rank_p(0.0, draws, direction="low") == pytest.approx(1 / 21)
    assert rank_p(3.0, draws, direction="low") == pytest.approx(4 / 21)
    assert rank_p(3.0, draws, direction="high") == pytest.approx(19 / 21)
    assert math.isnan(rank_p(np.nan, draws, direction="high"))
    assert math.isnan(rank_p(1.0, np.array([]), direction="high"))
    with pytest.raises(ValueError, match="'low' or 'high'"):
        rank_p(1.0, draws, direction="both")


@pytest.mark.parametrize("kept", [0.0, 0.9])
@pytest.mark.parametrize("layers", [2, 8, 24])
@pytest.mark.parametrize("samples", [5, 100])
def test_a_flat_curve_has_a_significant_step_at_most_once_in_twenty(kept, layers, samples):
    random = np.random.default_rng(layers)
    wrong = 0
    for _ in range(400):
        values = random.normal(size=(samples, layers))
        for layer in range(1, layers):
            values[:, layer] *= np.sqrt(1 - kept**2)
            values[:, layer] += kept * values[:, layer - 1]
        steps = holm(paired_ps(np.diff(values, axis=1)))
        wrong += bool((steps <= 0.05).any())
    assert wrong / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_steps_of_a_trend_are_those_that_holm_leaves(random):
    values = random.normal(size=(40, 6)) + np.array([0, 2.0, 2.2, 0.2, 0.2, 3.0])
    found = trend(values)
    steps = np.diff(values, axis=1)
    adjusted = holm(scipy.stats.ttest_1samp(steps, 0).pvalue)
    assert found.rising == np.mean((adjusted <= 0.05) & (steps.mean(axis=0) > 0)) > 0
    assert found.falling == np.mean((adjusted <= 0.05) & (steps.mean(axis=0) < 0)) > 0


def test_samples_make_the_interval_of_rho_narrow_and_leave_its_p(random):
    shape = np.array([3.0, 1.0, 2.0, 0.0])
    few, many = (trend(shape + 0.01 * random.normal(size=(n, 4))) for n in (40, 4000))
    assert few.rho_high == many.rho_high == few.rho == pytest.approx(-0.8)
    assert few.p == many.p == permutation_p(shape) > 0.05


def test_a_trend_of_few_samples_has_students_interval_of_its_change(random):
    values = random.normal(size=(6, 5))
    found = trend(values)
    change = values[:, -1] - values[:, 0]
    want = scipy.stats.t.interval(0.95, 5, change.mean(), scipy.stats.sem(change))
    assert (found.change_low, found.change_high) == pytest.approx(want)
    assert math.isnan(trend(np.full((3, 4), np.nan)).rho)
