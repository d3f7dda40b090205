"""A result whose files were made otherwise, without digests that would tell, is refused by name."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

import whitebox_probe as wp
from tests.conftest import small_crate
from whitebox_probe._core.errors import ResultError

IMAGES = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def made():
    model = wp.wrap(small_crate(), name="crate")
    return wp.probe(model, IMAGES, ["l0", "coherence", "coding_rate"], progress=False)


@pytest.fixture
def folder(made, tmp_path):
    """The result as files, and nothing in them that seals the others."""
    made.save(tmp_path / "r")
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
    "no column": (lambda f: f.drop(columns="metric"), "lacks the columns metric"),
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
