"""Trends over depth, effect sizes and interpolation, against scipy and closed forms."""

import numpy as np
import pytest
import scipy.stats

from whitebox_probe.stats import effect_size, interpolate, trend

RANDOM = np.random.default_rng(0)


def test_a_falling_measure_has_rho_minus_one_and_every_step_falls():
    values = -np.arange(6.0) + 0.01 * RANDOM.normal(size=(50, 6))
    found = trend(values)
    assert (found.rho, found.rho_low, found.rho_high) == pytest.approx((-1, -1, -1))
    assert found.falling == 1
    assert found.rising == 0
    assert found.change == pytest.approx(values[:, -1].mean() - values[:, 0].mean())
    assert found.change_low < found.change < found.change_high < 0


def test_rho_is_scipys_and_its_interval_covers_a_bootstrap_by_hand():
    values = RANDOM.normal(size=(40, 7)) + np.array([0, 0.3, 0.1, 0.5, 0.2, 0.6, 0.4])
    found = trend(values, seed=3)
    assert found.rho == pytest.approx(scipy.stats.spearmanr(range(7), values.mean(0)).statistic)
    by_hand = [
        scipy.stats.spearmanr(range(7), values[RANDOM.integers(0, 40, 40)].mean(0)).statistic
        for _ in range(600)
    ]
    low, high = np.quantile(by_hand, [0.025, 0.975])
    assert (found.rho_low, found.rho_high) == pytest.approx((low, high), abs=0.12)


def test_noise_has_no_trend():
    found = trend(RANDOM.normal(size=(100, 8)))
    assert found.rho_low < 0 < found.rho_high
    assert found.falling == found.rising == 0
    assert found.p > 0.05


def test_one_layer_or_sample_has_none():
    for shape in ((1, 5), (5, 1)):
        with pytest.raises(ValueError, match="two layers and two samples"):
            trend(np.zeros(shape))


def test_effect_size_is_cohens():
    values = RANDOM.normal(1, 2, size=(30, 3))
    want = values.mean(0) / values.std(0, ddof=1)
    np.testing.assert_allclose(effect_size(values), want)
    assert np.isnan(effect_size(np.ones((4, 1)))[0])
    assert np.isnan(effect_size(np.ones((1, 1)))[0])


def test_interpolation_is_numpys():
    values = RANDOM.normal(size=(5, 4))
    depth, grid = np.array([0.25, 0.5, 0.75, 1.0]), np.array([0.1, 0.3, 0.5, 0.9, 1.0])
    want = np.stack([np.interp(grid, depth, row) for row in values])
    np.testing.assert_allclose(interpolate(depth, values, grid), want)
