"""What every figure says of a keyword that cannot be: one line, found unaided by annotations."""

import inspect
import sys
from itertools import islice
from pathlib import Path
from types import NoneType

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

import whitebox_probe as wp
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.plots._keywords import _parts, hints_of
from whitebox_probe.plots.kind import kind_of

sys.path.insert(0, str(Path(__file__).parents[1] / "plots"))
import synthetic

pytestmark = pytest.mark.filterwarnings("ignore")
mpl.use("agg")
FIGURES = {**wp.plots.figures, "text_html": wp.plots.text_html}
HUGE = 10**22


def bad():
    """What few keywords take; made anew for each, since some can be gone through once."""
    yield from (-1, 1.5, HUGE, float("nan"), 10**400, True, None, "x", "", b"x", object(), {"x": 1})
    yield from ([], [None], ["x"], [1.5], [[1]], (0, 0), (-1, 2), (1e9, 1), {1: 2}, {"x": None})
    yield from (np.int64(1), np.array(1), np.array([0, 1]), np.nan * np.ones(2), np.array("x"))
    yield from (torch.tensor(1), torch.ones(2, requires_grad=True), pd.Series([0, 1]), range(2))
    yield from ((i for i in [1]), "red", ("red",), [True, False], "a" * 5000, "\x1b[31m", {3})


def keywords(name):
    of = inspect.signature(FIGURES[name]).parameters.values()
    return [p.name for p in of if p.kind is p.KEYWORD_ONLY]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing is laid out: what is looked at here is told before."""
    from whitebox_probe.plots import _fit

    monkeypatch.setattr(_fit, "lay_out", lambda figure: None)
    monkeypatch.setattr(_fit, "settle", lambda figure: None)


def given(name):
    """What a figure is drawn of, and the keywords that it needs."""
    kind = kind_of(FIGURES[name])
    inputs = synthetic.inputs(kind.takes if kind else "view", names=("crate",))
    needs = inspect.signature(FIGURES[name]).parameters
    lacking = {k for k in keywords(name) if needs[k].default is inspect.Parameter.empty}
    if name == "over_steps":
        inputs = [*inputs, synthetic.result("other-2")]
    return inputs, dict.fromkeys(lacking, "hoyer")


def told(name, key, value, inputs, needed):
    """What a figure says of a value that it does not take, for which there is no other error."""
    try:
        FIGURES[name](*inputs, **{**needed, key: value})
    except ProbeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", FIGURES)
def test_a_value_that_cannot_be_is_told_in_one_line(name):
    inputs, needed = given(name)
    for place, key in enumerate(keywords(name), start=list(FIGURES).index(name)):
        # Each value a third of the keywords: all of them draw for two minutes.
        for value in islice(bad(), place % 3, None, 3):
            line = told(name, key, value, inputs, needed)
            assert len(line) < 500
            assert "\n" not in line


@pytest.mark.parametrize("name", FIGURES)
def test_a_flag_is_true_or_false_and_nothing_else(name):
    inputs, needed = given(name)
    hints = hints_of(inspect.signature(FIGURES[name]), {})
    for key in keywords(name):
        if set(_parts(hints[key])) <= {bool, NoneType}:
            for value in ("no", "False", 0, 1, [], np.array([True]), pd.Series([False])):
                with pytest.raises(ProbeError, match=rf"{key} is .*Use True or False"):
                    FIGURES[name](*inputs, **{**needed, key: value})


def test_what_is_no_view_is_not_written_as_a_text():
    for thing in (5, "x", None):
        with pytest.raises(ProbeError, match="texts are of one View"):
            wp.plots.text_html(thing)


@pytest.mark.parametrize(
    "thing", [5, None, b"x", object(), [None]], ids=lambda each: type(each).__name__
)
def test_what_cannot_be_saved_is_told(thing, tmp_path):
    figure = wp.plots.similarity(synthetic.similarity())
    for given in ((thing, tmp_path / "x"), (figure, thing), (figure, tmp_path / "x", thing)):
        with pytest.raises(ProbeError):
            wp.plots.save(*given)
    with pytest.raises(ProbeError):
        wp.plots.run_of(thing)


@pytest.mark.parametrize("name", FIGURES)
def test_every_keyword_has_an_annotation(name):
    hints = [p.annotation for p in inspect.signature(FIGURES[name]).parameters.values()]
    assert inspect.Parameter.empty not in hints
