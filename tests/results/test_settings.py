"""The table's settings: rows that are found by them, samples that are named by them."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from whitebox_probe._core.errors import ProbeError, ResultError
from whitebox_probe.results.result import Result
from whitebox_probe.results.table import COLUMNS, keys_of, read_table, sample_key, tabulate

SWEEP = {"basis": ["native", "qk"], "eps": [0.1, 0.5], "null": ["", "gaussian"]}


def test_columns_and_types_are_those_that_are_promised(made):
    frame = made().frame
    assert tuple(frame.columns) == COLUMNS
    assert frame.dtypes[["prenorm", "class_token"]].eq("boolean").all()
    l0 = frame[frame["metric"] == "l0"]
    assert l0[["prenorm", "eps", "lam"]].isna().all(axis=None)
    assert l0["basis"].eq("").all()
    assert l0["null"].eq("").all()


def test_rows_go_by_metric_then_settings_then_layer(made):
    frame = made(**SWEEP).frame
    assert frame["metric"].is_monotonic_increasing
    compression = frame[frame["metric"] == "compression"]
    assert compression["layer"].tolist() == [1, 2, 3] * 8
    assert compression["basis"].tolist() == ["native"] * 12 + ["qk"] * 12


def test_a_sample_is_named_by_what_varies_of_its_metric(made):
    assert set(made().samples) == {
        f"{m}@{s}:{n}"
        for m, s in (("compression", "z_half"), ("coding_rate", "z_out"), ("l0", "z_out"))
        for n in (1, 2, 3)
    }
    result = made(**SWEEP)
    assert "compression[basis=qk,eps=0.5]@z_half:3" in result.samples
    assert "compression[basis=qk,eps=0.5,null=gaussian]@z_half:3" in result.samples
    assert "coding_rate[eps=0.1]@z_out:1" in result.samples
    assert "l0[null=gaussian]@z_out:1" in result.samples
    keys = keys_of(result.frame)
    assert keys.is_unique
    np.testing.assert_allclose(result.samples[list(keys)].mean(), result.frame["mean"])
    assert (
        sample_key("l0", "z_out", 1, prenorm=False, eps=float("nan")) == "l0[prenorm=False]@z_out:1"
    )


def test_a_curve_is_told_from_others_by_its_settings(made):
    result = made(**SWEEP)
    with pytest.raises(ResultError) as told:
        result.curve("compression")
    assert str(told.value) == (
        "'compression' was measured with several basis and eps: one curve has one of each. "
        "Name one with basis='native', 'qk'; eps=0.1, 0.5."
    )
    with pytest.raises(ResultError, match=r"with several eps: .*Name one with eps=0\.1, 0\.5"):
        result.values("compression", basis="qk")
    curve = result.curve("compression", basis="qk", eps=0.5)
    assert curve["null"].eq("").all()  # the model's own tokens, when nothing else is asked for
    other = result.curve("compression", basis="qk", eps=0.5, null="gaussian")
    assert not np.allclose(other["mean"], curve["mean"])
    values = result.values("compression", basis="qk", eps=0.5, null="gaussian")
    np.testing.assert_allclose(values.mean(axis=0), other["mean"])
    assert result.trend("compression", basis="qk", eps=0.5).rho == pytest.approx(1)


def test_what_a_number_does_not_depend_on_may_be_named_all_the_same(made):
    result = made(basis=["native", "qk"])
    assert result.curve("l0", basis="qk", eps=0.1, prenorm=False).equals(result.curve("l0"))


def test_settings_that_were_not_measured_are_told(made):
    result = made(eps=[0.1, 0.5])
    told = r"'compression' with eps=0\.3 is not in the result.*compression with .*eps=0\.1"
    with pytest.raises(ResultError, match=told):
        result.curve("compression", eps=0.3)
    with pytest.raises(ResultError, match="no setting 'epsilon'.*Did you mean 'eps'"):
        result.curve("compression", epsilon=0.3)


def test_each_value_that_is_asked_for_was_measured(made):
    result = made(eps=[0.1, 0.5])
    one = result.curve("compression", eps=[0.5])
    assert one.equals(result.curve("compression", eps=np.array([0.5])))
    for ask in (result.curve, result.values):
        with pytest.raises(ResultError, match=r"with eps=0\.1 or 0\.3 is not in the result"):
            ask("compression", eps=[0.1, 0.3])
    with pytest.raises(ResultError, match=r"nothing in the result of crate has eps=0\.1 or 0\.3"):
        result.select(eps=[0.1, 0.3])
    assert result.curve("l0", eps=[0.1, 0.3]).equals(result.curve("l0"))  # which has none


@pytest.mark.parametrize(
    "where",
    [
        *[{"eps": bad} for bad in ("x", "0.1", [None, "x"], {}, object(), True, 10**400)],
        *[{"class_token": bad} for bad in ("no", 1, "True")],
        *[{"basis": bad} for bad in (5, [5], {}, True)],
        *[{"site": bad} for bad in (["z_out"], 5)],
    ],
    ids=lambda where: "-".join(f"{name}-{type(bad).__name__}" for name, bad in where.items()),
)
def test_settings_of_another_kind_are_told(where, made):
    result = made(eps=[0.1, 0.5])
    asking = [result.curve, result.values, result.trend]
    for ask in asking:
        with pytest.raises(ProbeError, match=f"{next(iter(where))} is "):
            ask("compression", **where)
    if "site" not in where:
        with pytest.raises(ProbeError, match=f"{next(iter(where))} is "):
            result.select(**where)


def test_names_are_texts(made):
    result = made()
    for ask in (result.curve, result.values, result.keys, result.trend):
        with pytest.raises(ProbeError, match=r"metric is \['l0'\]"):
            ask(["l0"])
    with pytest.raises(ProbeError, match=r"name is \['coherence'\]"):
        result.matrix(["coherence"])


def test_a_sample_that_was_not_drawn_is_told(made):
    result = made()
    drawn = result.samples.index.tolist()
    with pytest.raises(ResultError, match="of crate holds no sample 99: it was not drawn"):
        result.contents([drawn[0], 99])
    for bad in ("x", 5, [None], [1.5]):
        with pytest.raises(ProbeError, match="samples is"):
            result.contents(bad)


def test_one_site_of_several_is_named(made):
    both = made().frame
    other = both.assign(site="z_in")
    result = made()
    frame = pd.concat([both, other], ignore_index=True)
    result = Result(frame, result.samples, {}, result.run)
    with pytest.raises(
        ResultError, match="'l0' was measured at several sites.*site='z_out', 'z_in'"
    ):
        result.curve("l0")
    assert len(result.curve("l0", "z_in")) == 3


def test_a_part_is_a_result_of_its_own(made, tmp_path):
    whole = made(**SWEEP, class_token=[True, False])
    part = whole.select(basis="qk", eps=[0.5], null="", class_token=False)
    assert set(part.frame["eps"].dropna()) == {0.5}
    assert part.run["basis"] == "qk"
    assert (part.run["eps"], part.run["null"], part.run["class_token"]) == (0.5, None, False)
    assert part.run.tokens == 9
    assert "compression@z_half:2" in part.samples
    want = whole.values("compression", basis="qk", eps=0.5, class_token=False)
    np.testing.assert_array_equal(part.values("compression"), want)
    assert set(part.matrices) == {"coherence"}
    np.testing.assert_array_equal(part.matrix("coherence"), whole.matrix("coherence", basis="qk"))
    assert Result.load(part.save(tmp_path)) == part
    two = whole.select(eps=0.1, null="", class_token=True)
    assert "compression[basis=qk]@z_half:2" in two.samples
    assert two.run["basis"] == ["native", "qk"]
    with pytest.raises(ResultError, match=r"nothing in the result of crate has null=shuffled"):
        whole.select(null="shuffled")


def test_matrices_are_named_by_what_varies(made):
    result = made(basis=["native", "qk"])
    assert set(result.matrices) == {"coherence[basis=native]", "coherence[basis=qk]"}
    assert (result.matrix("coherence", basis="qk") == 1).all()
    with pytest.raises(
        ResultError, match="2 matrices 'coherence' .*Name one with basis='native', 'qk'"
    ):
        result.matrix("coherence")
    with pytest.raises(ResultError, match="no matrices 'overlap'.*holds: coherence"):
        result.matrix("overlap")


def test_one_measure_twice_is_refused():
    row = {"metric": "l0", "site": "z_out", "layer": 1, "value": 1.0, "count": 3}
    with pytest.raises(ResultError, match="'l0' is measured twice at z_out"):
        tabulate(model="m", rows=[], samples=pd.DataFrame(), numbers=[row, row], seed=0)


def test_a_table_survives_csv_to_the_last_digit(made, tmp_path):
    result = made(**SWEEP, prenorm=[True, False])
    folder = result.save(tmp_path)
    again = read_table(folder / "table.csv")
    pd.testing.assert_frame_equal(again, result.frame, check_exact=True)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "table.parquet"), result.frame)


def test_a_value_that_was_never_measured_is_no_part(made):
    result = made(**SWEEP)
    for where in ({"eps": 0.7}, {"basis": "pca"}, {"null": "shuffled"}):
        with pytest.raises(ResultError):
            result.select(**where)


@pytest.mark.parametrize("number", [np.float32, Decimal, Fraction], ids=lambda f: f.__name__)
def test_an_eps_is_found_as_any_number_that_is_it_to_float32(number, made):
    found = made(eps=[0.1, 0.10001, 0.5])
    for eps in ("0.1", "0.5"):
        curve = found.curve("coding_rate", eps=number(eps))
        assert set(curve["eps"]) == {float(eps)}
        assert set(found.select(eps=[number(eps)]).curve("coding_rate")["eps"]) == {float(eps)}
    with pytest.raises(ResultError, match="eps=0.1000"):
        found.curve("coding_rate", eps=0.1 * (1 + 1e-7))
