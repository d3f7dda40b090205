"""The forms that rates of models of different sizes can share."""

from collections.abc import Callable

import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.results.result import Result

NULL_SEPARATOR = " | "
"""Stands in a result's name between its model and the null that was taken of it."""
FORMS = {
    "per_token": "divided by n",
    "per_entry": "divided by n d",
    "position": "0 at the smallest value that the official convention can take, 1 at the largest",
    "null_share": "divided by the Gaussian null's mean at the same layer",
}


def in_nats(result: Result, metric: str) -> bool:
    """Whether a measure is a rate, which grows with tokens, width and heads."""
    return bool(result.run.get("measures", {}).get(metric, {}).get("unit") == "nats")


def normal_form(
    result: Result, metric: str, form: str | None, null: pd.DataFrame | None = None
) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """How a rate's curve is brought to a form that models of different sizes can share.

    Args: form: one of `FORMS`, or None to leave curves alone. null: the null's curve.
    Returns: a function from a curve (`Result.curve`) to the same curve in that form.
    Raises: ResultError when the result does not hold what the form needs.
    """
    low, scale = 0.0, pd.Series(dtype=float)
    size = 1.0
    match form:
        case None:
            pass
        case "per_token":
            size = result.run["tokens"]
        case "per_entry":
            size = result.run["tokens"] * result.run["dim"]
        case "position":
            pair = result.run.get("bounds", {}).get(metric)
            if pair is None:
                raise ResultError(
                    f"the result of {result.model} has no bounds of '{metric}'",
                    "only compression in the official convention has them",
                    "Probe with convention='official', or use per_token",
                )
            low, size = pair[0], pair[1] - pair[0]
        case "null_share":
            if null is None:
                raise ResultError(
                    f"the Gaussian null of {result.model} is missing",
                    "the form divides by it",
                    "Pass nulls= with the result of wp.nulls(...)['gaussian'] first",
                )
            scale = null.set_index("layer")["mean"]
        case _:
            raise ResultError(
                f"unknown form '{form}'",
                "it says what nats are divided by",
                f"Use one of: {', '.join(FORMS)}, None",
            )

    def apply(curve: pd.DataFrame) -> pd.DataFrame:
        curve = curve.copy()
        by = curve["layer"].map(scale).to_numpy() if len(scale) else size
        for column in ("mean", "ci_low", "ci_high"):
            if column in curve:
                curve[column] = (curve[column] - low) / by
        for column in ("std", "sem"):
            if column in curve:
                curve[column] = curve[column] / by
        return curve

    return apply
