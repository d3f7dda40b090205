"""From findings to verdicts: which rule settles what, in which order, on both sides of each limit.

Claims here are told what they find; draws of random weights hold a number that is known.
"""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats

from tests.auditing import made_up
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.auditing import judge as rules
from whitebox_probe.auditing.claim import Claim, Finding, Use, claims
from whitebox_probe.auditing.grid import around, usual
from whitebox_probe.auditing.judge import Measured, judge, unsettled
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds

LAYERS, SAMPLES = 3, 4
BIT = 2.0**-20
EPS = replace(made_up.BASE, eps=0.2, axis="eps")
LAM = replace(made_up.BASE, lam=1.0, axis="lam")
TOKENS = replace(made_up.BASE, class_token=False, axis="class_token")
YES = Finding(0.5, 0.25, 0.75, 0.001, "samples", 1)


class Told(Claim):
    """A claim that finds what it is told."""

    text, statistic, unit, rule = "it is so", "what it is told, from {first} on", "share", "told so"
    uses = (Use("l0"),)
    wants = "high"
    keeps = ("eps", "class_token", "samples")
    loses = {"lam": "it is about another"}

    def __init__(self, name, found, *, wants="high"):
        self.name, self.found, self.wants = name, found, wants

    def find(self, result, setting, thresholds):
        """What it is told, or what it makes of a setting."""
        if isinstance(self.found, Finding):
            return self.found
        return self.found(result, setting, thresholds)

    def compared(self, result, setting, thresholds):
        """What stands in the draw."""
        return float(self.values(result, self.uses[0], setting).mean())

    def sentence(self, found):
        """Nothing."""
        return "so it is"


@cache
def result(level=0.5, *, samples=SAMPLES):
    values = {"l0": np.full((samples, LAYERS), level)}
    return made_up.result(values, layers=LAYERS, samples=samples, of=["sparsifies"])


def audited(*those, nulls=None, others=(), around=None, samples=SAMPLES, absent=None, **options):
    own = result(samples=samples)
    measured = Measured(own, made_up.BASE, others, around or (own if others else None), nulls or {})
    return judge({"made-up": replace(measured, absent=absent)}, of=those, **options)


def row_of(*those, **options):
    return audited(*those, **options).frame.iloc[0]


def by_setting(usual, **others):
    """A finding for each axis, the usual one where none is named."""
    return lambda result, setting, thresholds: others.get(setting.axis, usual)


class TestChance:
    """Of p, corrected by Holm over the claims that were tested."""

    @pytest.mark.parametrize("side", [1, -1])
    def test_p_decides_at_the_level(self, side):
        t = Thresholds(alpha=2.0**-4)
        found = replace(YES, side=side, p=2.0**-4)
        row = row_of(Told("one", found), thresholds=t)
        assert row["verdict"] == ("supported" if side > 0 else "contradicted")
        row = row_of(Told("one", replace(found, p=2.0**-4 + BIT)), thresholds=t)
        assert row["verdict"] == "not supported"
        assert row["reason"] == "it may be chance: p = 0.063, corrected over the claims"

    @pytest.mark.parametrize(
        ("ps", "corrected"),
        [
            ((0.02, 0.03, 0.04), (0.06, 0.06, 0.06)),
            ((0.01, 0.03, 0.04), (0.03, 0.06, 0.06)),
            ((0.04, 0.01, 0.02), (0.04, 0.03, 0.04)),
        ],
    )
    def test_it_is_corrected_over_the_claims(self, ps, corrected):
        frame = audited(*(Told(f"{p}", replace(YES, p=p)) for p in ps)).frame
        assert frame["p_holm"].tolist() == pytest.approx(corrected)
        assert frame["p"].tolist() == list(ps)
        want = ["supported" if p <= 0.05 else "not supported" for p in corrected]
        assert frame["verdict"].tolist() == want

    @pytest.mark.parametrize(
        "untested", [Finding(missing="nothing there"), replace(YES, few="too few")]
    )
    def test_claims_that_were_not_tested_are_not_counted(self, untested):
        frame = audited(Told("one", replace(YES, p=0.04)), Told("two", untested)).frame
        assert frame["p_holm"].iloc[0] == 0.04
        assert np.isnan(frame["p_holm"].iloc[1])
        assert frame["verdict"].tolist() == ["supported", "not applicable"]

    def test_a_claim_whose_side_is_none_counts_all_the_same(self):
        one = Told("one", replace(YES, p=0.04))
        frame = audited(one, Told("two", replace(YES, side=0, p=0.9))).frame
        assert frame["p_holm"].tolist() == pytest.approx([0.08, 0.9])

    def test_no_p_is_no_proof(self):
        assert row_of(Told("one", replace(YES, p=np.nan)))["verdict"] == "not supported"


class TestRandomWeights:
    """A value has to lie outside the prediction interval of one more draw, on its side."""

    DRAWS = (0.2, 0.25, 0.3, 0.35)

    @staticmethod
    def interval(draws, *, family=1, alpha=0.05):
        draws = np.asarray(draws)
        t = scipy.stats.t.ppf(1 - alpha / (2 * family), len(draws) - 1)
        half = t * draws.std(ddof=1) * np.sqrt(1 + 1 / len(draws))
        return draws.mean() - half, draws.mean() + half

    def row(self, compared, *, wants="high", side=1, others=(), draws=DRAWS, **options):
        found = replace(YES, side=side, compared=compared)
        nulls = {"random weights": [result(each) for each in draws]}
        return row_of(Told("one", found, wants=wants), *others, nulls=nulls, **options)

    @pytest.mark.parametrize("family", [1, 3])
    @pytest.mark.parametrize("alpha", [0.05, 0.2])
    def test_the_interval_is_shared_by_the_claims_that_were_tested(self, family, alpha):
        others = [Told(f"other {n}", YES) for n in range(family - 1)]
        others += [Told("few", replace(YES, few="few")), Told("none", Finding(missing="none"))]
        row = self.row(0.5, others=others, thresholds=Thresholds(alpha=alpha))
        want = self.interval(self.DRAWS, family=family, alpha=alpha)
        assert (row["null_low"], row["null_high"]) == pytest.approx(want)
        assert row["null_mean"] == pytest.approx(0.275)
        assert (row["null"], row["null_draws"], row["compared"]) == ("random weights", 4, 0.5)

    @pytest.mark.parametrize(
        ("wants", "side", "end"),
        [("high", 1, 1), ("low", 1, 0), ("high", -1, 0), ("low", -1, 1), ("low", 0, 0)],
    )
    def test_the_end_is_that_of_the_side(self, wants, side, end):
        limit = self.interval(self.DRAWS)[end]
        beyond = limit + (BIT if end else -BIT)
        within = limit - (BIT if end else -BIT)
        assert self.row(beyond, wants=wants, side=side)["beyond_null"] == "yes"
        row = self.row(within, wants=wants, side=side)
        assert row["beyond_null"] == "no"
        # What contradicts a claim does so with random weights as well.
        want = {1: "not supported", 0: "not supported", -1: "contradicted"}[side]
        assert row["verdict"] == want
        if side < 0:
            assert row["reason"].endswith(", no more than with random weights")
        if side > 0:
            low, high = self.interval(self.DRAWS)
            assert row["reason"].startswith("random weights show as much or more than the ")
            assert row["reason"].endswith(f" of its own: {low:.3g} to {high:.3g}")
        assert self.row(0.9 if end else -0.9, wants=wants, side=side)["beyond_null"] == "yes"

    def test_draws_that_are_all_one_have_to_be_passed(self):
        assert self.row(0.25, draws=(0.25, 0.25))["beyond_null"] == "no"
        assert self.row(0.25 + BIT, draws=(0.25, 0.25))["beyond_null"] == "yes"

    @pytest.mark.parametrize(("wants", "p"), [("high", 1 / 5), ("low", 1.0)])
    def test_the_rank_is_that_of_the_side_that_is_wanted(self, wants, p):
        assert self.row(0.4, wants=wants)["null_p"] == pytest.approx(p)

    def test_draws_without_a_number_are_left_out_and_one_draw_is_none(self):
        row = self.row(0.9, draws=(*self.DRAWS, np.nan))
        assert row["null_draws"] == 4
        for draws in ((0.2, np.nan), (0.2,), ()):
            row = self.row(0.9, draws=draws)
            assert (row["null"], row["null_draws"], row["beyond_null"]) == ("", 0, "")
            assert row["verdict"] == "supported"
            assert row["reason"] == "no random weights to compare it with"
        assert self.row(0.9)["reason"] == ""
        assert self.row(0.9, draws=(0.2, 0.25))["null_draws"] == 2

    def test_of_two_kinds_the_one_is_told_that_it_lies_least_beyond(self):
        near, far = ([result(level + each) for each in self.DRAWS] for level in (0.0, -0.2))
        for nulls in ({"near": near, "far": far}, {"far": far, "near": near}):
            row = row_of(Told("one", replace(YES, compared=0.9)), nulls=nulls)
            assert (row["null"], row["null_mean"]) == ("near", pytest.approx(0.275))
            assert row["beyond_null"] == "yes"
            row = row_of(Told("one", replace(YES, compared=0.3)), nulls=nulls)
            assert (row["null"], row["verdict"]) == ("near", "not supported")
            assert row["reason"].startswith("near show as much or more than the 0.3 of its own: ")

    def test_the_value_itself_is_compared_where_no_part_is_named(self):
        row = self.row(np.nan)
        assert row["compared"] == 0.5
        row = self.row(np.nan, draws=(0.2, 0.9))
        assert row["reason"].startswith("random weights show as much or more: ")

    def test_what_is_missing_is_compared_with_nothing(self):
        nulls = {"random weights": [result(each) for each in self.DRAWS]}
        row = row_of(Told("one", Finding(missing="nothing there")), nulls=nulls)
        assert (row["null"], row["beyond_null"], row["null_draws"]) == ("", "", 0)

    def test_the_curve_has_the_mean_the_least_and_the_most_of_all_draws(self):
        nulls = {"a": [result(0.25), result(0.5)], "b": [result(1.0)]}
        curves = audited(Told("one", YES), nulls=nulls).curves
        names = ["claim", "model", "layer", "mean", "ci_low", "ci_high", "unit"]
        assert list(curves) == [*names, "null_mean", "null_least", "null_most"]
        assert curves["layer"].tolist() == [1, 2, 3]
        assert curves["mean"].tolist() == [0.5] * 3
        assert curves["null_mean"].tolist() == pytest.approx([1.75 / 3] * 3)
        assert curves["null_least"].tolist() == [0.25] * 3
        assert curves["null_most"].tolist() == [1.0] * 3
        assert curves[["claim", "model"]].iloc[0].tolist() == ["one", "made-up"]
        bare = audited(Told("one", YES), Told("two", Finding(missing="it"))).curves
        assert bare["null_mean"].isna().all()
        assert bare["claim"].tolist() == ["one"] * 3


class TestOrder:
    """Which rule speaks, where several have something to say."""

    NULLS = {"random weights": [result(0.4), result(0.6)]}
    FLIPS = {"others": (EPS,)}

    def test_what_is_missing_comes_before_what_is_too_little(self):
        found = replace(YES, missing="nothing there", few="too few", why="none")
        row = row_of(Told("one", found))
        assert (row["verdict"], row["reason"]) == ("not applicable", "nothing there")
        row = row_of(Told("one", replace(found, missing="")))
        assert (row["verdict"], row["reason"]) == ("not applicable", "too few")

    def test_a_side_that_is_none_comes_before_its_chance(self):
        row = row_of(Told("one", replace(YES, side=0, p=0.9, why="it is small")))
        assert (row["verdict"], row["reason"]) == ("not supported", "it is small")

    def test_chance_comes_before_random_weights_and_these_before_other_settings(self):
        claim = Told("one", by_setting(replace(YES, p=0.9), eps=replace(YES, side=-1)))
        row = row_of(claim, nulls=self.NULLS, **self.FLIPS)
        assert "it may be chance" in row["reason"]
        claim = Told("one", by_setting(YES, eps=replace(YES, side=-1)))
        row = row_of(claim, nulls=self.NULLS, **self.FLIPS)
        assert "random weights show as much" in row["reason"]
        row = row_of(claim, **self.FLIPS)
        assert row["verdict"] == "depends on eps"
        assert row["reason"] == "supported as usual, not with eps=0.2"

    def test_other_settings_come_before_a_contradiction(self):
        against = replace(YES, side=-1)
        row = row_of(Told("one", by_setting(against, eps=YES)), nulls=self.NULLS, **self.FLIPS)
        assert row["verdict"] == "depends on eps"
        assert row["reason"] == "contradicted as usual, not with eps=0.2"
        row = row_of(Told("one", replace(against, why="it rises")), **self.FLIPS)
        assert (row["verdict"], row["reason"]) == ("contradicted", "it rises")

    def test_several_settings_are_told_by_their_axes_each_once(self):
        other = replace(made_up.BASE, eps=0.05, axis="eps")
        claim = Told("one", by_setting(YES, eps=replace(YES, side=0), class_token=Finding(1.0)))
        row = row_of(claim, others=(EPS, other, TOKENS))
        assert row["verdict"] == "depends on eps, class_token"
        assert row["robust"] == "flips with eps=0.2, eps=0.05, class_token=False"


class TestReading:
    """What is taken from a claim before anything is decided."""

    def test_a_claim_that_was_not_measured_has_the_reason(self):
        row = row_of(Told("one", YES), Told("two", YES), absent={"one": "it has no heads"})
        assert (row["verdict"], row["reason"]) == ("not applicable", "it has no heads")
        frame = audited(Told("one", YES), Told("two", YES), absent={"one": "no heads"}).frame
        assert frame["verdict"].tolist() == ["not applicable", "supported"]
        assert frame["robust"].tolist() == ["", "robust"]
        assert frame["sentence"].tolist() == ["", "so it is"]

    def test_one_sample_is_none(self):
        row = row_of(Told("one", YES), samples=1)
        assert row["reason"] == "one sample says nothing of the others"
        assert row_of(Told("one", YES), samples=2)["verdict"] == "supported"

    def test_no_number_is_none(self):
        row = row_of(Told("one", replace(YES, value=np.nan)))
        assert row["reason"] == "what it is about is zero, or no number"
        row = row_of(Told("one", Finding(missing="told")))
        assert row["reason"] == "told"

    @pytest.mark.parametrize(
        ("low", "high", "agree"),
        [(0.0, 1.0, False), (-1.0, 0.0, False), (BIT, 1.0, True), (-1.0, -BIT, True)],
    )
    def test_samples_have_to_agree_on_a_trend_over_layers(self, low, high, agree):
        found = replace(YES, low=low, high=high, tested="layers")
        row = row_of(Told("one", found))
        assert row["verdict"] == ("supported" if agree else "not supported")
        assert agree or row["reason"] == "its interval over samples holds no effect at all"
        # Where samples were tested, p has said so already.
        assert row_of(Told("one", replace(found, tested="samples")))["verdict"] == "supported"
        row = row_of(Told("one", replace(found, side=0, why="small")))
        assert row["reason"] == "small"

    def test_what_is_too_little_is_told_and_tested_by_nothing(self):
        row = row_of(Told("one", replace(YES, few="few", tested="layers")))
        assert (row["value"], row["tested"], row["robust"]) == (0.5, "", "")
        assert np.isnan(row["p"])
        assert row["sentence"] == "so it is"


class TestOtherSettings:
    def told(self, claim, *others, **options):
        audit = audited(claim, *options.pop("beside", ()), others=others, **options)
        return audit.robustness[audit.robustness["claim"] == claim.name]

    def agrees(self, usual, other, **options):
        return self.told(Told("one", by_setting(usual, eps=other)), EPS, **options)["agrees"].iloc[
            0
        ]

    def test_an_effect_is_asked_for_on_its_side_and_no_chance_by_itself(self):
        t = Thresholds(alpha=2.0**-4)
        beside = [Told("two", replace(YES, p=2.0**-4))]
        options = {"thresholds": t, "beside": beside}
        assert self.agrees(YES, replace(YES, p=2.0**-4), **options)  # uncorrected
        assert not self.agrees(YES, replace(YES, p=2.0**-4 + BIT), **options)
        assert not self.agrees(YES, replace(YES, side=0), **options)
        assert not self.agrees(YES, replace(YES, side=-1), **options)
        against = replace(YES, side=-1)
        assert self.agrees(against, against, **options)
        assert not self.agrees(against, YES, **options)

    def test_no_effect_is_asked_for_by_the_corrected_p(self):
        beside = [Told("two", replace(YES, p=0.04))]
        none = replace(YES, side=0)
        assert self.agrees(none, replace(YES, p=0.04), beside=beside)
        assert not self.agrees(none, replace(YES, p=0.02), beside=beside)
        assert not self.agrees(replace(YES, p=0.9), replace(YES, p=0.02), beside=beside)

    def test_half_of_the_size_is_enough_of_an_effect_and_the_whole_of_none(self):
        def by_size(level):
            def find(result, setting, t):
                size = level if setting.axis else 1.0
                return replace(YES, value=size, side=int(size >= t.cosine))

            return find

        t = Thresholds(cosine=0.25)
        for level, agrees in ((0.25, True), (0.125, True), (0.125 - BIT, False)):
            row = self.told(Told("one", by_size(level)), EPS, thresholds=t).iloc[0]
            assert (row["agrees"], row["value"]) == (agrees, level)

        def small(result, setting, t):
            return replace(YES, side=int((0.125 if setting.axis else 0.0) >= t.cosine))

        assert self.told(Told("one", small), EPS, thresholds=t)["agrees"].iloc[0]

    def test_only_those_count_under_which_the_claim_keeps_its_meaning(self):
        claim = Told("one", by_setting(YES, lam=replace(YES, side=-1), prenorm=Finding()))
        prenorm = replace(made_up.BASE, prenorm=False, axis="prenorm")
        rows = self.told(claim, EPS, LAM, prenorm)
        assert rows["setting"].tolist() == ["eps=0.2", "lam=1"]
        assert rows["counts"].tolist() == [True, False]
        assert rows["agrees"].tolist() == [True, False]
        assert rows["why"].tolist() == ["", "it is about another"]
        audit = audited(claim, others=(EPS, LAM))
        assert audit.frame["robust"].iloc[0] == "robust"

    @pytest.mark.parametrize("nothing", [Finding(missing="nothing"), replace(YES, few="nothing")])
    def test_what_cannot_be_judged_there_does_not_count(self, nothing):
        claim = Told("one", by_setting(YES, eps=nothing))
        row = self.told(claim, EPS).iloc[0]
        assert (bool(row["counts"]), bool(row["agrees"]), row["why"]) == (False, False, "nothing")
        assert audited(claim, others=(EPS,)).frame["verdict"].iloc[0] == "supported"
        none = Told("one", by_setting(replace(YES, side=0), eps=nothing))
        assert not self.told(none, EPS)["agrees"].iloc[0]

    def test_what_cannot_be_judged_at_all_has_no_other_settings(self):
        for found in (Finding(missing="nothing"), replace(YES, few="few")):
            assert self.told(Told("one", by_setting(found, eps=YES)), EPS).empty

    def test_half_of_the_samples_is_one_from_sixteen_on(self):
        rows = self.told(Told("one", YES), EPS, samples=16)
        assert rows["setting"].tolist() == ["eps=0.2", "samples=8"]
        assert self.told(Told("one", YES), EPS, samples=15)["setting"].tolist() == ["eps=0.2"]
        rows = self.told(Told("one", YES), EPS, samples=19)
        assert rows["setting"].iloc[1] == "samples=9"
        seen = []

        def find(result, setting, t):
            if setting.axis == "samples":
                seen.append((result.count, len(result.values("l0", None, {}))))
            return YES

        self.told(Told("one", find), EPS, samples=16)
        assert set(seen) == {(8, 8)}
        assert audited(Told("one", YES), samples=16).robustness.empty

    def test_the_usual_setting_is_found_anew_on_the_samples_around(self):
        """With none of it there, none is what another setting has to show."""
        few = result(samples=8)

        def find(result, setting, t):
            return replace(YES, side=int(result.count > 8))

        row = self.told(Told("one", find), EPS, samples=16, around=few).iloc[0]
        assert row["agrees"]

    def test_a_claim_that_does_not_look_at_a_setting_is_corrected_with_its_usual_p(self):
        class Bound(Told):
            keeps, loses = (), {}

        calls = []

        def find(result, setting, t):
            calls.append(setting.axis)
            return replace(YES, side=0, p=0.03)

        none = by_setting(replace(YES, side=0), eps=replace(YES, p=0.03))
        rows = self.told(Told("one", none), EPS, beside=[Bound("two", find)])
        assert rows["agrees"].iloc[0]  # 0.06 of two
        assert set(calls) == {""}


class TestUnsettled:
    """Whether samples around are too few to show what all of them show."""

    @pytest.fixture
    def of(self, monkeypatch):
        def asked(*those, around=8, t=None):
            monkeypatch.setattr(rules, "claims", lambda: {each.name: each for each in those})
            own = result(samples=16)
            beside = own if around == 16 else None if around is None else result(samples=around)
            return unsettled(Measured(own, made_up.BASE, (EPS,), beside), t or Thresholds())

        return asked

    @staticmethod
    def of_many(many, few):
        return lambda result, setting, t: many if result.count == 16 else few

    def test_an_effect_that_is_not_seen_there_is_unsettled(self, of):
        for few in (replace(YES, side=0), replace(YES, side=-1), replace(YES, p=0.06)):
            assert of(Told("one", self.of_many(YES, few)))
        assert not of(Told("one", YES))
        assert not of(Told("one", self.of_many(YES, replace(YES, p=0.05))))
        against = replace(YES, side=-1)
        assert not of(Told("one", against))
        assert of(Told("one", self.of_many(against, YES)))
        assert of(Told("zero", replace(YES, side=0)), Told("one", self.of_many(YES, against)))

    def test_what_is_no_effect_of_all_samples_is_settled(self, of):
        for many in (replace(YES, side=0), replace(YES, p=0.06)):
            assert not of(Told("one", self.of_many(many, replace(YES, side=-1))))
        # Two of 0.04 are chance by the corrected p.
        many = self.of_many(replace(YES, p=0.04), replace(YES, side=0))
        assert not of(Told("one", many), Told("two", many))
        assert of(Told("one", many))

    def test_all_samples_or_none_around_have_nothing_to_settle(self, of):
        claim = Told("one", self.of_many(YES, replace(YES, side=0)))
        assert of(claim)
        assert not of(claim, around=16)
        assert not of(claim, around=None)


def test_each_model_is_corrected_by_itself_and_keeps_its_rows():
    one, two = (Told(name, replace(YES, p=0.02, parts={"part": 2.0})) for name in ("one", "two"))
    own = result()
    audit = judge(
        {"a": Measured(own, made_up.BASE), "b": Measured(own, made_up.BASE)}, of=(one, two)
    )
    assert audit.frame["model"].tolist() == ["a", "a", "b", "b"]
    assert audit.frame["p_holm"].tolist() == [0.04] * 4
    assert audit.parts[["model", "claim", "part", "value"]].to_numpy().tolist() == [
        [model, claim, "part", 2.0] for model in "ab" for claim in ("one", "two")
    ]
    row = audit.frame.iloc[0]
    assert row["statistic"] == "what it is told, from 2 on"
    assert audit.rules["one"]["statistic"] == "what it is told, from `first_layer` on"
    assert row[["value", "ci_low", "ci_high", "p", "samples"]].tolist() == [
        0.5,
        0.25,
        0.75,
        0.02,
        4,
    ]
    assert audit.rules["one"]["keeps its meaning under"] == "eps, class_token, samples"
    assert audit.rules["one"]["loses its meaning under"] == "lam: it is about another"


def test_other_settings_are_each_one_thing_away_from_the_usual_one():
    model = SimpleNamespace(
        layer=lambda number: SimpleNamespace(norm="a norm"),
        bases=("native", "qkv:v"),
        default_basis="native",
        extra_tokens=1,
    )
    base = usual(model, eps=0.25, lam=0.5, basis=None)
    assert (base.basis, base.eps, base.lam, base.first_layer, base.axis) == (
        "native",
        0.25,
        0.5,
        2,
        "",
    )
    assert usual(model, eps=0.25, lam=0.5, basis="qkv:v").basis == "qkv:v"
    changes = [
        {"eps": 0.125},
        {"eps": 0.5},
        {"lam": 0.05},
        {"lam": 5.0},
        {"prenorm": False},
        {"basis": "qkv:v"},
        {"class_token": False},
        {"first_layer": 3},
        {"first_layer": 1, "axis": "embedding"},
        {"swapped": True, "axis": "orthonormal"},
    ]
    assert list(around(model, base)) == [
        replace(base, **{"axis": next(iter(each)), **each}) for each in changes
    ]
    # Without a norm, another basis, or tokens in front, and from the embedding on.
    bare = SimpleNamespace(
        layer=lambda number: SimpleNamespace(norm=None), bases=("native",), extra_tokens=0
    )
    axes = [each.axis for each in around(bare, replace(base, first_layer=1))]
    assert axes == ["eps", "eps", "lam", "lam", "first_layer", "orthonormal"]


def test_what_differs_is_told_with_its_value():
    told = {
        "eps=0.2": EPS,
        "lam=1": LAM,
        "class_token=False": TOKENS,
        "first_layer=1": replace(made_up.BASE, first_layer=1, axis="embedding"),
        "basis=qk": replace(made_up.BASE, basis="qk", axis="basis"),
        "": made_up.BASE,
    }
    for words, setting in told.items():
        assert setting.told(orthonormal=True) == setting.told(orthonormal=False) == words
    swapped = replace(made_up.BASE, swapped=True, axis="orthonormal")
    assert swapped.told(orthonormal=True) == "orthonormal=False"
    assert swapped.told(orthonormal=False) == "orthonormal=True"
    assert swapped.where(orthonormal=False)["basis"] == "native+qr"
    assert swapped.where(orthonormal=True)["basis"] == "native"
    assert made_up.BASE.where(orthonormal=True)["basis"] == "native+qr"


def test_random_weights_are_measured_by_what_a_claim_compares_and_its_curve():
    def asked(name, *, all_of_it=False):
        claim = claims()[name]
        of = claim.requests if all_of_it else claim.compared_requests
        return [each.metric for each in of(made_up.BASE)]

    assert asked("attention_descends") == [
        "attention_rate_change",
        "attention_rate_change_radial",
        "attention_rate_change_tangential",
        "compression",
    ]
    tangential = "attention_rate_change_tangential"
    assert asked("compresses") == ["compression", tangential, "compression"]
    assert asked("keeps_expanding") == asked("keeps_expanding", all_of_it=True)
    assert asked("keeps_expanding") == ["coding_rate", "coding_rate"]
    assert len(asked("attention_descends", all_of_it=True)) == 8


def test_a_claim_that_names_no_part_is_compared_by_its_value_and_its_first_measure_is_its_curve():
    random = np.random.default_rng(0)
    values = {
        "l0": 0.5 + 0.1 * random.random((6, 8)),
        ("coding_rate", "z_in"): 4 + random.random((6, 8)),
        ("coding_rate", "z_out"): 4 + random.random((6, 8)),
    }
    read = Readings(made_up.result(values, layers=8, samples=6))
    for name, key in (("sparsifies", "l0"), ("keeps_expanding", ("coding_rate", "z_in"))):
        claim = claims()[name]
        found = claim.find(read, made_up.BASE, Thresholds())
        assert claim.compared(read, made_up.BASE, Thresholds()) == found.value
        curve = claim.curve(read, made_up.BASE)["mean"]
        assert curve.tolist() == pytest.approx(values[key].mean(axis=0).tolist())


def test_curves_are_read_by_layer_whatever_the_order_of_the_rows():
    values = np.arange(24.0).reshape(4, 6)
    whole = made_up.result({"l0": values}, layers=6, samples=4, of=["sparsifies"])
    turned = replace(whole, frame=whole.frame.iloc[::-1].reset_index(drop=True))
    read = Readings(turned)
    assert read.values("l0", None, {}).tolist() == values.tolist()
    assert read.curve("l0", "z_out", {})["layer"].tolist() == [1, 2, 3, 4, 5, 6]
    assert read.first(2).values("l0", None, {}).tolist() == values[:2].tolist()
    assert (read.first(2).count, read.count) == (2, 4)


def test_a_curve_that_was_not_measured_or_in_several_ways_is_refused():
    one = made_up.result({}, layers=3, samples=4, of=["sparsifies", "incoherent_subspaces"])
    with pytest.raises(ProbeError, match="no curves of 'l0' at z_half have"):
        Readings(one).values("l0", "z_half", {})
    with pytest.raises(ProbeError, match="no value a sample"):
        Readings(one).values("overlap_mean", None, {})
    two = made_up.together(
        made_up.result({}, layers=3, samples=4, of=["sparsifies"]),
        made_up.result({}, layers=3, samples=4, setting=EPS, of=["sparsifies"]),
    )
    with pytest.raises(ProbeError, match="2 curves of 'l0' at its site have lam=0.1"):
        Readings(two).values("l0", None, {"lam": 0.1})
    assert Readings(two).values("l0", None, {"eps": 0.1 * (1 + 1e-12)}).shape == (4, 3)


def test_claims_are_in_the_order_of_the_derivation():
    assert list(claims()) == [
        "compresses",
        "keeps_expanding",
        "sparsifies",
        "incoherent_subspaces",
        "attention_aligned",
        "attention_descends",
        "ista_descends",
        "objective_improves",
    ]
    assert Told.place > max(each.place for each in claims().values())
