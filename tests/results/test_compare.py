"""What may be put side by side: rows taken alike; every other difference is refused or told."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.conftest import small_vit
from whitebox_probe import plots
from whitebox_probe._core.errors import ProbeError, ResultError
from whitebox_probe.metrics import DeadFeatures, Thresholded
from whitebox_probe.models.wrap import wrap
from whitebox_probe.probing.probe import probe
from whitebox_probe.results.compare import compare
from whitebox_probe.results.forms import gaussian_null, normal_form

IMAGES = torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(8))
VIT = {"model": "vit", "family": "timm_vit", "shift": 1.0}


@pytest.mark.parametrize(
    ("here", "there", "told"),
    [
        ({"lam": 0.1}, {"lam": 0.5}, None),  # no measure of these depends on it
        ({"eps": 0.1}, {"eps": 0.5}, "differ in eps of .*: crate has eps 0.1; vit has eps 0.5"),
        ({"null": ""}, {"null": "gaussian"}, "null of the model itself; vit has null gaussian"),
        ({"prenorm": True}, {"prenorm": False}, "prenorm True; vit has prenorm False"),
        ({"class_token": True}, {"class_token": False}, "class_token True; .* class_token False"),
        ({"convention": "paper"}, {"convention": "official"}, "differ in convention of"),
        ({"basis": "native"}, {"basis": "pca"}, "differ in basis of 'compression'.*basis pca"),
        ({"basis": "native+qr"}, {"basis": "pca"}, "basis native\\+qr; vit has basis pca"),
        ({"basis": "native"}, {"basis": "qkv:k+qr"}, "differ in orthonormal of 'compression'"),
        ({}, {"site": {"l0": "z_half"}}, "site of 'l0': crate has site z_out; vit has site z_half"),
        ({}, {"data": {"name": "images", "fingerprint": "b"}}, "differ in data: .*fingerprint"),
        (
            {"data": {"name": "images", "fingerprint": "abc", "split": "train"}},
            {"data": {"name": "images", "fingerprint": "abc", "split": "test"}},
            'differ in data: crate has split "train", vit has "test"',
        ),
    ],
)
def test_a_measure_taken_differently_is_refused(made, here, there, told):
    pair = [made(**here), made(**VIT, **there)]
    if told is None:
        compare(pair)
        return
    with pytest.raises(ResultError, match=told) as error:
        compare(pair)
    assert "\n" not in str(error.value)


def test_an_eps_that_an_older_version_took_in_float32_is_the_same(made):
    narrow = made("vit", eps=float(np.float32(0.1)))
    assert set(compare([made(), narrow]).differences["metric"]) == {
        "compression",
        "coding_rate",
        "l0",
    }


def test_lam_is_refused_where_a_measure_depends_on_it(made):
    def with_lam(lam, **changes):
        result = made(**changes)
        frame = result.frame.assign(lam=np.where(result.frame["metric"] == "l0", lam, np.nan))
        return replace(result, frame=frame)

    with pytest.raises(
        ResultError, match=r"differ in lam of 'l0': crate has lam 0\.1; vit .* 0\.5"
    ):
        compare([with_lam(0.1), with_lam(0.5, **VIT)])


def test_data_that_nobody_can_tell_apart_are_refused(made):
    data = {"name": "loader", "fingerprint": ""}
    with pytest.raises(ResultError, match="not known to be the same.*no fingerprint"):
        compare([made(data=data), made(**VIT, data=data)])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"preprocess": {"size": 8}}, 'preprocessing: .*vit has {"size": 8}; the models'),
        ({"settings": {"seed": 1}}, "seed: crate has 0, vit has 1; samples were drawn"),
        ({"settings": {"dtype": "bfloat16"}}, 'dtype: crate has "float32", vit has "bf'),
        ({"settings": {"fast": False}}, "fast: crate has true, vit has false; .*rounding"),
        ({"settings": {"nonfinite": "drop"}}, "nonfinite: "),
        ({"data": {"name": "images", "fingerprint": "abc", "limit": 5}}, "limit: .*both"),
        (
            {"data": {"name": "images", "fingerprint": "abc", "limit": None, "split": "test"}},
            'split: crate has none recorded, vit has "test"; the fingerprint',
        ),
        ({"versions": {"torch": "9"}}, 'the version of torch: .*"9"'),
        ({"labels": {"classes": 3}}, "labels: crate has none recorded, vit has"),
        ({"count": 4}, "the number of samples: crate has 6, vit has 4"),
    ],
)
def test_what_differs_beside_is_told_in_one_line(made, changes, told):
    notes = compare([made(), made(**VIT, **changes)]).notes
    assert len(notes) == 1
    assert "\n" not in notes[0]
    assert re.search(told, notes[0])


def test_results_taken_alike_have_nothing_to_tell(made):
    assert compare([made(), made(**VIT)]).notes == ()


def test_the_same_weights_built_differently_are_told(made):
    weights = {"checkpoint": {"name": "a", "sha256": "f00"}}
    pair = [made(**weights), made("b", **weights, network={"lam": 1.0}, preprocess={"size": 8})]
    notes = compare(pair).notes
    assert [note.partition(": ")[0] for note in notes] == [
        "preprocessing",
        "the network of the same weights",
    ]


def test_the_fit_of_a_basis_has_to_be_the_same_where_one_is_used(made):
    fits = [{"settings": {"fit": {"limit": limit}}} for limit in (128, 256)]
    with pytest.raises(ResultError, match=r"data that the basis of 'compression' was fitted on"):
        compare([made(basis="pca", **fits[0]), made(**VIT, basis="pca", **fits[1])])
    compare([made(**fits[0]), made(**VIT, basis="qkv:k", **fits[1])])


def test_each_family_may_use_its_own_projection_and_both_are_told(made):
    comparison = compare([made(), made(**VIT, basis="qkv:k")])
    rows = comparison.differences.query("metric == 'compression'")
    assert set(zip(rows["first_basis"], rows["second_basis"], strict=True)) == {("native", "qkv:k")}
    assert comparison.notes == ("basis: crate uses native, vit qkv:k: each its own",)
    with pytest.raises(ResultError, match="differ in basis"):
        compare([made(), made("other", basis="qkv:k")])  # of one family
    with pytest.raises(ResultError, match="differ in basis"):
        compare([made(family="gpt2", basis="qkv:q"), made(**VIT, basis="qkv:k")])


def test_heads_of_two_families_are_one_place(made):
    here, there = {"site": {"compression": "heads"}}, {"site": {"compression": "heads_k"}}
    rows = compare([made(**here), made(**VIT, **there, basis="qkv:k")]).differences
    assert rows.query("metric == 'compression'")["site"].tolist() == ["heads"] * 3


def test_several_settings_are_paired_one_by_one(made):
    several = {"eps": [0.1, 0.5], "null": ["", "gaussian"], "class_token": [True, False]}
    one, two = made(**several), made(**VIT, **several, basis=["qkv:k", "qk"])
    rows = compare([one, two]).differences
    assert len(rows) == (8 + 8 + 4) * 3
    where = {"eps": 0.5, "null": "gaussian", "class_token": False}
    want = two.values("compression", basis="qkv:k", **where) - one.values("compression", **where)
    mine = rows.query("metric == 'compression' and eps == 0.5 and null == 'gaussian'")
    mine = mine[~mine["class_token"]]
    np.testing.assert_allclose(mine["difference"], want.mean(axis=0))
    assert mine["second_basis"].unique().tolist() == ["qkv:k"]


def test_what_only_one_result_has_is_left_out(made):
    rows = compare([made(eps=[0.1, 0.5]), made(**VIT, eps=0.5)]).differences
    assert rows["eps"].dropna().unique().tolist() == [0.5]


def test_sizes_that_differ_are_divided_out_row_by_row(made):
    several = {"class_token": [True, False]}
    one, two = made(**several), made(**VIT, **several, tokens=20)
    comparison = compare([one, two])
    rows = comparison.differences.query("metric == 'compression'")
    assert set(rows["form"]) == {"per_token"}
    without = rows[~rows["class_token"]]
    values = [r.values("compression", class_token=False) for r in (one, two)]
    want = (values[1] / 19 - values[0] / 9).mean(axis=0)
    np.testing.assert_allclose(without["difference"], want)
    frame = comparison.frame.query("metric == 'compression' and model == 'vit'")
    np.testing.assert_allclose(
        frame["mean_per_token"], frame["mean"] / frame["class_token"].map({True: 20, False: 19})
    )


def test_positions_follow_the_bounds_of_each_setting(made):
    bounds = {"compression": [{"eps": 0.1, "low": 0, "high": 50}]}
    one = made(eps=[0.1, 0.5], bounds=bounds)
    frame = compare([one, made(**VIT, eps=[0.1, 0.5], bounds=bounds)]).frame
    mine = frame.query("metric == 'compression' and eps == 0.1")
    np.testing.assert_allclose(mine["mean_position"], mine["mean"] / 50)
    assert frame.query("eps == 0.5")["mean_position"].isna().all()


class TestTheShareOfTheGaussianNull:
    def nulls(self, made):
        kinds = {"random_weights": {"shift": 3.0}, "gaussian": {"null": "gaussian", "shift": 2.0}}
        return {
            kind: made(f"crate | {kind}", null_of="crate", **changes)
            for kind, changes in kinds.items()
        }

    def test_is_of_the_gaussian_one_whatever_their_order(self, made):
        result, nulls = made(), self.nulls(made)
        want = result.curve("compression")["mean"] / nulls["gaussian"].curve("compression")["mean"]
        for given in (nulls, list(nulls.values()), list(nulls.values())[::-1]):
            null = gaussian_null(result, "compression", nulls=given)
            got = normal_form(result, "compression", "null_share", null)(
                result.curve("compression")
            )
            np.testing.assert_allclose(got["mean"], want)

    def test_is_found_in_the_result_itself(self, made):
        result = made(null=["", "gaussian"])
        null = gaussian_null(result, "compression")
        assert null.equals(result.curve("compression", null="gaussian"))

    def test_names_the_call_that_gives_one(self, made):
        result, nulls = made(), self.nulls(made)
        assert gaussian_null(result, "l0", nulls=[nulls["random_weights"]]) is None
        assert gaussian_null(made("other"), "l0", nulls=nulls) is None
        told = r"of crate is missing.*wp\.nulls\(model, data, kinds=\('gaussian',\)\)"
        with pytest.raises(ResultError, match=told):
            normal_form(result, "compression", "null_share")
        other = nulls["random_weights"].curve("compression").assign(null="random_weights")
        with pytest.raises(ResultError, match="is not random_weights"):
            normal_form(result, "compression", "null_share", other)

    def test_has_every_layer_or_is_refused(self, made):
        null = made(null="gaussian", layers=2).curve("compression")
        share = normal_form(made(), "compression", "null_share", null)
        with pytest.raises(ResultError, match="lacks layers of 'compression'"):
            share(made().curve("compression"))


def test_an_unknown_form_is_told_before_anything_is_compared(made):
    with pytest.raises(ResultError, match="cannot be compared in the form 'null_share'"):
        compare([made(), made(**VIT)], form="null_share")


def probed(name, *metrics):
    return probe(wrap(small_vit(), name=name), IMAGES, list(metrics), progress=False)


@pytest.mark.parametrize(
    ("here", "there", "told"),
    [
        (Thresholded(tau=0.1), Thresholded(tau=0.5), "tau of 'thresholded': a has 0.1, b has 0.5"),
        (DeadFeatures(tau=0.1), DeadFeatures(tau=0.5), "tau of 'dead_features'"),
    ],
)
def test_a_parameter_that_has_no_column_counts_as_well(here, there, told):
    pair = [probed("a", "l0", here), probed("b", "l0", there)]
    with pytest.raises(ResultError, match=told):
        compare(pair)
    with pytest.raises(ResultError, match=told):
        plots.curves(*pair, metric=pair[0].frame["metric"].iloc[-1])
    plots.curves(*pair, metric="l0")
    same = compare([pair[0], probed("c", "l0", type(there)(tau=0.1))])
    assert set(same.differences["metric"]) >= {"l0"}


def test_what_the_table_cannot_tell_apart_is_not_measured_in_one_run():
    with pytest.raises(ProbeError, match=r"'thresholded' is named with tau 0\.1 and 0\.5"):
        probed("a", Thresholded(tau=0.1), Thresholded(tau=0.5))
    with pytest.raises(ProbeError, match=r"with tau 0\.1 and 0\.5"):
        probed("a", "thresholded", Thresholded(tau=0.5))


def test_measures_without_a_value_a_sample_are_named_as_what_cannot_be_paired():
    pair = [probed("a", "coherence"), probed("b", "coherence")]
    with pytest.raises(ResultError, match="a and b share .*coherence.* alone: .*sample by sample"):
        compare(pair)


@pytest.mark.parametrize("order", [1, -1])
def test_a_class_token_that_is_not_there_counts_for_nothing(made, order):
    without = made(prefix=0)
    for taken in (True, False):
        pair = [without, made(**VIT, class_token=taken)][::order]
        assert set(compare(pair).differences["class_token"]) == {taken}
        plots.curves(*pair, metric="l0")
    both = made(**VIT, class_token=[True, False])
    assert set(compare([without, both][::order]).differences["class_token"]) == {True}
    assert len(compare([without, made(**VIT, prefix=0, class_token=False)]).differences)
    with pytest.raises(ResultError, match="differ in class_token"):
        compare([made(), made(**VIT, class_token=False)][::order])


@pytest.mark.parametrize("lacking", [["null"], ["lam"], ["null", "lam", "note"]])
def test_tables_that_do_not_tell_a_setting_are_compared(lacking, made):
    """Of results that users make up: what a table does not tell has no value there."""
    one, two = made(), made(model="vit")
    want = compare([one, two]).differences
    few = replace(two, frame=two.frame.drop(columns=lacking))
    assert compare([one, few]).differences.equals(want)
