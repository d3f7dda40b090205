"""Results and comparisons of a user's own tables: brought into the form of ours, or refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import whitebox_probe as wp
from whitebox_probe._core.errors import ResultError
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.plain import plain_samples, plain_table
from whitebox_probe.results.result import NEEDED
from whitebox_probe.results.table import COLUMNS, SETTINGS, no_value

FLOATS = ["mean", "std", "sem", "ci_low", "ci_high"]


def _with(result, **frames):
    return replace(result, **frames)


def _ids(result, **options):
    return pd.Series(range(len(result.samples)), index=result.samples.index, **options)


IN_FORM = {
    "nullable": lambda r: _with(r, frame=r.frame.convert_dtypes(), samples=_nullable(r.samples)),
    "texts as objects": lambda r: _with(
        r, frame=r.frame.assign(note=r.frame["note"].astype(object))
    ),
    "numbers as objects": lambda r: _with(r, frame=r.frame.astype({"ci_low": object})),
    "all as objects": lambda r: _with(
        r, frame=r.frame.astype(object), samples=r.samples.astype(object)
    ),
    "texts of another kind": lambda r: _with(r, frame=r.frame.astype({"metric": "string"})),
    "categories": lambda r: _with(
        r, frame=r.frame.astype(dict.fromkeys(["std", "metric", "layer", "prenorm"], "category"))
    ),
    "samples in categories": lambda r: _with(r, samples=r.samples.astype("category")),
    "small numbers": lambda r: _with(
        r, frame=r.frame.astype({"layer": "int8", "count": "float32"})
    ),
    "one label": lambda r: _with(r, frame=r.frame.set_axis([0] * len(r.frame))),
    "labels of texts": lambda r: _with(r, frame=r.frame.set_axis(list(map(str, r.frame.index)))),
    "names of columns in categories": lambda r: _with(
        r, frame=r.frame.set_axis(pd.CategoricalIndex(r.frame.columns), axis=1)
    ),
    "no notes": lambda r: _with(r, frame=r.frame.assign(note=pd.NA)),
    "numbers of samples as objects": lambda r: _with(
        r, samples=r.samples.set_axis(r.samples.index.astype(object))
    ),
}


def _nullable(samples):
    return samples.astype("Float64")


def uses(result, other, folder):
    repr(result), result._repr_html_(), result.to_markdown(), result.to_latex()
    result.changes(), result.select(null=None), result.curve("l0")
    wp.compare([result, other])
    wp.report(result, folder / "r.md", overwrite=True)


@pytest.mark.parametrize("case", IN_FORM)
def test_what_holds_the_same_is_the_same(case, made, tmp_path):
    found = IN_FORM[case](made())
    assert found == made()
    assert wp.Result.load(found.save(tmp_path / "s")) == found
    uses(found, made("vit"), tmp_path)


def test_float16_is_kept_as_it_is(made, tmp_path):
    found = _with(made(), frame=made().frame.astype(dict.fromkeys(FLOATS, "float16")))
    want = made().frame["mean"].astype("float16")
    np.testing.assert_array_equal(found.frame["mean"], want.astype(float))
    uses(found, made("vit"), tmp_path)


def _column(**columns):
    return lambda r: {"frame": r.frame.assign(**columns)}


REFUSED = {
    "a column twice": lambda r: {"frame": pd.concat([r.frame, r.frame[["ci_low"]]], axis=1)},
    "samples twice": lambda r: {"samples": pd.concat([r.samples, r.samples], axis=1)},
    "no metric": lambda r: {"frame": r.frame.drop(columns="metric")},
    "no layer": lambda r: {"frame": r.frame.drop(columns="layer")},
    "no table": lambda r: {"frame": r.frame.to_dict("list")},
    "a row of samples": lambda r: {"samples": r.samples.iloc[:, 0]},
    "a layer of nothing": _column(layer=pd.NA),
    "half a layer": _column(layer=0.5),
    "a layer beyond": _column(layer=10**30),
    "a metric of nothing": _column(metric=None),
    "a list of metrics": lambda r: _column(metric=[["l0"]] * len(r.frame))(r),
    "words": _column(mean="high"),
    "complex": _column(mean=1j),
    "truths": _column(mean=True),
    "dates": _column(ci_low=pd.Timestamp("2020-01-01")),
    "more digits than a number has": _column(mean=2**60 + 1),
    "no name": lambda r: {"frame": r.frame.rename(columns={"note": 5})},
    "one sample": lambda r: {"samples": r.samples.set_axis([0] * len(r.samples))},
    "names of samples": lambda r: {"samples": r.samples.set_axis(list(map(str, r.samples.index)))},
    "words of samples": lambda r: {"samples": r.samples.astype(str)},
    "two identities": lambda r: {"identities": pd.Series([1, 2])},
    "others' identities": lambda r: {"identities": _ids(r).set_axis(r.samples.index + 100)},
    "halves": lambda r: {"identities": _ids(r) + 0.5},
    "identities in a list": lambda r: {"identities": [1, 2]},
    "matrices of objects": lambda r: {"matrices": {"coherence": np.array([None, 1])}},
    "matrices of no name": lambda r: {"matrices": {3: np.eye(2)}},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_result_holds_is_refused_in_a_line(case, made):
    changes = REFUSED[case](made())
    with pytest.raises(ResultError, match=f"no Result can be made of this '{next(iter(changes))}'"):
        replace(made(), **changes)


@pytest.mark.parametrize(
    ("field", "value"),
    [("prefix", ""), ("layers", (1,)), ("network", 1.5), ("model", -1), ("seconds", True)],
)
def test_a_run_of_other_types_is_refused(field, value, made):
    with pytest.raises(ResultError, match=rf"'{field}' of a run is a \w+: it is to be a \w+\."):
        replace(made().run, **{field: value})


@pytest.mark.parametrize("column", [n for n in COLUMNS if n not in (*NEEDED, *SETTINGS)])
def test_a_column_that_a_table_lacks_has_no_value(column, made, tmp_path):
    whole = made().frame
    found = replace(made(), frame=whole.drop(columns=column).assign(of_mine=1))
    assert list(found.frame) == [*COLUMNS, "of_mine"]
    if column in ("model", "count"):
        assert found.frame[column].equals(whole[column])
    else:
        assert found.frame[column].map(no_value).all()
    uses(found, made("vit"), tmp_path)
    found = replace(made(), frame=whole.drop(columns=column))
    assert wp.Result.load(found.save(tmp_path / "s")) == found


@pytest.mark.parametrize("columns", [*([name] for name in SETTINGS), list(SETTINGS)], ids=".".join)
def test_a_table_without_settings_is_good(columns, made, tmp_path):
    found, other = (replace(r, frame=r.frame.drop(columns=columns)) for r in (made(), made("vit")))
    assert not {*columns} & {*found.frame}
    for name in SETTINGS:
        value = next(iter(made().frame[name].dropna()), None)
        assert found.select(**{name: value}).values("l0").tolist() == found.values("l0").tolist()
    wp.plots.compression(found, other)
    wp.report([found, other], tmp_path / "report.html")
    uses(found, other, tmp_path)


def test_a_table_without_samples_is_good(made):
    assert len(replace(made(), samples=pd.DataFrame()).frame) == len(made().frame)


def test_what_is_in_form_is_not_copied(made):
    for each in (made(), made().select(null=None)):
        for name, plain in (
            ("frame", lambda f: plain_table(f, ["mean"])),
            ("samples", plain_samples),
        ):
            held = uncopied(each, name)
            assert plain(held) is held


def _frame(**columns):
    return lambda c: {"frame": c.frame.assign(**columns)}


COMPARISONS = {
    **{f"no {c}": lambda c, n=c: {"frame": c.frame.drop(columns=n)}
       for c in ("relative_depth", "mean_per_token", "mean_per_entry", "count", "layer", "model")},
    **{f"{n} {v}": _frame(**{n: v}) for n, v in [
        ("mean_per_entry", np.nan), ("mean_per_entry", 0.0), ("mean_per_token", np.inf),
        ("relative_depth", 0.0), ("relative_depth", np.nan), ("count", np.nan), ("layer", 0)]},
    "no rows": lambda c: {"frame": c.frame.iloc[:0]},
    "no columns": lambda c: {"differences": c.differences[[]]},
    "a column twice": lambda c: {"frame": pd.concat([c.frame, c.frame[["mean"]]], axis=1)},
}  # fmt: skip


@pytest.mark.parametrize("case", COMPARISONS)
def test_what_no_comparison_holds_is_refused_in_a_line(case, made):
    both = wp.compare([made("a"), made("b")])
    with pytest.raises(ResultError, match="no Comparison can be made of these: '(frame|diff)"):
        replace(both, **COMPARISONS[case](both))


def test_a_comparison_of_other_types_is_the_same(made):
    both = wp.compare([made("a"), made("b")])
    found = replace(
        both, frame=both.frame.convert_dtypes(), differences=both.differences.astype(object)
    )
    assert found == both


def test_a_comparison_of_no_differences_shows_itself(made):
    whole = wp.compare([made(), made("vit", shift=1.0)])
    none = replace(whole, differences=whole.differences[:0])
    assert "0 samples, paired" in none._repr_html_()
    assert repr(none)


def test_a_result_whose_run_has_another_name_is_compared(made):
    found = replace(made(), run=replace(made().run, model="renamed"))
    assert set(found.frame["model"]) == {"crate"}
    assert set(wp.compare([found, made()]).differences["first"]) == {"renamed"}


def test_rows_of_two_models_keep_their_names(made):
    both = pd.concat([made("vit").frame, made().frame], ignore_index=True)
    found = replace(made(), frame=both)
    assert set(found.frame["model"]) == {"vit", "crate"}
