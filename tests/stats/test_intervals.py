"""Intervals cover what they say: by simulation, and beside SciPy."""

import numpy as np
import pytest
import scipy.stats

from whitebox_probe import stats


def coverage(draw, truth, count, interval, *, trials=1500, seed=0):
    """How often an interval holds the truth."""
    random = np.random.default_rng(seed)
    values = draw(random, (count, trials))
    low, high = interval(values)
    return float(((low <= truth) & (truth <= high)).mean())


def normal(random, shape):
    return random.standard_normal(shape)


@pytest.mark.parametrize("count", [2, 3, 5, 10, 29, 30, 100])
def test_of_normal_values_it_covers_what_it_says(count):
    found = coverage(normal, 0.0, count, stats.mean_interval)
    assert found == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize(("count", "told"), [(2, 0.51), (3, 0.75), (10, 0.90)])
def test_the_bootstrap_alone_falls_short_of_it(count, told):
    assert coverage(normal, 0.0, count, stats.bootstrap_interval) == pytest.approx(told, abs=0.04)


def test_below_thirty_it_is_scipys_t_and_from_there_on_the_bootstrap():
    values = np.random.default_rng(1).standard_normal((7, 3))
    low, high = stats.mean_interval(values)
    want = scipy.stats.t.interval(
        0.95, 6, loc=values.mean(axis=0), scale=scipy.stats.sem(values, axis=0)
    )
    np.testing.assert_allclose([low, high], want)
    many = np.random.default_rng(2).standard_normal((stats.SMALL, 3))
    np.testing.assert_array_equal(stats.mean_interval(many), stats.bootstrap_interval(many))
    assert np.isnan(stats.mean_interval(values[:1])).all()


def test_bca_is_scipys_and_covers_skewed_values_better():
    random = np.random.default_rng(3)
    held = {"bca": 0, "percentile": 0}
    for _ in range(200):
        values = random.exponential(size=20)
        low, high = stats.bca_interval(values)
        held["bca"] += low <= 1 <= high
        low, high = (float(each[0]) for each in stats.bootstrap_interval(values[:, None]))
        held["percentile"] += low <= 1 <= high
    assert held["bca"] >= held["percentile"]
    assert held["bca"] > 170
    assert stats.bca_interval(np.ones(5)) == (1, 1)


def test_a_prediction_interval_holds_one_more_draw():
    random = np.random.default_rng(4)
    outside = {1: 0, 8: 0}
    trials = 4000
    for _ in range(trials):
        draws = random.standard_normal(21)
        for family in outside:
            low, high = stats.prediction_interval(draws[:20], family=family)
            outside[family] += not low <= draws[20] <= high
    assert outside[1] / trials == pytest.approx(0.05, abs=0.012)
    assert outside[8] / trials == pytest.approx(0.05 / 8, abs=0.005)
    with pytest.raises(ValueError, match="one draw"):
        stats.prediction_interval(np.ones(1))


def test_samples_of_several_seeds_are_counted_by_seed():
    random = np.random.default_rng(5)
    held, naive, trials = 0, 0, 400
    for _ in range(trials):
        groups = [random.standard_normal() + 0.1 * random.standard_normal(50) for _ in range(4)]
        _, low, high = stats.hierarchical_interval(groups)
        held += low <= 0 <= high
        low, high = (
            float(each[0]) for each in stats.mean_interval(np.concatenate(groups)[:, None])
        )
        naive += low <= 0 <= high
    assert held / trials == pytest.approx(0.95, abs=0.04)
    assert naive / trials < 0.5
    with pytest.raises(ValueError, match="one group"):
        stats.hierarchical_interval([np.ones(3)])


def test_summaries_of_few_samples_have_the_wider_interval():
    values = np.random.default_rng(6).standard_normal((5, 2))
    summary = stats.summarise(values)
    np.testing.assert_array_equal([summary.ci_low, summary.ci_high], stats.mean_interval(values))
