"""The rule of each claim on both sides of each of its boundaries, by curves of known values.

Values and thresholds are sums of powers of two, so that a boundary is met exactly; curves that are
the same for every sample have a p of 0, so that sizes alone decide.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from tests.auditing import made_up
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.auditing.claim import (
    WALKS,
    claims,
    from_layer,
    mean_of,
    one_way,
    ratio_of,
    shares,
    too_few,
    walks,
)
from whitebox_probe.auditing.claims import compresses, incoherent_subspaces, objective_improves
from whitebox_probe.auditing.claims.incoherent_subspaces import (
    _simulated,
    overlap_p,
    overlap_spread,
)
from whitebox_probe.auditing.readings import Readings
from whitebox_probe.auditing.thresholds import Thresholds
from whitebox_probe.stats import bootstrap_interval, permutation_p

L, N = 8, 6
BIT = 2.0**-20
"""So little that it decides nothing but a boundary."""
T = Thresholds(
    change=2.0**-4, step=2.0**-6, cosine=2.0**-3, keeps=0.75, gap=2.0**-3, part=0.25,
    scaling=2.0**-5, position=2.0**-3, rises=0.5, zeros=2.0**-9,
)  # fmt: skip


def flat(value):
    return np.full((N, L), float(value))


def of(curve):
    return np.broadcast_to(np.asarray(curve, float), (N, len(curve))).copy()


def find(claim, values, *, setting=made_up.BASE, thresholds=T, layers=L, samples=N):
    result = made_up.result(values, layers=layers, samples=samples, of=[claim, "sparsifies"])
    return claims()[claim].find(Readings(result), setting, thresholds)


def compared(claim, values, *, thresholds=T):
    result = made_up.result(values, layers=L, samples=N, of=[claim])
    return claims()[claim].compared(Readings(result), made_up.BASE, thresholds)


def p_of(values):
    return scipy.stats.ttest_1samp(values, 0).pvalue


def noisy(level, seed, scale=0.02):
    return level + scale * np.random.default_rng(seed).standard_normal((N, L))


def test_thresholds_are_those_that_the_docs_tell():
    t = Thresholds()
    assert (t.alpha, t.change, t.step, t.cosine, t.keeps) == (0.05, 0.05, 0.01, 0.1, 0.8)
    assert (t.gap, t.part, t.scaling, t.position) == (0.1, 0.25, 0.02, 0.1)
    assert (t.rises, t.zeros) == (0.5, 0.001)


def test_under_another_setting_half_the_size_is_asked_and_no_other_number_moves():
    t, half = Thresholds(), Thresholds().halved()
    for name in ("change", "step", "cosine", "gap", "part", "position"):
        assert getattr(half, name) == getattr(t, name) / 2, name
    for name in ("alpha", "keeps", "scaling", "rises", "zeros"):
        assert getattr(half, name) == getattr(t, name), name


@pytest.mark.parametrize("name", Thresholds.__dataclass_fields__)
def test_a_threshold_is_between_its_ends_and_none_of_them(name):
    least = 1e-5 if name == "alpha" else 0.0  # what 99,999 permutations can tell
    inside = (least + BIT / 2, 1 - BIT)
    assert [getattr(Thresholds.of(**{name: v}), name) for v in inside] == list(inside)
    for value in (least, 1, 1.0 + BIT, -BIT, math.nan, True, "0.5", None):
        with pytest.raises(ProbeError, match=f"the threshold '{name}' is"):
            Thresholds.of(**{name: value})


class TestParts:
    """What several claims share."""

    def test_a_ratio_of_means_has_the_interval_and_p_of_its_linearisation(self):
        random = np.random.default_rng(0)
        above, below = random.normal(0.3, 1, size=9), random.normal(4, 0.5, size=9)
        ratio = above.mean() / below.mean()
        line = (above - ratio * below) / below.mean()
        half = scipy.stats.t.ppf(0.975, 8) * line.std(ddof=1) / 3
        want = (ratio, ratio - half, ratio + half, p_of(line + ratio))
        assert ratio_of(above, below) == pytest.approx(want, rel=1e-10)

    def test_a_mean_has_students_interval(self):
        values = np.array([1.0, 2.0, 4.0])
        half = scipy.stats.t.ppf(0.975, 2) * values.std(ddof=1) / np.sqrt(3)
        want = (7 / 3, 7 / 3 - half, 7 / 3 + half)
        assert mean_of(values) == pytest.approx(want, rel=1e-10)

    def test_of_many_samples_it_is_the_bootstraps_of_the_seed(self):
        values = np.random.default_rng(0).gamma(2.0, size=40)
        for given, seed in (({}, 0), ({"seed": 3}, 3)):
            low, high = bootstrap_interval(values[:, None], seed=seed)
            want = (values.mean(), low[0], high[0])
            assert mean_of(values, **given) == pytest.approx(want, rel=1e-12)
            ones = np.ones(40)
            assert ratio_of(values, ones, **given)[:3] == pytest.approx(want, rel=1e-12)

    def test_curves_begin_at_a_layer_counted_from_one(self):
        values = np.arange(12.0).reshape(3, 4)
        assert from_layer(values, 1).tolist() == values.tolist()
        assert from_layer(values, 3).tolist() == values[:, 2:].tolist()

    def test_shares_are_of_layers_by_their_means(self):
        found = np.array([[1.0, -3, 1, 0], [1, 1, 1, 0]])
        assert shares(found, 1) == 0.5
        assert shares(found, -1) == 0.25

    def test_all_of_few_layers_and_a_sign_test_of_many_say_which_side(self):
        t = Thresholds()
        assert one_way(np.ones(5), 1, t)
        assert not one_way(np.array([1, 1, 1, 1, -BIT]), 1, t)
        assert not one_way(np.ones(5), -1, t)
        assert one_way(-np.ones(2), -1, t)
        assert one_way(np.ones(6), 1, t)  # 2 of 64
        assert not one_way(np.array([1, 1, 1, 1, 1, -BIT]), 1, t)  # 4 of 64
        assert one_way(np.array([1, 1, 1, 1, 1, 1, -BIT]), 1, t)  # 4 of 128
        assert one_way(np.ones(5), 1, Thresholds(alpha=2 / 32))
        assert one_way(np.array([1, 1, 1, 1, 1, -BIT]), 1, Thresholds(alpha=4 / 64))

    def test_steps_are_of_a_walk_above_a_third_of_the_level(self):
        rises = np.arange(7.0)  # six steps: 2 of 64
        assert walks(rises, Thresholds(alpha=0.05))
        assert not walks(rises, Thresholds(alpha=3 / 32))
        assert walks(rises, Thresholds(alpha=3 / 32 - BIT))
        assert not walks(np.arange(8.0), Thresholds(alpha=0.05))
        assert walks(np.array([np.nan, *range(7)]), Thresholds())

    def test_layers_are_too_few_where_no_steps_of_theirs_reach_a_third_of_the_level(self):
        assert too_few(8, Thresholds()) == ""
        assert "7 layers are too few" in too_few(7, Thresholds())
        # 2 / 2^5 is a third of 3/16: six layers, whose permutations reach 2/720.
        assert too_few(6, Thresholds(alpha=3 / 16)) == ""
        assert "5 layers" in too_few(5, Thresholds(alpha=3 / 16))


class TestAttentionAligned:
    name = "attention_aligned"

    @staticmethod
    def values(cosine, common=0.0, mean=0.0, shared=0.0):
        kinds = {"": cosine, "_common": common, "_mean": mean, "_shared": shared}
        return {
            f"descent_cosine{name}": each if np.ndim(each) else flat(each)
            for name, each in kinds.items()
        }

    @pytest.mark.parametrize(
        ("cosine", "side"),
        [(1 / 8, 1), (1 / 8 - BIT, 0), (-1 / 8, -1), (-1 / 8 + BIT, 0), (0, 0)],
    )
    def test_the_cosine_decides_at_its_threshold(self, cosine, side):
        found = find(self.name, self.values(cosine))
        assert (found.value, found.side) == (cosine, side)
        assert ("below 0.125" in found.why) == (side <= 0)

    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize(
        ("control", "why"),
        [
            ("common", "a shift that all tokens share"),
            ("mean", "the mean update of other samples"),
            ("shared", "looks at no token"),
        ],
    )
    def test_each_control_has_to_leave_half_of_it(self, control, why, sign):
        half = sign * (1 / 4 - 1 / 16)
        found = find(self.name, self.values(sign / 4, **{control: half}))
        assert found.side == sign
        found = find(self.name, self.values(sign / 4, **{control: half + sign * BIT}))
        assert found.side == 0
        assert why in found.why

    def test_the_controls_are_looked_at_in_their_order(self):
        whys = [
            find(self.name, self.values(0.5, **dict.fromkeys(lacking, 0.5))).why
            for lacking in (("common", "mean", "shared"), ("mean", "shared"), ("shared",))
        ]
        assert ["shift" in whys[0], "mean" in whys[1], "looks" in whys[2]] == [True] * 3

    def test_layers_have_to_agree(self):
        found = find(self.name, self.values(of([1, 1, 1, 1, 1, -1, -1, -0.5])))
        assert (found.value, found.side) == (0.3125, 0)
        assert "do not agree" in found.why
        assert found.parts["layers"] == 5 / 8
        found = find(self.name, self.values(of([-1] * 7 + [BIT])))
        assert found.side == -1

    def test_its_p_is_the_largest_of_the_four_and_its_interval_students(self):
        cosine = noisy(0.3, 1)
        for worst in ("common", "mean", "shared"):
            controls = {"common": noisy(0, 2), "mean": noisy(0, 3), "shared": noisy(0, 4)}
            controls[worst] = noisy(0.1, 5, 0.6)
            found = find(self.name, self.values(cosine, **controls))
            each = [cosine.mean(axis=1)]
            each += [(cosine - controls[k]).mean(axis=1) for k in controls]
            assert found.p == pytest.approx(max(map(p_of, each)))
            low, high = scipy.stats.t.interval(
                0.95, N - 1, each[0].mean(), scipy.stats.sem(each[0])
            )
            assert (found.low, found.high) == pytest.approx((low, high))
            assert found.parts["own"] == pytest.approx(each[1].mean())
            assert found.parts["looking"] == pytest.approx(each[2].mean())
        own = noisy(0.1, 6, 0.6)
        found = find(self.name, self.values(own, common=own - 1, mean=own - 1, shared=own - 1))
        assert found.p == pytest.approx(p_of(own.mean(axis=1)))
        assert found.tested == "samples"
        assert compared(self.name, self.values(cosine)) == pytest.approx(cosine.mean())


class TestAttentionDescends:
    name = "attention_descends"

    @staticmethod
    def values(change, *, common=0.0, radial=0.0, tangential=None, rate=16.0, **controls):
        change = change if np.ndim(change) else flat(change)
        parts = {"": change, "_common": common, "_radial": radial}
        parts["_tangential"] = change - common - radial if tangential is None else tangential
        parts |= {f"_{k}": controls.get(k, 0.0) for k in ("shuffled", "mean", "shared")}
        told = {
            f"attention_rate_change{k}": each if np.ndim(each) else flat(each)
            for k, each in parts.items()
        }
        rates = rate if np.ndim(rate) else flat(rate)
        return told | {("compression", "z_in"): rates}

    @pytest.mark.parametrize(
        ("change", "side"), [(-1 / 4, 1), (-1 / 4 + BIT, 0), (1 / 4, -1), (1 / 4 - BIT, 0)]
    )
    def test_the_change_decides_at_its_threshold(self, change, side):
        found = find(self.name, self.values(change))
        assert (found.value, found.side) == (change / 16, side)
        assert ("R^c changes by" in found.why) == (side <= 0)

    @pytest.mark.parametrize("sign", [1, -1])
    @pytest.mark.parametrize(
        ("control", "why"),
        [
            ("common", "a shift that all tokens share"),
            ("mean", "the mean update of other samples"),
            ("shared", "what of it looks at no token"),
        ],
    )
    def test_each_control_has_to_leave_half_of_it(self, control, why, sign):
        most = -sign * (1 / 2 - 1 / 8)
        found = find(self.name, self.values(-sign / 2, **{control: most}))
        assert found.side == sign
        found = find(self.name, self.values(-sign / 2, **{control: most - sign * BIT}))
        assert found.side == 0
        assert why in found.why

    @pytest.mark.parametrize("sign", [1, -1])
    def test_the_same_updates_on_other_tokens_have_to_do_less(self, sign):
        found = find(self.name, self.values(-sign / 2, shuffled=-sign * (1 / 2 - BIT)))
        assert found.side == sign
        found = find(self.name, self.values(-sign / 2, shuffled=-sign / 2))
        assert found.side == 0
        assert "handed to other tokens" in found.why

    def test_the_controls_are_looked_at_in_their_order(self):
        names = ("common", "mean", "shared", "shuffled")
        whys = [
            find(self.name, self.values(-0.5, **dict.fromkeys(names[n:], -0.5))).why
            for n in range(4)
        ]
        told = ("shift", "mean update", "looks at no token", "handed")
        assert all(each in why for each, why in zip(told, whys, strict=True))

    def test_parts_that_do_not_add_up_to_the_step_are_none_of_it(self):
        # A hundredth of 1/4 + 1e-4 nats may lack.
        near, far = (-0.25 + 0.01 * (0.25 + 1e-4) * share for share in (0.99, 1.01))
        assert not find(self.name, self.values(-0.25, tangential=near)).missing
        found = find(self.name, self.values(-0.25, tangential=far))
        assert "not what is added to the tokens" in found.missing
        nothing = self.values(0.0, radial=9e-7, tangential=0.0)
        assert not find(self.name, nothing).missing
        nothing = self.values(0.0, radial=0.0, common=-1.1e-6, tangential=0.0)
        assert find(self.name, nothing).missing

    def test_layers_have_to_agree(self):
        found = find(self.name, self.values(of([-1, -1, -1, -1, -1, 1, 1, 0.5])))
        assert (found.value, found.side) == (-2.5 / 128, 0)
        assert "do not agree" in found.why
        assert found.parts["layers"] == 5 / 8
        assert find(self.name, self.values(of([1] * 7 + [-BIT]))).side == -1

    def test_its_numbers_are_those_of_numpy(self):
        change, rate = noisy(-0.5, 1), noisy(16, 2, 1.0)
        parts = {"common": noisy(-0.1, 3), "radial": noisy(0.05, 4)}
        own = change - parts["common"]
        for worst in ("shuffled", "mean", "shared"):
            controls = {k: noisy(0, 5 + n) for n, k in enumerate(("shuffled", "mean", "shared"))}
            controls[worst] = noisy(-0.2, 9, 1.0)
            found = find(self.name, self.values(change, rate=rate, **parts, **controls))
            each = [change.sum(axis=1) - change.sum() / rate.sum() * rate.sum(axis=1)]
            each[0] = each[0] / rate.sum(axis=1).mean() + change.sum() / rate.sum()
            each += [own.sum(axis=1), *((change - v).sum(axis=1) for v in controls.values())]
            assert found.p == pytest.approx(max(map(p_of, each)))
            assert found.value == pytest.approx(change.sum() / rate.sum())
            for name, value in (parts | controls).items():
                assert found.parts[f"{name}_nats"] == pytest.approx(value.mean())
            assert found.parts["tangential_nats"] == pytest.approx((own - parts["radial"]).mean())
            assert found.parts["nats"] == pytest.approx(change.mean())
            assert found.compared == pytest.approx(own.sum() / rate.sum())
            low, high = scipy.stats.t.interval(
                0.95, N - 1, each[0].mean(), scipy.stats.sem(each[0])
            )
            assert (found.low, found.high) == pytest.approx((low, high))
        values = self.values(change, rate=rate, **parts)
        assert compared(self.name, values) == pytest.approx(own.sum() / rate.sum())


class TestCompresses:
    """Curves of nine points: what enters each of eight layers, and what leaves the last."""

    name = "compresses"

    @staticmethod
    def values(curve, moved, *, work=-1.0, rate=16.0, **controls):
        """`moved`: at fixed U, a layer; the control's own part is subtracted from the change."""
        curve = np.asarray(curve, float)
        entering = of(curve[:-1])
        leaving = entering + np.asarray(moved, float)
        if np.ndim(moved) == 0:
            leaving[:, -1] = curve[-1]
        names = {"tangential": work, "shuffled": 0.0, "mean": 0.0, "shared": 0.0} | controls
        values = {
            f"attention_rate_change_{k}": v if np.ndim(v) else flat(v) for k, v in names.items()
        }
        values["attention_rate_change"] = flat(-1.0)
        values |= {("compression", "z_in"): entering, ("compression", "z_out"): leaving}
        return values

    def test_its_numbers_are_those_of_numpy(self):
        entering = noisy(np.linspace(10, 8, L), 1)
        leaving = entering - 0.3 + 0.02 * np.random.default_rng(2).standard_normal((N, L))
        work, change = noisy(-0.4, 3), noisy(-0.5, 4)
        controls = {"shuffled": noisy(-0.1, 5), "mean": noisy(0.1, 6), "shared": noisy(-0.2, 7)}
        values = {f"attention_rate_change_{k}": v for k, v in controls.items()}
        values |= {"attention_rate_change": change, "attention_rate_change_tangential": work}
        values |= {("compression", "z_in"): entering, ("compression", "z_out"): leaving}
        for first in (1, 2, 3):
            setting = replace(made_up.BASE, first_layer=first)
            found = find(self.name, values, setting=setting)
            curve = np.column_stack([entering, leaving[:, -1]])[:, first - 1 :]
            moved = (leaving - entering)[:, first - 1 :].sum(axis=1)
            assert found.value == pytest.approx(moved.mean() / curve[:, 0].mean())
            line = (moved - found.value * curve[:, 0]) / curve[:, 0].mean()
            half = scipy.stats.t.ppf(0.975, N - 1) * line.std(ddof=1) / np.sqrt(N)
            want = (found.value - half, found.value + half)
            assert (found.low, found.high) == pytest.approx(want)
            whole = (curve[:, -1] - curve[:, 0]).mean() / curve[:, 0].mean()
            assert found.parts["whole"] == pytest.approx(whole)
            assert found.parts["subspaces"] == pytest.approx(whole - found.value)
            assert found.p == permutation_p(curve.mean(axis=0))
            rho = scipy.stats.spearmanr(range(curve.shape[1]), curve.mean(axis=0))[0]
            assert found.parts["rho"] == pytest.approx(rho)
            assert found.parts["attention_nats"] == pytest.approx(work.mean())
            for name, value in controls.items():
                told = found.parts[f"beyond_{name}_nats"]
                assert told == pytest.approx((change - value).mean())
            share = work.sum(axis=1).mean() / entering.mean()
            assert found.compared == found.parts["attention_share"] == pytest.approx(share)
            assert compared(self.name, values) == pytest.approx(share)
            assert found.tested == "layers"

    def test_what_it_takes_of_the_attention_is_in_units_of_the_rate_of_one_layer(self, monkeypatch):
        seen = []
        monkeypatch.setattr(
            compresses, "_side", lambda moved, whole, shares, t: seen.append(shares) or (1, "")
        )
        work, change = noisy(-0.4, 3), noisy(-0.5, 4)
        shuffled, mean, shared = noisy(-0.1, 5), noisy(0.1, 6), noisy(-0.2, 7)
        entering = noisy(np.linspace(10, 8, L), 1)
        find(
            self.name,
            {
                ("compression", "z_in"): entering,
                "attention_rate_change": change,
                "attention_rate_change_tangential": work,
                "attention_rate_change_shuffled": shuffled,
                "attention_rate_change_mean": mean,
                "attention_rate_change_shared": shared,
            },
        )
        want = (work, change - mean, change - shared, change - shuffled)
        for found, each in zip(seen[0], want, strict=True):
            np.testing.assert_allclose(found, each.sum(axis=1) / entering.mean())

    def test_a_curve_of_two_points_is_none(self):
        setting = replace(made_up.BASE, first_layer=L)
        assert "no change with depth" in find(self.name, {}, setting=setting).missing
        setting = replace(made_up.BASE, first_layer=L - 1)
        found = find(self.name, {}, setting=setting)
        assert not found.missing
        assert "3 layers are too few" in found.few

    def test_steps_that_go_both_ways_are_a_walks(self):
        found = find(self.name, self.values([20, 16, 15, 14, 13, 12, 11, 10, 9], -1.0))
        assert (found.side, found.why, found.few) == (1, "", "")
        found = find(self.name, self.values([20, 16, 15, 14, 13, 14, 11, 10, 9], -1.0))
        assert (found.side, found.why) == (0, WALKS)
        # What enters the first layer is no part of it.
        found = find(self.name, self.values([2, 16, 15, 14, 13, 12, 11, 10, 9], -1.0))
        assert found.side == 1

    ENOUGH = np.full(N, -1 / 32 - BIT)  # of the attention: more than half of 1/16

    def side(self, moved, whole, *, work=ENOUGH, looking=ENOUGH, own=ENOUGH, beyond=ENOUGH, t=T):
        moved = moved if np.ndim(moved) else np.full(N, float(moved))
        return compresses._side(moved, whole, (work, looking, own, beyond), t)

    @pytest.mark.parametrize(
        ("moved", "whole", "side", "why"),
        [
            (-1 / 16, -1 / 16, 1, ""),
            (-1 / 16 + BIT, -1 / 16, 0, "less than 6% by what the layers do to the tokens"),
            (-1 / 16 + BIT, -1 / 16 + BIT, 0, "less than 6%"),
            (-1 / 16 + BIT, 1 / 16, 0, "less than 6% by what the layers do to the tokens"),
            (-1 / 16, -1 / 16 + BIT, 0, "the change of U undoes it"),
            (-1 / 16, 1.0, 0, "the change of U undoes it"),
            (1 / 16, -1.0, 0, "the change of U undoes it"),
            (1 / 16, 1 / 16, -1, "R^c rises"),
            (1 / 16 - BIT, 1 / 16, 0, "by what the layers do to the tokens"),
        ],
    )
    def test_both_changes_decide_at_the_threshold(self, moved, whole, side, why):
        found, told = self.side(moved, whole)
        assert found == side
        assert told.endswith(why)

    @pytest.mark.parametrize(
        ("part", "most", "what"),
        [
            ("work", -1 / 32, "at right angles to each token"),
            ("looking", -1 / 32, "mean update of other samples"),
            ("own", -1 / 32, "looks at no token"),
            ("beyond", 0.0, "handed to other tokens"),
        ],
    )
    def test_the_attention_has_to_do_more_than_each_part_asks(self, part, most, what):
        assert self.side(-1, -1, **{part: np.full(N, most - BIT)}) == (1, "")
        side, why = self.side(-1, -1, **{part: np.full(N, most)})
        assert side == 0
        assert what in why
        assert "chance" not in why
        spread = np.array([-9.0, 9, -9, 9, -9, 3])
        assert p_of(spread) > T.alpha
        side, why = self.side(-1, -1, **{part: spread})
        assert side == 0
        assert what in why
        assert why.endswith("and may be chance")
        # A rise needs none of the attention's.
        assert self.side(1, 1, **{part: np.full(N, most)}) == (-1, "R^c rises")

    def test_samples_have_to_agree_on_the_change(self):
        moved = np.array([-9.0, 9, -9, 9, -9, 3])
        assert self.side(moved, -1) == (0, "samples differ too much to tell it from none")
        p = p_of(moved)
        assert self.side(moved, -1, t=Thresholds(alpha=p * 1.001))[0] == 1
        assert self.side(moved, -1, t=Thresholds(alpha=p * 0.999))[0] == 0


class TestKeepsExpanding:
    name = "keeps_expanding"

    @staticmethod
    def values(curve):
        curve = np.asarray(curve, float)
        leaving = of(curve[:-1])
        leaving[:, -1] = curve[-1]
        return {("coding_rate", "z_in"): of(curve[:-1]), ("coding_rate", "z_out"): leaving}

    @pytest.mark.parametrize(
        ("last", "side"), [(12 + BIT, 1), (12, 0), (12 - BIT, -1), (0.5, -1), (32, 1)]
    )
    def test_what_leaves_decides_at_its_share(self, last, side):
        found = find(self.name, self.values([1, *[16] * 7, last]))
        assert (found.value, found.side) == (last / 16, side)
        assert ("keeps less than 75%" in found.why) == (side <= 0)

    def test_none_on_the_way_may_be_below(self):
        found = find(self.name, self.values([1, 16, 16, 12, 16, 16, 16, 16, 16]))
        assert (found.side, found.parts["least"]) == (1, 0.75)
        found = find(self.name, self.values([1, 16, 16, 12 - BIT, 16, 16, 16, 16, 16]))
        assert found.side == 0
        assert "comes back" in found.why
        # A collapse at the end contradicts, whatever is on the way.
        assert find(self.name, self.values([1, 16, 16, 1, 16, 16, 16, 16, 8])).side == -1

    def test_it_is_tested_against_the_share_that_it_has_to_keep(self):
        entering, leaving = noisy(16, 1, 0.5), noisy(14, 2, 0.5)
        values = {("coding_rate", "z_in"): entering, ("coding_rate", "z_out"): leaving}
        found = find(self.name, values)
        first, last = entering[:, 1], leaving[:, -1]
        assert found.p == pytest.approx(p_of(last - 0.75 * first))
        ratio = last.mean() / first.mean()
        half = (
            scipy.stats.t.ppf(0.975, N - 1) * scipy.stats.sem(last - ratio * first) / first.mean()
        )
        want = (ratio, ratio - half, ratio + half)
        assert (found.value, found.low, found.high) == pytest.approx(want)
        assert found.tested == "samples"

    def test_a_curve_of_one_point_or_of_zeros_is_none(self):
        setting = replace(made_up.BASE, first_layer=L)
        assert not find(self.name, {}, setting=setting).missing
        setting = replace(made_up.BASE, first_layer=L + 1)
        assert "no change with depth" in find(self.name, {}, setting=setting).missing


class TestObjectiveImproves:
    name = "objective_improves"

    @pytest.mark.parametrize(
        ("value", "rising", "falling", "side", "why"),
        [
            (1 / 16, 0.5, 0.0, 1, ""),
            (1 / 16 - BIT, 1.0, 0.0, 0, "of R only"),
            (1.0, 0.5 - BIT, 0.0, 0, "fewer than 50% of its steps rise"),
            (1.0, 1.0, BIT, 0, "falls from some layer"),
            (1.0, 0.0, BIT, 0, "falls from some layer"),
            (-1 / 16, 1.0, 0.0, -1, "it falls"),
            (-1 / 16 + BIT, 1.0, 1.0, 0, "of R only"),
        ],
    )
    def test_each_condition_decides_at_its_boundary(self, value, rising, falling, side, why):
        found, told = objective_improves._side(value, rising, falling, T)
        assert found == side
        assert why in told
        assert bool(told) == (side < 1)

    def test_its_numbers_are_those_of_numpy(self):
        curve = np.array([1.0, 1.5, 2, 2.5, 3, 3.5, 4, 4.5])
        srr, delta = noisy(curve, 1), noisy(curve, 2) + np.linspace(4, 3, L)
        rate = noisy(8, 3, 0.5)
        values = {"sparse_rate_reduction": srr, "rate_reduction": delta, "coding_rate": rate}
        setting = replace(made_up.BASE, lam=0.25)
        result = made_up.result(values, layers=L, samples=N, setting=setting)
        found = claims()[self.name].find(Readings(result), setting, T)
        each = (srr[:, -1] - srr[:, 0]) / rate[:, 0].mean()
        low, high = scipy.stats.t.interval(0.95, N - 1, each.mean(), scipy.stats.sem(each))
        assert (found.value, found.low, found.high) == pytest.approx((each.mean(), low, high))
        assert found.compared == pytest.approx(compared(self.name, values))
        entries = ((delta - srr)[:, -1] - (delta - srr)[:, 0]).mean() / 0.25
        nats = (delta[:, -1] - delta[:, 0]).mean()
        assert found.parts["nonzero_entries"] == pytest.approx(entries)
        assert found.parts["rate_reduction_nats"] == pytest.approx(nats)
        assert math.isnan(found.parts["lam_turns"])  # entries fall and nats rise
        assert (found.parts["rising"], found.parts["falling"]) == (1.0, 0.0)
        assert found.parts["rho"] == pytest.approx(1)
        assert found.p == permutation_p(srr.mean(axis=0))
        assert (found.side, found.tested, found.few) == (1, "layers", "")
        values["rate_reduction"] = srr + 0.25 * np.linspace(10, 30, L)
        result = made_up.result(values, layers=L, samples=N, setting=setting)
        found = claims()[self.name].find(Readings(result), setting, T)
        turns = (srr[:, -1] - srr[:, 0]).mean() / 20 + 0.25
        assert found.parts["lam_turns"] == pytest.approx(turns)
        told = claims()[self.name].sentence(found)
        assert f"(lam={turns:.2g} turns it); 100% of the steps rise and 0% fall" in told
        values["rate_reduction"] = srr
        same = find(self.name, values)
        assert math.isnan(same.parts["lam_turns"])
        assert "(no lam above 0 turns its sign)" in claims()[self.name].sentence(same)

    def test_a_step_that_falls_in_each_of_few_samples_falls(self):
        curve = np.array([0, 4, 3.99, 8, 12, 16, 20, 24])
        some = of(curve)
        some[:, 2] += np.array([0.02, -0.05, -0.02, 0.01, -0.01, -0.01])
        for values, side in ((of(curve), 0), (some, 0)):
            found = find(self.name, {"sparse_rate_reduction": values, "coding_rate": flat(8)})
            assert found.side == side
        two = np.array(
            [curve, curve + np.array([0, 0, 0.005, 0, 0, 0, 0, 0])]
        )  # no p tells it of two
        values = {"sparse_rate_reduction": two, "coding_rate": np.full((2, L), 8.0)}
        found = find(self.name, values, samples=2)
        assert (found.side, found.why) == (0, "it falls from some layer to the next")

    def test_one_layer_has_no_change_and_two_are_too_few(self):
        assert "no change with depth" in find(self.name, {}, layers=1).missing
        found = find(self.name, {}, layers=2)
        assert (found.missing, "2 layers are too few" in found.few) == ("", True)


class TestSparsifies:
    name = "sparsifies"

    @pytest.mark.parametrize(
        ("last", "side", "why"),
        [
            (0.46875, 1, ""),
            (0.46875 + BIT, 0, "it changes by -6.2% only"),
            (0.53125, -1, "it rises"),
            (0.53125 - BIT, 0, "only"),
        ],
    )
    def test_its_change_decides_at_the_threshold(self, last, side, why):
        found = find(self.name, {"l0": of(np.linspace(0.5, last, L))})
        assert found.value == pytest.approx((last - 0.5) / 0.5, abs=1e-15)
        assert found.side == side
        assert why in found.why
        assert bool(found.why) == (side < 1)
        assert (found.parts["first"], found.parts["last"]) == (0.5, last)

    def test_exact_zeros_have_to_be_there(self):
        least = 1 - 2.0**-9
        found = find(self.name, {"l0": of([1] * 7 + [least])})
        assert not found.missing
        found = find(self.name, {"l0": of([1] * 7 + [least + BIT])})
        assert found.missing == "the model makes no exact zeros"

    def test_a_walk_and_too_few_layers_are_no_trend(self):
        found = find(self.name, {"l0": of([0.9, 0.8, 0.7, 0.75, 0.5, 0.4, 0.3, 0.2])})
        assert (found.side, found.why) == (0, WALKS)
        found = find(self.name, {"l0": of(np.linspace(0.5, 0.2, 7))}, layers=7)
        assert "7 layers are too few" in found.few
        assert "no change with depth" in find(self.name, {"l0": of([0.5])}, layers=1).missing
        assert not find(self.name, {"l0": of([0.5, 0.4])}, layers=2).missing

    def test_its_numbers_are_those_of_numpy(self):
        values = noisy(np.linspace(0.9, 0.3, L), 1, 0.01)
        found = find(self.name, {"l0": values})
        first, last = values[:, 0], values[:, -1]
        ratio = last.mean() / first.mean()
        half = (
            scipy.stats.t.ppf(0.975, N - 1) * scipy.stats.sem(last - ratio * first) / first.mean()
        )
        want = (ratio - 1, ratio - 1 - half, ratio - 1 + half)
        assert (found.value, found.low, found.high) == pytest.approx(want)
        assert (found.parts["rho"], found.tested) == (pytest.approx(-1), "layers")
        assert found.p == permutation_p(values.mean(axis=0))


class TestIstaDescends:
    name = "ista_descends"

    @staticmethod
    def values(gap, others=0.0, shrunk=0.0):
        told = {"lasso_gap_closed": gap, "lasso_gap_others": others, "lasso_gap_shrunk": shrunk}
        return {name: each if np.ndim(each) else flat(each) for name, each in told.items()}

    @pytest.mark.parametrize(
        ("gap", "side", "why"),
        [
            (1 / 8, 1, ""),
            (1 / 8 - BIT, 0, "less than 12% of the way"),
            (-1 / 8, -1, "the objective rises"),
            (-1 / 8 + BIT, 0, "less than 12% of the way"),
        ],
    )
    def test_the_gap_decides_at_its_threshold(self, gap, side, why):
        found = find(self.name, self.values(gap, others=-9.0, shrunk=-9.0))
        assert (found.value, found.side) == (gap, side)
        assert why in found.why
        assert bool(found.why) == (side < 1)

    def test_more_than_half_of_the_layers_have_to_close_some(self):
        half = self.values(of([1, 1, 1, 1, -BIT, 0, 0, 0]), -9.0, -9.0)
        found = find(self.name, half)
        assert (found.side, found.parts["layers"]) == (0, 0.5)
        assert "half of the layers at most" in found.why
        assert find(self.name, self.values(of([1, 1, 1, 1, 1, 0, 0, 0]), -9.0, -9.0)).side == 1

    @pytest.mark.parametrize(
        ("control", "share", "why"),
        [("others", 1 / 4, "with other atoms"), ("shrunk", 1 / 32, "scaling its start")],
    )
    def test_each_control_has_to_leave_its_part(self, control, share, why):
        rest = {"others": 0.0, "shrunk": 0.0}
        left = rest | {control: 0.5 * (1 - share)}
        assert find(self.name, self.values(0.5, **left)).side == 1
        left[control] += BIT
        found = find(self.name, self.values(0.5, **left))
        assert found.side == 0
        assert why in found.why
        # A step whose objective rises is asked for no control.
        assert find(self.name, self.values(-0.5, **{**rest, control: 0.0})).side == -1

    def test_its_p_is_the_largest_of_those_that_its_side_needs(self):
        gap = noisy(0.5, 1)
        for worst in ("others", "shrunk"):
            controls = {"others": noisy(0, 2), "shrunk": noisy(0, 3)}
            controls[worst] = noisy(0.1, 4, 0.8)
            found = find(self.name, self.values(gap, **controls))
            each = [gap.mean(axis=1), *((gap - v).mean(axis=1) for v in controls.values())]
            assert found.p == pytest.approx(max(map(p_of, each)))
            assert found.side == 1
            for name, value in controls.items():
                assert found.parts[name] == pytest.approx(value.mean())
        low, high = scipy.stats.t.interval(0.95, N - 1, each[0].mean(), scipy.stats.sem(each[0]))
        assert (found.low, found.high) == pytest.approx((low, high))
        found = find(self.name, self.values(-gap, others=noisy(0, 4, 9.0)))
        assert found.p == pytest.approx(p_of(gap.mean(axis=1)))
        assert compared(self.name, self.values(gap)) == pytest.approx(gap.mean())
        assert found.tested == "samples"

    def test_the_longest_step_of_a_layer_is_told(self):
        steps = of([0.5, 2.5, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        values = self.values(0.5) | {"lasso_step": steps, "lasso_vs_zero": flat(0.75)}
        values["lasso_change"] = flat(-0.25)
        found = find(self.name, values)
        assert (found.parts["step"], found.parts["over_zero"]) == (2.5, 0.75)
        assert found.parts["change"] == -0.25
        told = claims()[self.name].sentence(found)
        assert "of 2 that a proximal step may have" in told
        assert "-25% against a code of zeros" in told
        values["lasso_step"] = flat(2.0)
        told = claims()[self.name].sentence(find(self.name, values))
        assert "that a proximal step may have" not in told


class TestIncoherentSubspaces:
    """Of four heads of 24 in 96 dimensions: chance is 1/4."""

    name = "incoherent_subspaces"

    @pytest.mark.parametrize(
        ("place", "side", "why"),
        [
            (-1 / 8, 1, ""),
            (-1 / 8 + BIT, 0, "less than 12% of the way from chance"),
            (1 / 8, -1, "it is above chance"),
            (1 / 8 - BIT, 0, "less than 12% of the way from chance"),
        ],
    )
    def test_the_place_decides_at_its_threshold(self, place, side, why):
        overlap = 0.25 + place * (0.25 if place < 0 else 0.75)
        found = find(self.name, {"overlap_mean": np.full(L, overlap)})
        assert found.value == pytest.approx(place, abs=1e-12)
        assert (found.side, why in found.why, bool(found.why)) == (side, True, side < 1)

    @pytest.mark.parametrize("place", [-0.03, 0.03, -0.999, 0.999])
    def test_its_interval_is_of_uniformly_drawn_subspaces_and_ends_at_one(self, place):
        part = 0.25 if place < 0 else 0.75
        found = find(self.name, {"overlap_mean": np.full(L, 0.25 + place * part)})
        variance = 2 * (24 * 72) ** 2 / (96**2 * 95 * 98) / 24**2 / 6
        half = scipy.stats.norm.ppf(0.975) * np.sqrt(variance) / part
        want = (max(-1, place - half), min(1, place + half))
        assert (found.low, found.high) == pytest.approx(want)
        deviation = abs(place * part) / np.sqrt(variance)
        assert found.p == pytest.approx(2 * scipy.stats.norm.sf(deviation), rel=1e-6)
        assert found.tested == "random subspaces"
        assert found.parts["chance"] == 0.25

    def test_layers_count_the_same(self):
        found = find(self.name, {"overlap_mean": np.linspace(0.1, 0.2, L)})
        assert found.parts["overlap"] == pytest.approx(0.15)
        assert found.value == pytest.approx(-0.4)

    def test_heads_that_span_all_directions_one_head_and_subspaces_of_tokens_are_none(self):
        everything = {"overlap_random": np.ones(L), "overlap_mean": np.ones(L)}
        assert "cannot lie apart" in find(self.name, everything).missing
        all_but_one = {"overlap_random": np.full(L, 95 / 96), "overlap_mean": np.full(L, 0.5)}
        assert not find(self.name, all_but_one).missing
        one = {"overlap_mean": np.full(L, np.nan)}
        assert "it has one head" in find(self.name, one).missing
        for basis in ("pca", "random"):
            setting = replace(made_up.BASE, basis=basis)
            assert f"{basis} subspaces are none" in find(self.name, {}, setting=setting).missing

    def test_small_subspaces_are_simulated_and_p_counts_both_tails(self, monkeypatch):
        d, K, p = 6, 2, 1
        drawn = _simulated(d, K, p)
        assert len(drawn) == 10_000
        assert drawn.mean() == pytest.approx(0, abs=4 * overlap_spread(d, K, p) / 100)
        assert drawn.std() == pytest.approx(overlap_spread(d, K, p), rel=0.05)
        # The squared cosine of two directions of R^d is Beta(1/2, (d-1)/2).
        beta = scipy.stats.beta(0.5, (d - 1) / 2)
        for q in (0.1, 0.5, 0.9, 0.99):
            excess = beta.ppf(q) - 1 / d
            want = 2 * min(q, 1 - q)
            assert overlap_p(excess, d, K, p) == pytest.approx(want, abs=0.02), q
        assert overlap_p(2.0, d, K, p) == overlap_p(-2.0, d, K, p) == 2 / 10_001
        assert overlap_p(float(np.median(drawn)), d, K, p) == 1
        wide = _simulated(8, 3, 2)
        assert wide.mean() == pytest.approx(0, abs=4 * overlap_spread(8, 3, 2) / 100)
        assert wide.std() == pytest.approx(overlap_spread(8, 3, 2), rel=0.05)
        assert (wide >= -2 / 8).all()
        monkeypatch.setattr(incoherent_subspaces, "DRAWS", 10)
        assert len(_simulated(64, 8, 8)) == 10
        assert len(_simulated(64, 8, 9)) == 0

    def test_the_spread_is_that_of_independent_pairs(self):
        variance = 2 * (24 * 72) ** 2 / (96**2 * 95 * 98) / 24**2 / 6
        assert overlap_spread(96, 4, 24) == pytest.approx(np.sqrt(variance))
