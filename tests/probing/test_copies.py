"""Samples that are there again tell nothing of how another would differ: they count once."""

import numpy as np
import pandas as pd
import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe.cli.main import main
from whitebox_probe.probing.similarity import CopiesWarning

IMAGES = torch.randn(12, 3, 12, 12, generator=torch.Generator().manual_seed(0))
METRICS = ["compression", "hoyer"]
SPREAD = ["mean", "sem", "ci_low", "ci_high"]


def again(images, times):
    """Each image so many times, not side by side."""
    return torch.cat([images] * times)


@pytest.fixture(scope="module")
def model():
    return wp.wrap(small_vit().eval(), name="a model")


@pytest.fixture(scope="module")
def other():
    return wp.wrap(small_crate().eval(), name="another")


def probed(model, images):
    return wp.probe(model, images, METRICS, progress=False)


def test_intervals_are_those_of_the_samples_that_differ(model):
    once, thrice = probed(model, IMAGES), probed(model, again(IMAGES, 3))
    found = thrice.frame
    pd.testing.assert_frame_equal(found[SPREAD], once.frame[SPREAD], rtol=1e-6)
    assert set(found["count"]) == {36}
    note = "24 of 36 samples are copies of others: intervals count each content once"
    assert set(found["note"]) == {note}
    assert set(once.frame["note"]) == {""}
    changes = [each.changes().select_dtypes("number") for each in (thrice, once)]
    pd.testing.assert_frame_equal(*changes, rtol=1e-5)
    trends = [each.trend("hoyer") for each in (thrice, once)]
    assert trends[0].change_low == pytest.approx(trends[1].change_low)
    assert trends[0].rho_low == pytest.approx(trends[1].rho_low)


def test_copies_of_one_sample_have_no_interval(model):
    found = probed(model, again(IMAGES[:1], 32)).frame
    assert found["mean"].notna().all()
    assert found[["sem", "ci_low", "ci_high"]].isna().all(axis=None)


def test_paired_differences_take_each_content_once(model, other):
    once, thrice = (
        wp.compare([probed(model, images), probed(other, images)]).differences
        for images in (IMAGES, again(IMAGES, 3))
    )
    columns = ["difference", "sem", "ci_low", "ci_high", "p"]
    pd.testing.assert_frame_equal(thrice[columns], once[columns], rtol=1e-4)


def test_an_audit_is_of_the_samples_that_differ(model):
    options = {"null": False, "robustness": False, "progress": False}
    with pytest.raises(wp.ProbeError, match="one sample is too few .*copies of it"):
        wp.audit(model, again(IMAGES[:1], 48), **options)
    once, often = (
        wp.audit(model, images, **options) for images in (IMAGES[:3], again(IMAGES[:3], 8))
    )
    assert set(often.frame["samples"]) == {3}
    assert list(often.frame["verdict"]) == list(once.frame["verdict"])
    # Shuffles are drawn by a sample's number, and so those of its copies are others.
    frames = [
        each.frame[~each.frame["claim"].str.startswith("attention")] for each in (often, once)
    ]
    for column in ("value", "ci_low", "ci_high", "p"):
        found, expected = (frame[column].to_numpy() for frame in frames)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_similarity_leaves_copies_out(model, other):
    once = wp.similarity(model, other, IMAGES, rank=2, progress=False)
    with pytest.warns(CopiesWarning, match="228 of 240 samples are copies"):
        often = wp.similarity(model, other, again(IMAGES, 20), rank=2, progress=False)
    assert often.count == 12
    for name in ("cka", "overlap", "procrustes"):
        np.testing.assert_allclose(getattr(often, name), getattr(once, name), rtol=1e-5)
    with pytest.warns(CopiesWarning), pytest.raises(wp.ProbeError, match="3 samples are too few"):
        wp.similarity(model, other, again(IMAGES[:3], 10), progress=False)


def test_the_command_says_so(tmp_path, capsys):
    np.save(tmp_path / "one.npy", np.repeat(np.random.default_rng(0).random((1, 1, 28, 28)), 40, 0))
    words = ["crate-tiny-fmnist", "--metrics", "hoyer", "--data", f"{tmp_path / 'one.npy'}"]
    assert main(["run", *words, "--out", f"{tmp_path / 'out'}"]) == 0
    told = capsys.readouterr().out
    assert "39 of 40 samples are copies of others" in told
