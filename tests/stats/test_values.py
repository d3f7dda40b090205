"""Every statistic against NumPy and SciPy written out, and at the ends of what it takes."""

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats

from whitebox_probe.stats import (
    LEAST_P,
    LEVEL,
    SMALL,
    bca_interval,
    bootstrap_interval,
    effect_size,
    few_note,
    fewest_layers,
    fewest_steps,
    hierarchical_interval,
    holm,
    interpolate,
    mean_interval,
    paired_ps,
    permutation_p,
    prediction_interval,
    rank_p,
    sign_p,
    smallest_p,
    spearman,
    summarise,
    t_interval,
    trend,
)
from whitebox_probe.stats.significance import doubled_ranks


@pytest.fixture
def random():
    return np.random.default_rng(0)


def resamples(count, seed=0):
    """How often each sample is drawn in each of 999 resamples."""
    return np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=999)


def bootstrapped(values, seed=0):
    means = resamples(len(values), seed) @ values / len(values)
    return np.quantile(means, [0.025, 0.975], axis=0)


class TestIntervals:
    def test_the_level_and_the_limit_are_those_that_the_docs_tell(self):
        assert (LEVEL, SMALL, LEAST_P) == (0.95, 30, 1e-5)

    @pytest.mark.parametrize("count", [2, 5, 40])
    def test_a_summary_is_numpys(self, random, count):
        values = random.normal(2, 3, size=(count, 3))
        found = summarise(values, seed=3)
        for column in range(3):
            mine = values[:, column]
            assert found.mean[column] == pytest.approx(mine.mean())
            assert found.std[column] == pytest.approx(mine.std(ddof=1))
            assert found.sem[column] == pytest.approx(mine.std(ddof=1) / np.sqrt(count))
        assert found.count == count
        np.testing.assert_array_equal((found.ci_low, found.ci_high), mean_interval(values, seed=3))
        np.testing.assert_allclose(summarise(values, ddof=0).std, values.std(axis=0))
        each = summarise(values, ddof=np.array([0, 1, 0])).std
        np.testing.assert_allclose(each, [values[:, i].std(ddof=i % 2) for i in range(3)])

    def test_of_one_sample_there_is_a_mean_and_no_spread(self):
        found = summarise(np.array([[1.0, 2.0]]))
        assert found.mean.tolist() == [1.0, 2.0]
        for each in (found.std, found.sem, found.ci_low, found.ci_high):
            assert each.shape == (2,)
            assert np.isnan(each).all()
        assert found.count == 1

    def test_an_effect_size_is_the_mean_over_the_deviation(self, random):
        differences = random.normal(-1, 2, size=(9, 2))
        differences[:, 1] = 3.0
        found = effect_size(differences)
        want = differences[:, 0].mean() / differences[:, 0].std(ddof=1)
        assert found[0] == pytest.approx(want)
        assert found[0] < 0
        assert np.isnan(found[1])
        assert effect_size(1e-3 * differences)[0] == pytest.approx(want)
        assert effect_size(np.array([[1.0], [3.0]])) == pytest.approx([math.sqrt(2)])
        assert np.isnan(effect_size(np.ones((1, 4)))).tolist() == [True] * 4

    def test_the_line_of_few_samples_names_them(self):
        assert few_note(29).startswith("29 samples: intervals are Student's t, and wide; 30 or")
        assert few_note(2).startswith("2 samples: ")
        assert few_note(30) == ""

    def test_two_samples_have_an_interval(self):
        low, high = mean_interval(np.array([[0.0], [2.0]]))
        half = scipy.stats.t.ppf(0.975, 1)
        assert (low[0], high[0]) == pytest.approx((1 - half, 1 + half))
        assert t_interval(np.array([[0.0], [2.0]]))[0] == pytest.approx(low)

    def test_the_limit_between_both_kinds_is_at_thirty(self, random):
        values = random.gamma(2.0, size=(SMALL, 2))
        np.testing.assert_array_equal(mean_interval(values[1:]), t_interval(values[1:]))
        np.testing.assert_array_equal(mean_interval(values), bootstrap_interval(values))
        assert (mean_interval(values)[0] != t_interval(values)[0]).all()

    @pytest.mark.parametrize("count", [2, 40, 2001])  # above 2000 draws are made in parts
    @pytest.mark.parametrize("seed", [0, 5])
    def test_the_bootstrap_is_of_999_multinomial_resamples(self, random, count, seed):
        values = random.gamma(2.0, size=(count, 2)) - [0, 50]
        found = bootstrap_interval(values, seed=seed)
        np.testing.assert_allclose(found, bootstrapped(values, seed), rtol=1e-10)

    def test_the_bootstrap_has_scipys_ends(self, random):
        values = random.gamma(2.0, size=60)
        want = scipy.stats.bootstrap(
            (values,), np.mean, n_resamples=20_000, method="percentile", random_state=random
        ).confidence_interval
        found = [end[0] for end in bootstrap_interval(values[:, None])]
        assert found == pytest.approx([want.low, want.high], abs=0.15 * (want.high - want.low) / 4)

    @pytest.mark.parametrize("statistic", [np.mean, np.median])
    def test_the_bca_interval_is_scipys_of_999_resamples(self, random, statistic):
        values = random.gamma(2.0, size=12)
        for seed in (0, 2):
            want = scipy.stats.bootstrap(
                (values,), statistic, n_resamples=999, random_state=np.random.default_rng(seed)
            ).confidence_interval
            assert bca_interval(values, statistic=statistic, seed=seed) == tuple(want)
        assert bca_interval(values) == bca_interval(values, seed=0)
        low, high = bca_interval(np.array([0.0, 1.0]))
        assert 0 <= low <= 0.5 <= high <= 1

    def test_over_groups_it_is_that_of_their_means(self, random):
        groups = [random.normal(size=n) for n in (3, 5, 4)]
        means = np.array([each.mean() for each in groups])
        want = scipy.stats.t.interval(0.95, 2, means.mean(), scipy.stats.sem(means))
        assert hierarchical_interval(groups) == pytest.approx(want)
        many = [random.normal(size=3) for _ in range(SMALL)]
        means = np.array([each.mean() for each in many])
        assert hierarchical_interval(many, seed=4) == pytest.approx(tuple(bootstrapped(means, 4)))

    def test_two_draws_predict_a_third(self):
        half = scipy.stats.t.ppf(0.975, 1) * math.sqrt(2) * math.sqrt(1.5)
        assert prediction_interval(np.array([1.0, 3.0])) == pytest.approx((2 - half, 2 + half))


class TestOfCurves:
    def test_of_twelve_layers_all_orders_are_counted_and_of_thirteen_some_are_drawn(self):
        assert smallest_p(12) == 2 / math.factorial(12)
        assert smallest_p(13) == smallest_p(40) == 1e-5
        assert [smallest_p(n) for n in (0, 1, 2, 3)] == [1, 1, 1, 1 / 3]
        assert permutation_p(np.arange(12.0)) == pytest.approx(2 / math.factorial(12))
        assert permutation_p(np.arange(13.0)) == 1e-5
        assert permutation_p(np.arange(2.0)) == permutation_p(np.zeros(0)) == 1

    def test_p_of_drawn_orders_is_the_share_that_are_as_large_with_its_own(self):
        curve = np.array([0, 2, 1, 5, 3, 9, 4, 6, 6, 8, 7, 12, 10, 11.0])[::-1]
        ranks = scipy.stats.rankdata(curve)
        depth = np.arange(14) - 6.5
        own = abs(ranks @ depth)
        random = np.random.default_rng(0)
        orders = random.random((99_999, 14)).argsort(axis=1)
        # Drawn from the ranks in ascending order.
        beyond = (np.abs(np.sort(ranks)[orders] @ depth) >= own - 1e-9).sum()
        assert permutation_p(curve) == (1 + beyond) / 100_000
        assert permutation_p(curve) == permutation_p(-curve)
        middling = curve[random.permutation(14)]
        own = abs(scipy.stats.rankdata(middling) @ depth)
        beyond = (np.abs(np.sort(ranks)[orders] @ depth) >= own - 1e-9).sum()
        assert permutation_p(middling) == (1 + beyond) / 100_000

    def test_the_drawn_orders_of_a_long_curve_come_in_parts(self):
        curve = np.arange(60.0) % 23
        random = np.random.default_rng(0)
        ranks, depth = scipy.stats.rankdata(curve), np.arange(60) - 29.5
        totals = [
            np.sort(ranks)[random.random((part, 60)).argsort(axis=1)] @ depth
            for part in (34_952, 34_952, 30_095)  # of 2^21 numbers
        ]
        beyond = (np.abs(np.concatenate(totals)) >= abs(ranks @ depth) - 1e-9).sum()
        assert permutation_p(curve) == (1 + beyond) / 100_000

    def test_the_fewest_layers_and_steps_reach_a_level_exactly(self):
        assert [fewest_layers(a) for a in (1.0, 1 / 3, 0.33, 1 / 12, 0.05)] == [1, 3, 4, 4, 5]
        assert fewest_layers(2 / math.factorial(12)) == 12
        with pytest.raises(ValueError, match="the least that is told is 1e-05"):
            fewest_layers(1e-9)
        assert [fewest_steps(a) for a in (1.0, 0.5, 0.05, 1 / 32, 1 / 33)] == [1, 2, 6, 6, 7]
        assert (fewest_layers(), fewest_steps()) == (5, 6)
        for alpha in (0.05, 0.02, 1 / 64):
            steps = fewest_steps(alpha)
            assert sign_p(np.ones(steps)) <= alpha < sign_p(np.ones(steps - 1))

    @pytest.mark.parametrize("shape", [(1,), (6,), (3, 9)])
    def test_doubled_ranks_are_scipys_twice(self, random, shape):
        values = random.integers(0, 4, size=shape).astype(float)
        want = 2 * scipy.stats.rankdata(values, axis=-1)
        assert doubled_ranks(values).tolist() == want.tolist()

    def test_spearman_is_scipys_with_ties_and_zero_of_a_flat_curve(self, random):
        for layers in (2, 3, 9):
            curve = random.integers(0, 3, size=layers).astype(float)
            curve[0] = 9
            want = scipy.stats.spearmanr(range(layers), curve)[0]
            assert spearman(curve) == pytest.approx(want)
        assert spearman(np.ones(4)) == 0
        assert math.isnan(spearman(np.array([0, np.nan, 1])))
        assert spearman([1, 2, 4]) == pytest.approx(1)

    def test_a_trend_is_numpys_and_scipys(self, random):
        values = random.gamma(1.0, size=(40, 12)) + np.linspace(0, 0.4, 12)
        found = trend(values, seed=2)
        curve = values.mean(axis=0)
        rhos = [
            scipy.stats.spearmanr(range(12), each)[0] for each in resamples(40, 2) @ values / 40
        ]
        assert found.rho == pytest.approx(scipy.stats.spearmanr(range(12), curve)[0])
        want = np.quantile(rhos, [0.025, 0.975])
        # Of twelve layers rho has values enough that another quantile is another number.
        assert len({*np.quantile(rhos, [0.0125, 0.017, 0.025, 0.05])}) == 4
        assert (found.rho_low, found.rho_high) == pytest.approx(tuple(want))
        change = values[:, 11] - values[:, 0]
        assert found.change == pytest.approx(change.mean())
        want = bootstrapped(change, 2)
        assert (found.change_low, found.change_high) == pytest.approx(tuple(want))
        assert found.p == permutation_p(curve)
        assert trend(values) == trend(values, seed=0)

    def test_a_step_at_the_level_itself_counts(self):
        """Of one step, so that nothing is corrected; p is 5% up to rounding."""
        t = scipy.stats.t.ppf(0.975, 3)
        noise = np.array([-1.0, 1, -1, 1])
        mean = t * noise.std(ddof=1) / 2
        for factor, share in ((1 + 1e-9, 1.0), (1 - 1e-9, 0.0)):
            steps = noise + factor * mean
            values = 1e-3 * np.column_stack([np.zeros(4), steps])
            assert (trend(values).rising, trend(values).falling) == (share, 0.0)
            assert (trend(-values).rising, trend(-values).falling) == (0.0, share)

    def test_a_trend_needs_two_of_both(self):
        assert trend(np.array([[0.0, 1], [0, 2]])).change == 1.5
        for shape in ((1, 5), (5, 1)):
            with pytest.raises(ValueError, match="two layers and two samples"):
                trend(np.zeros(shape))
        flat = trend(np.zeros((3, 4)))
        assert (flat.rho, flat.rho_low, flat.rho_high, flat.p) == (0, 0, 0, 1)
        assert (flat.rising, flat.falling) == (0, 0)

    def test_interpolation_is_numpys_row_by_row_and_flat_at_the_ends(self, random):
        values, depth = random.normal(size=(3, 5)), np.array([0.1, 0.2, 0.5, 0.8, 1.0])
        grid = np.array([0.0, 0.1, 0.15, 0.2, 0.3, 0.7, 0.999, 1.0, 2.0])
        want = [np.interp(grid, depth, row) for row in values]
        np.testing.assert_allclose(interpolate(depth, values, grid), want)
        assert interpolate(np.array([0.5]), values[:, :1], grid).shape == (3, 9)


class TestOfSeveral:
    def test_the_rank_counts_draws_that_are_equal(self):
        draws = np.array([1.0, 2, 2, 3])
        assert rank_p(2.0, draws, direction="low") == 4 / 5
        assert rank_p(2.0, draws, direction="high") == 4 / 5
        assert rank_p(0.0, draws, direction="low") == 1 / 5
        assert rank_p(9.0, draws, direction="low") == 1
        assert rank_p(1.0, np.array([0.0]), direction="high") == 1 / 2
        assert math.isnan(rank_p(1.0, np.array([0.0, np.nan]), direction="high"))

    def test_holm_multiplies_by_how_many_are_left_and_ends_at_one(self):
        assert holm(np.array([0.2])).tolist() == [0.2]
        assert holm(np.array([0.5, 0.1, 0.6])).tolist() == pytest.approx([1.0, 0.3, 1.0])
        assert holm([0.6, 0.7, 0.8]).tolist() == [1.0, 1.0, 1.0]
        assert holm([0.25, 0.125]).tolist() == [0.25, 0.25]

    def test_paired_p_of_two_samples_and_of_columns_of_constants(self):
        values = np.array([[1.0, 2, 0, -1, 0], [3.0, 2, 0, -1, np.nan]])
        found = paired_ps(values)
        want = scipy.stats.ttest_1samp(values[:, 0], 0).pvalue
        assert found[0] == pytest.approx(want)
        assert found[1:4].tolist() == [0, 1, 0]
        assert np.isnan(found[4])
        assert np.isnan(paired_ps(np.ones((1, 3)))).tolist() == [True] * 3

    def test_up_to_seventeen_values_all_flips_are_counted(self):
        assert sign_p(np.ones(17)) == 2 / 2**17
        assert sign_p(np.ones(18)) == pytest.approx(2 / 2**18, abs=5e-5)
        assert sign_p(np.ones(18)) >= 1e-5
        assert sign_p(np.ones(1)) == 1

    def test_flips_that_are_drawn_are_those_of_the_values_with_their_own(self, random):
        values = random.normal(0.3, 1, size=30)
        flips = np.random.default_rng(0).integers(0, 2, size=(99_999, 30), dtype=np.int8)
        # 2^21 numbers at a time, of which 30 go 69,905 times.
        again = np.random.default_rng(0)
        parts = [again.integers(0, 2, size=(n, 30), dtype=np.int8) for n in (69_905, 30_094)]
        flips = np.concatenate(parts)
        sums = np.abs((1 - 2.0 * flips) @ values)
        beyond = (sums >= abs(values.sum()) * (1 - 1e-9)).sum()
        assert sign_p(values) == (1 + beyond) / 100_000

    def test_what_differs_by_rounding_alone_is_as_large(self):
        values = np.array([0.1, 0.2, -0.3, 0.7, 0.7])
        whole = np.array([1, 2, -3, 7, 7])
        sums = np.abs(np.array(list(product((1, -1), repeat=5))) @ whole)
        assert sign_p(values) == (sums >= 14).mean()
        assert sign_p(np.array([0.1, 0.2, -0.3])) == 1
        # A millionth is no rounding: of the eight flips two pairs are as large.
        assert sign_p(np.array([1.0, 1e-6, 0.0])) == 1 / 2
