"""Claims and verdicts: computed from results, by rules that are tested on made-up results."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.auditing.claim import Statistic, claims
from whitebox_probe.auditing.claims.incoherent_subspaces import overlap_null
from whitebox_probe.auditing.judge import judge
from whitebox_probe.auditing.verdicts import Audit, Thresholds
from whitebox_probe.models.registry import build

IMAGES = torch.randn(12, 1, 28, 28, generator=torch.Generator().manual_seed(0))
BY_NAME = claims()


def verdict(name, *numbers, **more):
    return BY_NAME[name].judge(Statistic(*numbers, **more), Thresholds())


def test_rules_on_made_up_statistics():
    assert verdict("compresses", -0.9, -1.0, -0.8, second=-5) == "supported"
    assert verdict("compresses", -0.9, -1.0, -0.8, second=0) == "not supported"
    assert verdict("compresses", -0.3, -0.4, -0.2, second=-5) == "not supported"  # too weak
    assert verdict("compresses", 0.9, 0.7, 1.0, second=5) == "contradicted"
    assert verdict("keeps_expanding", 0.9, 0.85, 0.95) == "supported"
    assert verdict("keeps_expanding", 0.8, 0.7, 0.9) == "not supported"
    assert verdict("keeps_expanding", 0.5, 0.4, 0.6) == "contradicted"
    assert verdict("attention_aligned", 0.02, 0.01, 0.03) == "not supported"
    assert verdict("attention_aligned", 0.4, 0.3, 0.5) == "supported"
    assert verdict("attention_descends", -1, -2, -0.5) == "supported"
    assert verdict("attention_descends", 1, 0.5, 2) == "contradicted"
    assert verdict("ista_descends", 0, -1, 1) == "not supported"
    assert verdict("objective_improves", 5, 4, 6, second=0.9) == "supported"
    assert verdict("objective_improves", 5, 4, 6, second=0.1) == "not supported"
    assert verdict("objective_improves", -5, -6, -4, second=0.1) == "contradicted"


@pytest.fixture(scope="module")
def found():
    models = [wp.load("crate-tiny-fmnist"), wp.load("vit-tiny-fmnist")]
    return wp.audit(models, IMAGES, progress=False)


def test_each_claim_is_judged_for_each_model(found):
    assert len(found.frame) == 2 * len(BY_NAME)
    assert set(found.frame["verdict"]) <= {
        "supported",
        "not supported",
        "contradicted",
        "not applicable",
        "not judged",
    }
    vit = found.frame[found.frame["model"] == "vit-tiny-fmnist"].set_index("claim")
    assert vit.loc["ista_descends", "verdict"] == "not applicable"
    assert "no such step" in vit.loc["ista_descends", "reason"]
    assert "no exact zeros" in vit.loc["sparsifies", "reason"]
    crate = found.frame[found.frame["model"] == "crate-tiny-fmnist"]
    revised = crate.set_index("claim").loc["ista_descends"]
    assert (revised["verdict"], revised["beyond_null"]) == ("not judged", "")
    assert "negative entries" in revised["reason"]
    assert (crate["null"] == "random weights").all()
    assert crate["null_value"].notna().all()


def test_the_statistics_are_those_of_the_results(found):
    row = found.frame.query("model == 'crate-tiny-fmnist' and claim == 'compresses'").iloc[0]
    trend = found.results["crate-tiny-fmnist"].trend("compression", convention="official")
    assert (row["value"], row["ci_low"]) == (trend.rho, trend.rho_low)
    row = found.frame.query("model == 'vit-tiny-fmnist' and claim == 'attention_descends'").iloc[0]
    values = found.results["vit-tiny-fmnist"].values("attention_rate_change")
    assert row["value"] == pytest.approx(values.mean())
    row = found.frame.query("model == 'vit-tiny-fmnist' and claim == 'keeps_expanding'").iloc[0]
    R = found.results["vit-tiny-fmnist"].values("coding_rate").mean(axis=0)
    assert row["value"] == pytest.approx(R[-1] / R[0])
    assert row["ci_low"] < row["value"] < row["ci_high"]


def test_the_interval_of_a_ratio_agrees_with_a_bootstrap_by_hand(found):
    values = found.results["crate-tiny-fmnist"].values("coding_rate")
    random = np.random.default_rng(1)
    picks = random.integers(0, len(values), (2000, len(values)))
    ratios = values[picks, -1].mean(axis=1) / values[picks, 0].mean(axis=1)
    row = found.frame.query("model == 'crate-tiny-fmnist' and claim == 'keeps_expanding'").iloc[0]
    low, high = np.quantile(ratios, [0.025, 0.975])
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((low, high), rel=0.02)


def test_random_subspaces_are_neither_coherent_nor_incoherent(found):
    low, high = overlap_null(found.results["vit-tiny-fmnist"])
    assert low < 0 < high
    assert high - low < 0.1


def test_it_is_saved_whole_and_drawn(found, tmp_path):
    found.save(tmp_path)
    whole = json.loads((tmp_path / "audit.json").read_text())
    assert len(whole["verdicts"]) == len(found.frame)
    assert whole["thresholds"]["keeps"] == Thresholds().keeps
    assert set(whole["rules"]) == set(BY_NAME)
    again = Audit.load(tmp_path)
    pd.testing.assert_frame_equal(again.frame, found.frame)
    pd.testing.assert_frame_equal(again.curves, found.curves, check_dtype=False)
    assert again == found
    (tmp_path / "audit.json").write_text('{"thresholds": {}}')
    with pytest.raises(wp.ProbeError, match="cannot be read"):
        Audit.load(tmp_path)
    figure = wp.plots.audit(found)
    text = " ".join(t.get_text() for ax in figure.axes for t in [*ax.texts, ax.title])
    assert "not applicable" in text
    paths = wp.plots.save(figure, tmp_path / "audit", ["pdf", "png"])
    assert all(path.stat().st_size > 10_000 for path in paths)


ARCH = {"dim": 16, "heads": 2}
PICTURE = ARCH | {"image_size": 12, "patch_size": 4, "dim_head": 8}
OTHERS = {
    "crate_gpt": ARCH | {"vocabulary": 23, "block_size": 12, "depth": 2, "atoms": 32},
    "crate_mae": PICTURE | {"depth": 2, "decoder_depth": 3, "lam": 0.5},
    "crate_alpha": PICTURE | {"classes": 3, "depth": 2},
    "crate_bert": ARCH | {"vocabulary": 23, "positions": 16, "depth": 2},
}


@pytest.mark.parametrize("family", OTHERS)
def test_every_kind_of_proximal_step_is_judged(family):
    model = wp.wrap(build(family, OTHERS[family], source="a test"), name=family)
    text = "vocabulary" in OTHERS[family]
    data = torch.randint(23, (6, 12)) if text else torch.randn(6, 3, 12, 12)
    audit = wp.audit([model], data, progress=False)
    row = audit.frame.set_index("claim").loc["ista_descends"]
    assert row["verdict"] == "not judged"
    curve = audit.curves[audit.curves["claim"] == "ista_descends"]
    assert curve["layer"].tolist() == [1, 2]  # of an autoencoder, the encoder's
    assert row["value"] == pytest.approx(curve["mean"].mean())
    assert wp.plots.audit(audit).axes


@pytest.mark.parametrize("family", ["tost", "aot", "tost_gpt"])
def test_models_without_a_proximal_step_are_judged_on_the_other_claims(family):
    arch = {"tost": ARCH | {"patch_size": 4, "classes": 3, "depth": 2}}
    arch |= {"aot": PICTURE | {"classes": 3, "depth": 2}}
    arch |= {"tost_gpt": ARCH | {"vocabulary": 23, "block_size": 12, "depth": 2}}
    model = wp.wrap(build(family, arch[family], source="a test"), name=family)
    text = "vocabulary" in arch[family]
    data = torch.randint(23, (6, 12)) if text else torch.randn(6, 3, 12, 12)
    rows = wp.audit([model], data, progress=False).frame.set_index("claim")
    assert rows.loc["ista_descends", "verdict"] == "not applicable"
    assert rows.loc["attention_descends", "verdict"] != "not applicable"


def test_two_models_of_one_name_and_no_model_are_refused():
    model = wp.load("crate-tiny-fmnist")
    with pytest.raises(wp.ProbeError, match="of the same model"):
        wp.audit([model, model], IMAGES, progress=False)
    with pytest.raises(wp.ProbeError, match="nothing to judge"):
        judge({}, {})


def test_options_that_move_numbers_are_recorded_and_a_name_stands_for_a_model(tmp_path):
    found = wp.audit("crate-tiny-fmnist", IMAGES, progress=False, prenorm=False, batch_size=6)
    assert found.settings["prenorm"] is False
    assert "batch_size" not in found.settings
    found.save(tmp_path)
    assert Audit.load(tmp_path).settings["prenorm"] is False


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (
            {"convention": "paper"},
            "an audit has no option 'convention': each claim says for itself",
        ),
        ({"null": "gaussian"}, "null='gaussian' is no choice of an audit"),
        ({"eps": [0.1, 0.5]}, "eps has several values"),
        ({"dtype": ["float32", "bfloat16"]}, "dtype has several values: a verdict is of one"),
    ],
)
def test_options_that_claims_fix_are_refused(option, told):
    with pytest.raises(ProbeError, match=told):
        wp.audit("crate-tiny-fmnist", IMAGES, progress=False, **option)
