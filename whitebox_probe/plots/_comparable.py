"""What may share an axis: the same thing, in nats of the same size; and what of it is drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ProbeError, ResultError, expect_names_differ, nearest
from whitebox_probe.plots import _labels
from whitebox_probe.results.compare import MUST_AGREE
from whitebox_probe.results.forms import FORMS, in_nats
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.pairing import expect_same_parameters
from whitebox_probe.results.result import Result
from whitebox_probe.results.table import depends_on, no_value, not_measured, written

BANDS: dict[str, str] = {
    "ci": "band: 95% interval of the mean",
    "std": "band: ±1 std over samples",
    "sem": "band: ±1 standard error of the mean",
}


def chosen(
    asked: Sequence[int] | int | None,
    known: Sequence[int],
    what: str,
    having: str,
    *,
    usual: Sequence[int] | None = None,
) -> list[int]:
    """The layers, heads or samples that are drawn: those asked for, or the usual ones.

    Args: what: one of them, in a word. having: what has them, as in `the results have`.
    Raises: ResultError for one that there is not, and where none is asked for.
    """
    if asked is None:
        shown = list(known if usual is None else usual)
    else:
        shown = [asked] if isinstance(asked, int) else list(asked)
    wrong = [one for one in shown if one not in known]
    if wrong or not shown:
        raise ResultError(
            f"{what} {wrong[0]} cannot be drawn" if wrong else f"no {what} is to be drawn",
            f"{having} {known[0]} to {known[-1]}",
            f"Name {what}s in that range",
        )
    return shown


def matrices_of(result: Result, name: str, where: Mapping[str, Any]) -> np.ndarray | None:
    """A matrix of each layer, by its name or by its key; None where the result holds none.

    Args: where: settings that tell it from others of its name, as for `Result.matrix`.
    Raises: ResultError where they leave several, or none, or it does not depend on one.
    """
    places = [
        place for key, place in result.run.matrices.items() if name in (place.get("name"), key)
    ]
    for setting in where:
        if places and all(no_value(place.get(setting)) for place in places):
            raise ResultError(
                f"the matrix '{name}' of {result.model} does not depend on {setting}",
                "it was taken with none",
                f"Leave out {setting}=",
            )
    having = {place.get("name", key) for key, place in result.run.matrices.items()}
    return result.matrix(name, **where) if name in having else result.matrices.get(name)


def expect_dependence(results: Sequence[Result], metric: str, where: Mapping[str, Any]) -> None:
    """Refuse a setting that picks nothing: the measure has none, and no number was taken so.

    Raises: ResultError.
    """
    for setting, value in where.items():
        frames = [uncopied(result, "frame") for result in results]
        if setting == "null" or any(
            depends_on(frame[frame["metric"] == metric], setting)
            or _was_taken(frame, setting, value)
            for frame in frames
        ):
            continue
        raise ResultError(
            f"'{metric}' of {results[0].model} does not depend on {setting}",
            f"it was taken with none, and nothing else with {setting}={written(value)}",
            f"Leave out {setting}=",
        )


def _was_taken(frame: pd.DataFrame, setting: str, value: Any) -> bool:
    """Whether some number was taken with a value of a setting."""
    return setting in frame and not not_measured(frame, setting, [value])


def check_results(results: Sequence[Any]) -> None:
    """Something to draw, all of it results, each of another model.

    Raises: ResultError.
    """
    if not results:
        raise ResultError("there is nothing to draw", "no result was given", "Pass one or more")
    for thing in results:
        if not isinstance(thing, Result):
            raise ResultError(
                f"a {type(thing).__name__} cannot be drawn",
                "this figure is of results",
                "Pass what wp.probe gave or wp.Result.load read, one by one",
            )
    expect_names_differ([result.model for result in results])


def check_options(results: Sequence[Result], metric: str, band: Any, normalise: Any) -> None:
    """Known words, and a measure that there is and that can be brought to that form.

    Raises: ProbeError.
    """
    if band is not None and band not in BANDS:
        raise ProbeError(
            f"unknown band '{band}'",
            "it says what is shaded",
            f"Use one of: {', '.join(BANDS)}, None",
        )
    if normalise is not None and normalise not in FORMS:
        raise ProbeError(
            f"unknown form '{normalise}'",
            "normalise= says what nats are divided by",
            f"Use one of: {', '.join(FORMS)}, None",
        )
    for result in results:
        have = sorted(set(uncopied(result, "frame")["metric"]))
        if metric not in have:
            raise ResultError(
                f"'{metric}' is not in the result of {result.model}",
                "it was not measured",
                nearest(str(metric), have),
            )
    if normalise is not None and not in_nats(results[0], metric):
        raise ResultError(
            f"'{metric}' cannot be drawn {normalise.replace('_', ' ')}",
            "it is not in nats, and does not grow with the number of tokens",
            "Leave out normalise=",
        )


def check_curves(
    results: Sequence[Result], curves: Sequence[pd.DataFrame], metric: str, normalise: Any
) -> None:
    """One axis, one kind of numbers: taken alike, and nats of tokens of the same sizes.

    Raises: ResultError when what is drawn would not be comparable.
    """
    check_alike(results, curves, metric)
    sizes = {r.run.sizes for r in results}
    if in_nats(results[0], metric) and len(sizes) > 1 and normalise is None:
        told = "; ".join(f"n={n}, d={d}, K={K}, p={p}" for n, d, K, p in sorted(sizes))
        raise ResultError(
            f"raw nats of models of different sizes cannot share an axis ({told})",
            "they grow with tokens, width and heads",
            "Pass normalise='per_token'",
        )


def check_alike(results: Sequence[Result], curves: Sequence[pd.DataFrame], metric: str) -> None:
    """Numbers taken with the same settings, of one kind of tokens.

    The projections of a ViT are what `heads` is in a CRATE.

    Raises: ResultError.
    """
    for result in results[1:]:
        expect_same_parameters(metric, results[0].run, result.run)
    for what, meaning in MUST_AGREE.items():
        of = (
            _labels.of(r.run, c, what)
            for r, c in zip(results, curves, strict=True)
            if what != "class_token" or r.run.class_token_counts
        )
        kinds = sorted({"of no effect" if no_value(value) else str(value) for value in of})
        if len(kinds) > 1:
            raise ResultError(
                f"the results differ in {what}: {', '.join(kinds)}",
                "their numbers do not mean the same",
                f"Probe all models with one {meaning}",
            )
    sites = [str(curve["site"].iloc[0]) for curve in curves]
    if len({"heads" if site.startswith("heads") else site for site in sites}) > 1:
        told = ", ".join(f"{r.model} at {s}" for r, s in zip(results, sites, strict=True))
        raise ResultError(
            f"'{metric}' was measured at different sites ({told})",
            "one axis has one site",
            "Name one with site=, or probe all models at the same site",
        )
