"""The forms that rates of models of different sizes can share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.result import Result
from whitebox_probe.results.run import Run
from whitebox_probe.results.table import setting

NULL_SEPARATOR = " | "
"""Stands in a result's name between its model and the null that was taken of it."""
GAUSSIAN = "gaussian"
FORMS = {
    "per_token": "divided by n",
    "per_entry": "divided by n d",
    "position": "0 at the smallest value that the official convention can take, 1 at the largest",
    "null_share": "divided by the Gaussian null's mean at the same layer",
}

OF_ONE_SIZE = ("per_token", "per_entry", "position")
"""The forms for which all layers have to hold the same number of tokens."""


def in_nats(result: Result, metric: str) -> bool:
    """Whether a measure is a rate, which grows with tokens, width and heads."""
    return bool(result.run.measures.get(metric, {}).get("unit") == "nats")


def gaussian_null(
    result: Result,
    metric: str,
    site: str | None = None,
    *,
    nulls: Mapping[str, Result] | Sequence[Result] = (),
    **where: Any,
) -> pd.DataFrame | None:
    """The curve of the Gaussian null of a result, whatever the order of the nulls; None for none.

    Args: nulls: of `wp.nulls`; rows of the result itself with null `gaussian` do as well.
    """
    others = list(nulls.values()) if isinstance(nulls, Mapping) else list(nulls)
    for other in (result, *others):
        of = other.run.null_of or other.model.partition(NULL_SEPARATOR)[0]
        mine = other is result or of == result.model
        if mine and (setting(uncopied(other, "frame"), "null") == GAUSSIAN).any():
            return other.curve(metric, site, null=GAUSSIAN, **where)
    return None


def normal_form(
    result: Result, metric: str, form: str | None, null: pd.DataFrame | None = None
) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """How a rate's curve is brought to a form that models of different sizes can share.

    Args:
        form: one of `FORMS`, or None to leave curves alone.
        null: the curve of the Gaussian null (`gaussian_null`), for `null_share`.

    Returns: a function from a curve (`Result.curve`) to the same curve in that form.
    Raises: ResultError when the result does not hold what the form needs.
    """
    if form not in (*FORMS, None):
        raise ResultError(
            f"unknown form '{form}'",
            "it says what nats are divided by",
            f"Use one of: {', '.join(FORMS)}, None",
        )
    expect_one_size(result.run, form)
    if form == "position" and metric not in result.run.bounds:
        raise _no_bounds(result.run, metric)
    if form == "null_share":
        null = _expect_gaussian(result, null)

    def apply(curve: pd.DataFrame) -> pd.DataFrame:
        curve = curve.copy()
        low, size = scale(result.run, metric, form, curve, null)
        for column in ("mean", "ci_low", "ci_high"):
            if column in curve:
                curve[column] = (curve[column] - low) / size
        for column in ("std", "sem"):
            if column in curve:
                curve[column] = curve[column] / size
        return curve

    return apply


def scale(
    run: Run, metric: str, form: str | None, curve: pd.DataFrame, null: pd.DataFrame | None = None
) -> tuple[Any, Any]:
    """What is taken off each row of a curve, and what it is then divided by, in a form.

    Raises: ResultError when the run does not hold what the form needs.
    """
    expect_one_size(run, form)
    if form == "position":
        bounds = [run.bound(metric, row) for row in curve.to_dict("records")]
        if any(pair is None for pair in bounds):
            raise _no_bounds(run, metric)
        low, high = np.array(bounds, dtype=np.float64).T
        return low, high - low
    if form == "null_share":
        assert null is not None
        size = curve["layer"].map(null.set_index("layer")["mean"])
        if size.isna().any():
            raise ResultError(
                f"the Gaussian null lacks layers of '{metric}'",
                "each layer is divided by the null's mean at that layer",
                "Measure the null at the same layers",
            )
        return 0.0, size.to_numpy()
    if form is None:
        return 0.0, 1.0
    kept = curve["class_token"] if "class_token" in curve else [None] * len(curve)
    tokens = np.array([run.tokens_of(each) for each in kept], dtype=np.float64)
    return 0.0, tokens * (run.dim if form == "per_entry" else 1)


def expect_one_size(run: Run, form: str | None) -> None:
    """Raises: ResultError for a form of one n, where layers hold different numbers of tokens."""
    if form in OF_ONE_SIZE and run.tokens_change:
        raise ResultError(
            f"rates of {run.model} have no form '{form}'",
            "its layers hold different numbers of tokens, and it is of one",
            "Leave out normalise=, or use 'null_share', which is of each layer's own",
        )


def _expect_gaussian(result: Result, null: pd.DataFrame | None) -> pd.DataFrame:
    kinds = {GAUSSIAN} if null is None or "null" not in null else set(null["null"])
    if null is None or kinds != {GAUSSIAN}:
        got = "is missing" if null is None else f"is not {', '.join(sorted(kinds)) or 'the model'}"
        raise ResultError(
            f"the Gaussian null of {result.model} {got}",
            "null_share divides by it",
            f"Pass nulls=wp.nulls(model, data, kinds=('{GAUSSIAN}',)) with the result's options",
        )
    return null


def _no_bounds(run: Run, metric: str) -> ResultError:
    return ResultError(
        f"the result of {run.model} has no bounds of '{metric}'",
        "only compression in the official convention has them",
        "Probe with convention='official', or use per_token",
    )
