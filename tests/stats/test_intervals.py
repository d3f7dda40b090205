"""Intervals hold what they say: against SciPy, closed forms, and values whose mean is known."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.stats

from whitebox_probe.stats import (
    SMALL,
    bca_interval,
    bootstrap_interval,
    by_content,
    few_note,
    hierarchical_interval,
    mean_interval,
    prediction_interval,
    summarise,
)

ROUNDS = 2000  # a share of 95% is known within 1.5%, three standard errors


def share_that_holds(interval, values, truth=0.0):
    low, high = interval(values)
    return ((low <= truth) & (truth <= high)).mean()


@pytest.mark.parametrize("count", [2, 3, 5, 10, SMALL - 1, SMALL, 100])
def test_an_interval_of_normal_values_holds_the_mean_as_often_as_it_says(count):
    values = np.random.default_rng(count).normal(size=(count, ROUNDS))
    held = share_that_holds(mean_interval, values)
    # The bootstrap of 30 is a little narrow; Student's t is exact.
    assert held >= (0.92 if count == SMALL else 0.935)
    assert held <= 0.965


@pytest.mark.parametrize("kind", ["exponential", "lognormal"])
@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_of_few_skewed_values_it_holds_the_mean_more_often_than_the_bootstrap(kind, count):
    values = getattr(np.random.default_rng(count), kind)(size=(count, ROUNDS))
    truth = 1.0 if kind == "exponential" else np.exp(0.5)
    before, now = (
        share_that_holds(interval, values, truth)
        for interval in (bootstrap_interval, mean_interval)
    )
    assert now > before + 0.03


def test_of_few_values_it_is_scipys_students_t():
    values = np.random.default_rng(1).gamma(2.0, size=(7, 3))
    low, high = mean_interval(values)
    for column in range(3):
        mine = values[:, column]
        want = scipy.stats.t.interval(0.95, 6, mine.mean(), scipy.stats.sem(mine))
        assert (low[column], high[column]) == pytest.approx(want, rel=1e-12)


def test_of_many_values_it_is_the_percentile_bootstrap():
    values = np.random.default_rng(1).gamma(2.0, size=(SMALL, 3))
    np.testing.assert_array_equal(mean_interval(values, seed=4), bootstrap_interval(values, seed=4))


def test_a_table_takes_students_t_below_the_limit():
    values = np.random.default_rng(1).normal(size=(5, 2))
    found = summarise(values)
    np.testing.assert_array_equal((found.ci_low, found.ci_high), mean_interval(values))
    width = found.ci_high - found.ci_low
    np.testing.assert_allclose(width / found.sem, 2 * scipy.stats.t.ppf(0.975, 4))


def test_equal_values_have_an_interval_of_no_width():
    assert [end.tolist() for end in mean_interval(np.full((4, 1), 2.0))] == [[2.0], [2.0]]


def test_one_sample_has_none():
    assert np.isnan(mean_interval(np.zeros((1, 2)))).all()
    assert np.isnan(bca_interval(np.zeros(1))).all()
    assert np.isnan(prediction_interval(np.zeros(1))).all()
    assert np.isnan(hierarchical_interval([np.arange(9.0)])).all()


def test_a_line_says_when_samples_are_few():
    assert few_note(SMALL) == few_note(0) == ""
    assert few_note(1) == "1 sample: there are no intervals; 30 or more are advised"
    assert "Student's t" in few_note(2)


def test_the_bca_interval_of_a_median_is_scipys():
    values = np.random.default_rng(3).lognormal(size=60)
    found = bca_interval(values, statistic=np.median, seed=5)
    want = scipy.stats.bootstrap(
        (values,),
        np.median,
        n_resamples=20_000,
        random_state=np.random.default_rng(9),
    ).confidence_interval
    # 999 resamples place each end within a few tenths of the standard error.
    assert found == pytest.approx(tuple(want), abs=0.3 * (want.high - want.low) / 4)
    assert found == bca_interval(values, statistic=np.median, seed=5)


def test_the_bca_interval_of_equal_values_is_their_statistic():
    assert bca_interval(np.full(5, 2.0)) == (2.0, 2.0)


def test_the_bca_interval_of_a_skewed_mean_leans_to_the_long_tail():
    values = np.random.default_rng(3).lognormal(size=50)
    low, high = bca_interval(values)
    plain = [end[0] for end in bootstrap_interval(values[:, None])]
    assert (low > plain[0], high > plain[1]) == (True, True)


@pytest.mark.parametrize("family", [1, 8])
def test_a_prediction_interval_holds_one_further_draw_as_often_as_it_says(family):
    random = np.random.default_rng(family)
    held = []
    for _ in range(ROUNDS):
        draws = random.normal(3.0, 2.0, size=(20, family))
        further = random.normal(3.0, 2.0, size=family)
        ends = [prediction_interval(draws[:, i], family=family) for i in range(family)]
        held.append(all(low <= x <= high for (low, high), x in zip(ends, further, strict=True)))
    # Bonferroni is exact for one, and a little wide for independent ones.
    assert np.mean(held) == pytest.approx(0.95, abs=0.015)


def test_a_prediction_interval_is_the_closed_form():
    draws = np.array([1.0, 2.0, 4.0])
    half = scipy.stats.t.ppf(1 - 0.1 / 6, 2) * draws.std(ddof=1) * np.sqrt(4 / 3)
    want = (draws.mean() - half, draws.mean() + half)
    assert prediction_interval(draws, family=3, level=0.9) == pytest.approx(want)


@pytest.mark.parametrize("groups", [2, 3, 10, 40])
def test_an_interval_over_checkpoints_holds_the_mean_of_further_ones(groups):
    random = np.random.default_rng(groups)
    held, pooled = [], []
    for _ in range(1000):
        drawn = random.normal(size=(groups, 1)) + random.normal(size=(groups, 8))
        low, high = hierarchical_interval(list(drawn))
        held.append(low <= 0 <= high)
        low, high = (end[0] for end in mean_interval(drawn.reshape(-1, 1)))
        pooled.append(low <= 0 <= high)
    assert 0.92 <= np.mean(held) <= 0.975
    assert np.mean(pooled) < 0.8  # all samples as if they were independent


def test_groups_count_the_same_whatever_their_size():
    groups = [np.zeros(3), np.ones(300), np.full(5, 2.0)]
    low, high = hierarchical_interval(groups)
    assert (low + high) / 2 == pytest.approx(1.0)


def test_rows_of_contents_have_the_standard_error_of_clusters():
    sizes = [1, 2, 3, 5, 1]
    contents = np.repeat([40, 7, -3, 11, 0], sizes)
    values = np.random.default_rng(0).normal(size=(len(contents), 2)) + 9
    rows = by_content(values, contents)
    assert rows.shape == (5, 2)
    np.testing.assert_allclose(rows.mean(axis=0), values.mean(axis=0))
    sums = [(values - values.mean(axis=0))[contents == each].sum(axis=0) for each in set(contents)]
    sem = np.sqrt(5 / 4 * np.square(sums).sum(axis=0)) / len(values)
    np.testing.assert_allclose(summarise(values, contents=contents).sem, sem)
    np.testing.assert_allclose(rows.std(axis=0, ddof=1) / np.sqrt(5), sem)
    assert by_content(values, np.arange(len(values))) is values
    assert by_content(values, None) is values


def test_an_interval_of_copies_holds_the_mean_as_often_as_it_says():
    random = np.random.default_rng(3)
    sizes = random.integers(1, 4, size=20)
    held, alone = [], []
    for _ in range(1000):
        values = np.repeat(random.normal(size=(20, 1)), sizes, axis=0)
        low, high = mean_interval(by_content(values, np.repeat(np.arange(20), sizes)))
        held.append(low <= 0 <= high)
        low, high = mean_interval(values)
        alone.append(low <= 0 <= high)
    assert 0.91 <= np.mean(held) <= 0.975
    assert np.mean(alone) < 0.85  # each copy as if it were another sample


def test_scipy_is_not_loaded_before_it_is_needed():
    code = "import sys, whitebox_probe.stats; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
