"""Verdicts on made-up results: rules, corrections, nulls, other settings, and error rates."""

from dataclasses import replace

import numpy as np
import pytest

from tests.auditing import made_up
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.auditing.claim import claims
from whitebox_probe.auditing.judge import Measured, judge
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import permutation_p, sign_p

LAYERS, SAMPLES = 8, 64
FALLING = np.linspace(10, 8, LAYERS) + 0.05 * np.random.default_rng(1).standard_normal(
    (SAMPLES, LAYERS)
)


def noise(scale=0.01, seed=2):
    return scale * np.random.default_rng(seed).standard_normal((SAMPLES, LAYERS))


def verdicts(values, *, nulls=(), **options):
    result = made_up.result(values, layers=LAYERS, samples=SAMPLES)
    measured = Measured(result, made_up.BASE, nulls={"random weights": nulls} if nulls else {})
    frame = judge({"made-up": measured}, **options).frame
    return frame.set_index("claim")


def compressing(work=-0.3, beyond=-0.3, moved=-0.2, mean=-0.3, shared=-0.3):
    """R^c that falls, with the parts of whose work it is."""
    change = work + noise()
    return {
        ("compression", "z_in"): FALLING,
        ("compression", "z_out"): FALLING + moved + noise(seed=3),
        "attention_rate_change_tangential": change,
        "attention_rate_change_radial": noise(seed=4),
        "attention_rate_change": change,
        "attention_rate_change_shuffled": change - beyond + noise(seed=5),
        "attention_rate_change_mean": change - mean + noise(seed=6),
        "attention_rate_change_shared": change - shared + noise(seed=7),
    }


def test_a_fall_by_the_work_of_attention_on_tokens_is_compression():
    row = verdicts(compressing()).loc["compresses"]
    assert row["verdict"] == "supported", row["reason"]
    moved = (-0.2 + noise(seed=3))[:, 1:].sum(axis=1).mean()
    assert row["value"] == pytest.approx(moved / FALLING[:, 1].mean())
    assert row["p"] == pytest.approx(2 / 40320)  # seven layers from the second on and what leaves
    assert row["reason"] == "no random weights to compare it with"


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"moved": 0.0}, "less than 5% by what the layers do to the tokens"),
        ({"work": 0.0, "beyond": 0.0}, "the attention's part at right angles to each token is"),
        ({"mean": 0.0}, "beyond the mean update of other samples"),
        ({"shared": 0.0}, "beyond what looks at no token"),
        ({"beyond": 0.0}, "handed to other tokens"),
    ],
)
def test_a_fall_that_is_not_the_attentions_work_is_no_compression(parts, reason):
    row = verdicts(compressing(**parts)).loc["compresses"]
    assert row["verdict"] == "not supported"
    assert reason in row["reason"]


def test_a_rise_at_fixed_subspaces_contradicts_and_one_by_the_subspaces_does_not():
    rising = {("compression", "z_in"): FALLING[:, ::-1]}
    tokens = rising | {("compression", "z_out"): FALLING[:, ::-1] + 0.2 + noise()}
    assert verdicts(tokens).loc["compresses", "verdict"] == "contradicted"
    frozen = rising | {("compression", "z_out"): FALLING[:, ::-1]}
    assert verdicts(frozen).loc["compresses", "verdict"] == "not supported"


def test_a_fall_in_steps_that_go_both_ways_is_a_walks():
    """Its trend is no chance, were the layers in any order; yet one of its steps goes up."""
    steps = np.array([-0.6, -0.6, 0.5, -0.6, -0.6, -0.6])
    fall = 12 + np.concatenate([[0, 0], np.cumsum(steps)])
    assert permutation_p(fall[1:]) < 0.05 / 7 < 0.05 < sign_p(steps)
    row = verdicts(compressing() | {("compression", "z_in"): fall + noise()}).loc["compresses"]
    assert row["verdict"] == "not supported"
    assert "from a walk" in row["reason"]


def test_half_of_the_samples_is_another_setting():
    gap = {"lasso_gap_closed": np.r_[np.zeros(SAMPLES // 2), np.ones(SAMPLES // 2)][:, None]}
    gap["lasso_gap_closed"] = gap["lasso_gap_closed"] + noise()
    result = made_up.result(gap, layers=LAYERS, samples=SAMPLES)
    other = replace(made_up.BASE, axis="class_token", class_token=True)
    audit = judge({"made-up": Measured(result, made_up.BASE, [other], result)})
    row = audit.frame.set_index("claim").loc["ista_descends"]
    assert row["verdict"] == "depends on samples"
    assert f"not with samples={SAMPLES // 2}" in row["reason"]


def test_random_weights_that_show_as_much_take_the_support_away():
    nulls = [
        made_up.result(
            compressing() | {("compression", "z_in"): FALLING * shift},
            layers=LAYERS,
            samples=SAMPLES,
        )
        for shift in np.linspace(0.9, 1.1, 20)
    ]
    row = verdicts(compressing(), nulls=nulls).loc["compresses"]
    assert (row["verdict"], row["beyond_null"]) == ("not supported", "no")
    assert row["null_draws"] == 20
    assert "random weights show as much" in row["reason"]
    flat = [
        made_up.result(
            {("compression", "z_in"): 10 + noise(0.1, seed)}, layers=LAYERS, samples=SAMPLES
        )
        for seed in range(20)
    ]
    row = verdicts(compressing(), nulls=flat).loc["compresses"]
    assert (row["verdict"], row["beyond_null"], row["reason"]) == ("supported", "yes", "")
    assert row["null_low"] < row["null_mean"] < row["null_high"]
    assert row["null_p"] == pytest.approx(1 / 21)


def around(values, other, *, axis="eps", **changed):
    """The verdicts of a result whose other setting holds other values."""
    setting = replace(made_up.BASE, axis=axis, **changed)
    result = made_up.result(values, layers=LAYERS, samples=SAMPLES)
    beside = made_up.result(other, layers=LAYERS, samples=SAMPLES, setting=setting)
    measured = Measured(result, made_up.BASE, [setting], made_up.together(result, beside))
    return judge({"made-up": measured})


def test_a_setting_that_reverses_a_verdict_is_told_in_its_place():
    weaker = compressing(work=-0.2)
    audit = around(compressing(), weaker, eps=0.2)
    row = audit.frame.set_index("claim").loc["compresses"]
    assert (row["verdict"], row["robust"]) == ("supported", "robust")
    rising = {("compression", "z_in"): FALLING[:, ::-1]}
    audit = around(compressing(), compressing() | rising, eps=0.2)
    row = audit.frame.set_index("claim").loc["compresses"]
    assert row["verdict"] == "depends on eps"
    assert row["robust"] == "flips with eps=0.2"
    assert "supported as usual, not with eps=0.2" in row["reason"]
    told = audit.robustness.query("claim == 'compresses'").iloc[0]
    assert (told["setting"], told["counts"], told["agrees"]) == ("eps=0.2", True, False)


def test_a_setting_that_takes_a_claim_its_meaning_does_not_count():
    embedded = FALLING.copy()
    embedded[:, 0] = FALLING[:, -1]  # what enters the first layer is compressed as it is
    values = compressing() | {("compression", "z_in"): embedded}
    setting = replace(made_up.BASE, axis="embedding", first_layer=1)
    result = made_up.result(values, layers=LAYERS, samples=SAMPLES)
    audit = judge({"made-up": Measured(result, made_up.BASE, [setting], result)})
    row = audit.frame.set_index("claim").loc["compresses"]
    assert (row["verdict"], row["robust"]) == ("supported", "robust")
    told = audit.robustness.query("claim == 'compresses'").iloc[0]
    assert not told["counts"]
    assert not told["agrees"]
    assert "embedding" in told["why"]


def test_too_few_layers_to_tell_a_trend_are_not_judged():
    result = made_up.result({}, layers=5, samples=SAMPLES)
    audit = judge({"made-up": Measured(result, made_up.BASE)})
    row = audit.frame.set_index("claim").loc["compresses"]
    assert row["verdict"] == "not applicable"
    assert "5 layers are too few" in row["reason"]
    # What there is to see is told all the same, and tested by nothing.
    assert "R^c changes by" in row["sentence"]
    assert row["ci_low"] <= row["value"] <= row["ci_high"]
    assert np.isnan(row["p"])
    assert np.isnan(row["p_holm"])
    assert len(audit.curves.query("claim == 'compresses'")) == 5


@pytest.mark.parametrize(
    ("overlap", "verdict"),
    [(0.0, "supported"), (0.25, "not supported"), (0.2525, "not supported"), (1.0, "contradicted")],
)
def test_subspaces_lie_between_orthogonal_chance_and_identical(overlap, verdict):
    row = verdicts({"overlap_mean": np.full(LAYERS, overlap)}).loc["incoherent_subspaces"]
    assert row["verdict"] == verdict
    wanted = {0.0: -1.0, 0.25: 0.0, 0.2525: 0.0025 / 0.75, 1.0: 1.0}[overlap]
    assert row["value"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("gap", "others", "step", "verdict"),
    [
        (0.6, 0.0, 0.5, "supported"),
        (0.01, 0.0, 0.5, "not supported"),
        (-0.6, 0.0, 0.5, "contradicted"),
        (0.6, 0.0, 2.5, "supported"),  # longer than it may be, and yet it falls
        (0.6, 0.55, 0.5, "not supported"),  # whatever the atoms are
    ],
)
def test_a_proximal_step_closes_the_gap_of_its_own_dictionary(gap, others, step, verdict):
    values = {"lasso_gap_closed": gap + noise(), "lasso_step": np.full((SAMPLES, LAYERS), step)}
    values |= {"lasso_gap_others": others + noise(seed=7)}
    assert verdicts(values).loc["ista_descends", "verdict"] == verdict


def test_a_direction_that_all_tokens_share_is_not_the_attentions():
    aligned = {"descent_cosine": 0.4 + noise(), "descent_cosine_common": noise(seed=3)}
    assert verdicts(aligned).loc["attention_aligned", "verdict"] == "supported"
    shared = aligned | {"descent_cosine_common": 0.39 + noise(seed=3)}
    row = verdicts(shared).loc["attention_aligned"]
    assert row["verdict"] == "not supported"
    assert "all tokens share" in row["reason"]
    against = {"descent_cosine": -0.4 + noise(), "descent_cosine_common": noise(seed=3)}
    assert verdicts(against).loc["attention_aligned", "verdict"] == "contradicted"


def test_the_objective_must_rise_layer_after_layer_and_tells_the_lam_that_turns_it():
    rising = np.linspace(1, 2, LAYERS) + noise(1e-3)
    values = {
        "sparse_rate_reduction": rising,
        "rate_reduction": rising + 0.1 * np.linspace(40, 30, LAYERS),
        "coding_rate": 4 + noise(),
    }
    result = made_up.result(values, layers=LAYERS, samples=SAMPLES)
    audit = judge({"made-up": Measured(result, made_up.BASE)})
    row = audit.frame.set_index("claim").loc["objective_improves"]
    assert row["verdict"] == "supported", row["reason"]
    parts = audit.parts[audit.parts["claim"] == "objective_improves"].set_index("part")["value"]
    assert parts["nonzero_entries"] == pytest.approx(-10, abs=0.2)
    assert parts["rate_reduction_nats"] == pytest.approx(0, abs=0.01)
    last = rising.copy()
    last[:, -2:] -= [0.2, 0.4]
    row = verdicts(values | {"sparse_rate_reduction": last}).loc["objective_improves"]
    assert row["verdict"] == "not supported"
    assert "falls from some layer" in row["reason"]


@pytest.mark.parametrize("curves", [made_up.flat, made_up.walk])
@pytest.mark.parametrize("layers", [2, 4, 6, 8, 12, 24])
def test_curves_without_a_trend_get_no_verdict(layers, curves):
    """At most 5% of models whose curves show nothing have any claim supported or contradicted."""
    wrong = 0
    for seed in range(60):
        values = made_up.shows_nothing(curves, layers, seed=seed)
        result = made_up.result(values, layers=layers, samples=16)
        those = [claims()[name] for name in ("compresses", "sparsifies", "objective_improves")]
        frame = judge({"made-up": Measured(result, made_up.BASE)}, of=those).frame
        wrong += bool(frame["verdict"].isin(["supported", "contradicted"]).any())
    assert wrong <= 6  # of 60, at 5%: more than 6 would be seen once in 100 times


def test_thresholds_are_shares_and_known_by_name():
    assert Thresholds.of(cosine=0.2).cosine == 0.2
    with pytest.raises(ProbeError, match="no threshold 'cosin'"):
        Thresholds.of(cosin=0.2)
    with pytest.raises(ProbeError, match="'gap' is 3"):
        Thresholds.of(gap=3)
    with pytest.raises(ProbeError, match="nothing to judge"):
        judge({})
