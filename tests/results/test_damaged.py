"""A result whose files were made otherwise, without digests that would tell, is refused by name."""

import json
import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import ResultError
from whitebox_probe.results import compare, kinds
from whitebox_probe.results.similarity import Similarity
from whitebox_probe.results.table import COLUMNS, SETTINGS, no_value

IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def probed():
    model = wp.wrap(small_crate(), name="crate")
    return wp.probe(model, IMAGES, ["l0", "coherence", "coding_rate"], progress=False)


@pytest.fixture
def folder(probed, tmp_path):
    """The result as files, and nothing in them that seals the others."""
    probed.save(tmp_path / "r")
    told = json.loads((tmp_path / "r/run.json").read_text())
    for seal in ("digest", "files"):
        told.pop(seal, None)
    (tmp_path / "r/run.json").write_text(json.dumps(told))
    wp.Result.load(tmp_path / "r")
    return tmp_path / "r"


def _set(name, value):
    return lambda frame: frame.assign(**{name: value})


def _twice(frame):
    return pd.concat([frame, frame.iloc[:1]])


TABLES = {
    "another model": (_set("model", "other"), "it is of other, and run.json of another"),
    "a layer too many": (_set("layer", 99), "its layers are not those of a network of"),
    "a layer below": (_set("layer", -1), "its layers are not those"),
    "no rows": (lambda f: f.iloc[:0], "it has no rows"),
    "a row twice": (_twice, "'.*' is in it twice"),
    "a row twice, by what names tell": (
        lambda f: pd.concat([f, f[f["eps"].notna()].iloc[:1].assign(eps=lambda r: r.eps + 1e-15)]),
        r"'coding_rate\[eps=0\.1\]@z_out:1' is in it twice",
    ),
    "words for numbers": (_set("mean", "high"), "its column 'mean' is of the type"),
    "numbers for words": (_set("metric", 3.0), "its column 'metric' is of the type"),
    "halves of layers": (_set("layer", 1.5), "its column 'layer' is of the type"),
    "an eps without end": (_set("eps", np.inf), "its column 'eps' holds infinity"),
}
SAMPLES = {
    "a sample twice": (_twice, "its samples have no numbers, or two have one"),
    "words": (lambda f: f.set_index(f.index.map(str)), "its samples have no numbers"),
    "another measure": (
        lambda f: f.rename(columns={f.columns[0]: "kurtosis/9"}),
        "none of the table's measures",
    ),
    "other means": (
        lambda f: f.assign(**1.01 * f.select_dtypes("float")),
        "is not that of the table",
    ),
    "whole numbers": (lambda f: f.round().astype(int), "is of the type int64"),
}


FILES = {"table.parquet": TABLES, "samples.parquet": SAMPLES}


@pytest.mark.parametrize(
    ("file", "case"), [(f, case) for f, cases in FILES.items() for case in cases]
)
def test_a_table_of_another_form_is_refused(file, case, folder):
    change, told = FILES[file][case]
    change(pd.read_parquet(folder / file)).to_parquet(folder / file)
    with pytest.raises(ResultError, match=told):
        wp.Result.load(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: a[:-1], "is no array over the"),
        (lambda a: a[:, :, :-1], "coherence"),
        (lambda a: a[0, 0], "is no array over the"),
    ],
)
def test_matrices_of_another_form_are_refused(change, told, folder):
    path = folder / "matrices.npz"
    with np.load(path) as held:
        arrays = dict(held)
    name = next(each for each in arrays if each.startswith("coherence"))
    np.savez(path, **arrays | {name: change(arrays[name])})
    with pytest.raises(ResultError, match=told):
        wp.Result.load(folder)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_table_without_a_column_is_refused(column, folder):
    path = folder / "table.parquet"
    pd.read_parquet(path).drop(columns=column).to_parquet(path)
    if column in ("note", *SETTINGS):  # what a table does not tell has no value there
        with suppress(ResultError):  # rows that differ in it alone are there twice
            assert all(map(no_value, wp.Result.load(folder).frame[column]))
        return
    with pytest.raises(ResultError, match=rf"table\.parquet: it lacks the columns {column}\."):
        wp.Result.load(folder)


def _unsealed(folder):
    for path in folder.glob("*.json"):
        told = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in told.items() if k not in ("digest", "files")}))
    return folder


@pytest.fixture
def three(made, tmp_path):
    """A comparison of three models as files, and nothing in them that seals the others."""
    several = [made(name, shift=i) for i, name in enumerate("abc")]
    return _unsealed(compare.compare(several).save(tmp_path / "c"))


@pytest.fixture
def alike(tmp_path):
    """A similarity as files, the same."""
    arrays = [np.random.default_rng(i).normal(size=(2, 3)) for i in range(3)]
    return _unsealed(Similarity(*arrays, "a", "b", 9).save(tmp_path / "s"))


@pytest.fixture
def loaded(three, alike):
    """What reads the folder of each table, and the folder."""
    of_three = dict.fromkeys(compare.FILES.values(), (wp.Comparison.load, three))
    return of_three | {"similarity.csv": (Similarity.load, alike)}


def _changed(path, change):
    frame = change(pd.read_csv(path, dtype=str, keep_default_na=False))
    frame.to_csv(path, index=False)


OF_SEVERAL = (*compare.FILES.values(), "similarity.csv")


@pytest.mark.parametrize(
    ("table", "column"), [(t, c) for t in OF_SEVERAL for c in kinds.COLUMNS[t][-1]]
)
def test_a_table_of_several_models_without_a_column_is_refused(table, column, loaded):
    load, folder = loaded[table]
    load(folder)
    _changed(folder / table, lambda f: f.drop(columns=column))
    if (table, column) == ("comparison.csv", "note"):
        assert set(load(folder).frame["note"]) == {""}
        return
    with pytest.raises(ResultError, match=rf"it lacks the columns {column}\."):
        load(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [(lambda f: f.iloc[:0], "it has no rows"), (_twice, "in it (twice|once)")],
)
@pytest.mark.parametrize("table", OF_SEVERAL)
def test_a_table_of_several_models_without_rows_or_with_one_twice(table, change, told, loaded):
    load, folder = loaded[table]
    _changed(folder / table, change)
    if table == "differences.csv" and "rows" in told:  # nothing could be paired
        assert load(folder).differences.empty
        return
    with pytest.raises(ResultError, match=told):
        load(folder)


@pytest.mark.parametrize("model", ["a", "b", "c"])
def test_models_of_a_pair_are_both_in_the_comparison(model, three):
    _changed(three / "comparison.csv", lambda f: f[f["model"] != model])
    told = rf"comparison\.csv: it lacks the rows of {model}, which differences\.csv is of"
    with pytest.raises(ResultError, match=told):
        wp.Comparison.load(three)


def test_a_pair_is_of_two_models(three):
    _changed(three / "differences.csv", lambda f: f[f["second"] == "b"].assign(second="a"))
    with pytest.raises(ResultError, match="is paired with itself"):
        wp.Comparison.load(three)


@pytest.mark.parametrize("column", ["first", "second", "count"])
def test_a_similarity_is_of_one_pair(column, alike):
    _changed(alike / "similarity.csv", lambda f: f.assign(**{column: ["7", *f[column][1:]]}))
    with pytest.raises(ResultError, match="it is of several pairs"):
        Similarity.load(alike)


SIZES = {
    "comparison.csv": {
        "relative_depth": ["", "0", "-1", "inf", "1e-300", "0.9"],
        "mean_per_token": ["", "0", "inf", "-1", "1e300", "1e-300"],
        "mean_per_entry": ["", "0", "-1", "1e300", "1e-300"],
        "layer": ["0", "-1", "99"],
        "count": ["-1"],
        "mean": ["", "inf", "0"],
    },
    "differences.csv": {
        "relative_depth": ["", "0", "-1", "inf", "1e-300", "0.9"],
        "layer": ["0", "-1", "99"],
        "count": ["-1"],
    },
}


@pytest.mark.parametrize("which", ["first", "all"])
@pytest.mark.parametrize(
    ("table", "column", "value"),
    [(t, c, v) for t, columns in SIZES.items() for c, values in columns.items() for v in values],
)
def test_sizes_of_a_comparison_are_those_of_networks(table, column, value, which, three):
    def change(frame):
        rows = frame["metric"] == "compression"
        frame.loc[frame.index[rows][:1] if which == "first" else rows, column] = value
        return frame

    _changed(three / table, change)
    told = "no network|several numbers of layers|a count of -1|is no rate by|is in it twice"
    with pytest.raises(ResultError, match=rf"{table}: .*({told})"):
        wp.Comparison.load(three)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # infinity less infinity
@pytest.mark.parametrize("mean", [0.0, -0.0, 1e-310, 5e-324, 1e-200, -3.0, 1e300, math.nan, None])
@pytest.mark.parametrize("sizes", [(10, 16), (1, 1), (0, 16), (10, 0), (0, 0)])
def test_what_compare_writes_is_read_and_reported(mean, sizes, made, tmp_path):
    """Dead layers, no value, and runs of the first format, which may not tell their sizes."""
    given = []
    for name in "ab":
        result = made(name, tokens=sizes[0], dim=sizes[1], prefix=0, layers=2)
        if mean is not None:
            first = result.frame["layer"] == 1
            frame, samples = result.frame, result.samples
            frame.loc[first, ["mean", "ci_low", "ci_high"]] = mean
            samples[list(result.keys()[first])] = mean
            result = replace(result, frame=frame, samples=samples)
        given.append(result)
    both = wp.compare(given)
    both.save(tmp_path / "c")
    assert wp.Comparison.load(tmp_path / "c") == both
    wp.report(wp.Comparison.load(tmp_path / "c"), tmp_path / "r.md")


@pytest.mark.parametrize("version", [2, 3])
def test_sealed_comparisons_of_older_versions_are_read(version, three):
    """They had no notes, and no p; one that lacks a part of what came later is none of these."""
    today = wp.Comparison.load(three)
    for table in compare.FILES.values():
        _changed(three / table, lambda f, t=table: f[list(kinds.COLUMNS[t][version])])
    found = wp.Comparison.load(three)
    filled = {"p": math.nan, "p_holm": math.nan} if version == 2 else {}
    pd.testing.assert_frame_equal(
        found.differences, today.differences.assign(**filled), check_like=True
    )
    assert found.to_latex()
    pd.testing.assert_frame_equal(found.frame, today.frame, check_like=True)
    _changed(
        three / "differences.csv",
        lambda f: f.drop(columns="p_holm", errors="ignore").assign(p="0.5"),
    )
    with pytest.raises(ResultError, match="it lacks the columns p_holm"):
        wp.Comparison.load(three)


def test_one_site_of_several_is_no_row_twice(tmp_path):
    """Heads of a CRATE are paired with keys and values of a ViT, each as `heads`."""
    one = wp.probe(
        wp.wrap(small_crate(), name="crate"), IMAGES, ["l0"], sites={"l0": "heads"}, progress=False
    )
    sites = {"l0": ["heads_k", "heads_v"]}
    two = wp.probe(wp.wrap(small_vit(), name="vit"), IMAGES, ["l0"], sites=sites, progress=False)
    both = wp.compare([one, two])
    assert wp.Comparison.load(both.save(tmp_path)) == both
