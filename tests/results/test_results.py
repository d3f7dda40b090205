"""Results: saved whole or not at all, loaded as they were, compared pair by pair."""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import ResultError
from whitebox_probe.results import result as module
from whitebox_probe.results.table import read_table
from whitebox_probe.stats import bootstrap_interval, summarise

IMAGES = torch.randn(9, 3, 12, 12, generator=torch.Generator().manual_seed(8))


@pytest.fixture
def pair():
    torch.manual_seed(0)
    crate, vit = wp.wrap(small_crate(), name="crate"), wp.wrap(small_vit(), name="vit")
    return [wp.probe(model, IMAGES, progress=False) for model in (crate, vit)]


def test_a_saved_result_loads_as_it_was(pair, tmp_path):
    folder = pair[0].save(tmp_path / "r")
    again = wp.Result.load(folder)
    pd.testing.assert_frame_equal(again.frame, pair[0].frame)
    pd.testing.assert_frame_equal(again.samples, pair[0].samples)
    assert again.run == pair[0].run
    assert set(again.matrices) == {"coherence", "overlap", "angles", "angles_random"}
    for name, stack in pair[0].matrices.items():
        assert np.array_equal(again.matrices[name], stack)
    pd.testing.assert_frame_equal(read_table(folder / "table.csv"), pair[0].frame)


def test_a_save_that_fails_leaves_no_result_that_could_be_taken_for_whole(
    pair, tmp_path, monkeypatch
):
    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(module.np, "savez_compressed", broken)
    with pytest.raises(OSError, match="disk full"):
        pair[0].save(tmp_path / "r")
    assert list((tmp_path / "r").iterdir()) == []
    with pytest.raises(ResultError, match=r"holds no result: it has no run\.json"):
        wp.Result.load(tmp_path / "r")


def test_folders_without_a_result_say_so(pair, tmp_path):
    with pytest.raises(ResultError, match="there is no such folder"):
        wp.Result.load(tmp_path / "none")
    folder = pair[0].save(tmp_path / "r")
    (folder / "table.parquet").write_bytes(b"x")
    with pytest.raises(ResultError, match="is not whole"):
        wp.Result.load(folder)


def test_a_curve_is_asked_for_by_metric_and_site(pair):
    curve = pair[0].curve("compression")
    assert curve["layer"].tolist() == [1, 2, 3]
    with pytest.raises(ResultError, match=r"'attention' is not in the result of crate.*l0@z_out"):
        pair[0].curve("attention")


def test_paired_differences_equal_a_hand_computation(pair):
    differences = wp.compare(pair).differences
    row = differences.query("metric == 'coding_rate' and layer == 2").iloc[0]
    by_hand = pair[1].samples["coding_rate@z_out:2"] - pair[0].samples["coding_rate@z_out:2"]
    by_hand = by_hand / 10  # nats of models of different sizes are per token
    assert (row["first"], row["second"], row["count"]) == ("crate", "vit", 9)
    assert row["form"] == "per_token"
    assert row["effect_size"] == pytest.approx(by_hand.mean() / by_hand.std(ddof=1))
    assert row["difference"] == pytest.approx(by_hand.mean())
    assert row["std"] == pytest.approx(by_hand.std(ddof=1))
    assert row["sem"] == pytest.approx(by_hand.std(ddof=1) / 3)
    assert row["ci_low"] < row["difference"] < row["ci_high"]


def test_official_heads_of_two_families_are_paired():
    models = [wp.wrap(small_crate(), name="crate"), wp.wrap(small_vit(), name="vit")]
    results = [wp.probe(m, IMAGES, convention="official", progress=False) for m in models]
    assert "compression" in set(wp.compare(results).differences["metric"])


def test_a_comparison_carries_relative_depth_and_nats_per_token(pair, tmp_path):
    comparison = wp.compare(pair)
    frame = comparison.frame
    assert frame.query("layer == 3")["relative_depth"].eq(1).all()
    nats = frame.query("metric == 'compression'")
    np.testing.assert_allclose(nats["mean_per_token"], nats["mean"] / 10)
    assert frame.query("metric == 'l0'")["mean_per_token"].isna().all()
    folder = comparison.save(tmp_path)
    assert len(pd.read_csv(folder / "comparison.csv")) == len(frame)
    assert len(pd.read_csv(folder / "differences.csv")) == len(comparison.differences)


class TestWhatCannotBeCompared:
    def test_a_single_result(self, pair):
        with pytest.raises(ResultError, match="takes two or more"):
            wp.compare(pair[:1])

    def test_one_model_twice(self, pair):
        with pytest.raises(ResultError, match="same model"):
            wp.compare([pair[0], pair[0]])

    def test_two_conventions(self, pair):
        other = wp.probe(wp.wrap(small_vit()), IMAGES, convention="official", progress=False)
        with pytest.raises(ResultError, match="differ in convention"):
            wp.compare([pair[0], other])

    def test_two_data_sets(self, pair):
        other = wp.probe(wp.wrap(small_vit()), IMAGES + 1, progress=False)
        with pytest.raises(ResultError, match="differ in data"):
            wp.compare([pair[0], other])

    def test_other_samples(self, pair):
        few = wp.probe(wp.wrap(small_vit()), IMAGES, limit=1, progress=False)
        with pytest.raises(ResultError, match="share 1 samples"):
            wp.compare([pair[0], few])


def test_the_bootstrap_interval_equals_scipys_percentile_interval():
    values = np.random.default_rng(0).gamma(2.0, size=(80, 1))
    low, high = bootstrap_interval(values)
    want = scipy.stats.bootstrap(
        (values[:, 0],),
        np.mean,
        method="percentile",
        n_resamples=9999,
        random_state=np.random.default_rng(1),
    ).confidence_interval
    # 999 resamples place each end within about a tenth of the standard error.
    sem = values.std() / np.sqrt(80)
    assert low[0] == pytest.approx(want.low, abs=0.2 * sem)
    assert high[0] == pytest.approx(want.high, abs=0.2 * sem)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    random = np.random.default_rng(2)
    values = random.normal(3.0, 1.0, size=(100, 400))  # 400 experiments side by side
    low, high = bootstrap_interval(values)
    covered = ((low < 3) & (high > 3)).mean()
    assert 0.90 < covered < 0.98


def test_statistics_of_a_large_common_value_keep_their_digits():
    values = 1e9 + np.random.default_rng(0).normal(size=(50, 1))
    low, high = bootstrap_interval(values)
    assert 0.1 < (high - low)[0] < 1.0


def test_one_sample_says_nothing_of_the_spread():
    summary = summarise(np.array([[2.0, 3.0]]))
    assert summary.mean.tolist() == [2, 3]
    assert np.isnan([summary.std, summary.sem, summary.ci_low, summary.ci_high]).all()


def test_std_follows_the_asked_degrees_of_freedom():
    values = np.random.default_rng(0).normal(size=(7, 2))
    summary = summarise(values, ddof=np.array([1, 0]))
    np.testing.assert_allclose(summary.std, [values[:, 0].std(ddof=1), values[:, 1].std(ddof=0)])
    np.testing.assert_allclose(summary.sem, values.std(axis=0, ddof=1) / np.sqrt(7))


def test_run_json_is_plain_json(pair, tmp_path):
    folder = pair[0].save(tmp_path / "r")
    assert json.loads((folder / "run.json").read_text())["model"] == "crate"
