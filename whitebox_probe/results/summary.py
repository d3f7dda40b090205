"""First layer, last layer and change of each measure: what a table in print has room for."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd

from whitebox_probe._core.digits import Number
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.printed import Cell
from whitebox_probe.results.table import SETTINGS, keys_of, varying, written
from whitebox_probe.stats import count_contents, few_note, summarise


class Measured(Protocol):
    """What is looked at of a result."""

    @property
    def frame(self) -> pd.DataFrame:
        """Its table."""

    @property
    def samples(self) -> pd.DataFrame:
        """Its values a sample."""

    @property
    def run(self) -> Any:
        """Where it comes from."""

    @property
    def model(self) -> str:
        """Its name in tables."""

    def contents(self) -> np.ndarray | None:
        """What tells its samples apart."""


HEADER = ("measure", "model", "first layer", "last layer", "change")


def samples_note(results: Sequence[Measured]) -> str:
    """How far intervals of results can be trusted: of the one with the fewest samples that differ.

    Nothing where samples are many, and no copies.
    """
    found = []
    for result in results:
        samples = len(uncopied(result, "samples"))
        count = samples or int(result.run.count)  # of numbers from weights alone: none is kept
        found.append((count_contents(samples, result.contents()) or count, count))
    contents, count = min(found)
    return few_note(count, contents)


def changes(result: Measured, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """First layer, last layer and the change between them, a row a measure, site and setting.

    The interval of a change is that of the differences sample by sample, which is narrower than
    the two layers' own intervals suggest: an image that is high in one is high in the other. A
    number read from weights has no interval.

    Args: metrics: only these, in this order; all of the table when not given.
    """
    frame, samples = uncopied(result, "frame"), uncopied(result, "samples")
    columns = [name for name in SETTINGS if name in frame]
    rows: list[dict[str, Any]] = []
    paired: list[tuple[int, np.ndarray]] = []  # of which row: one draw of resamples serves all
    for metric in metrics or dict.fromkeys(frame["metric"]):
        mine = frame[frame["metric"] == metric]
        keys = keys_of(mine)
        for ordered in curves(mine):
            first, last = ordered.iloc[0], ordered.iloc[-1]
            place = first[["site", *columns]]
            ends = [str(keys[end]) for end in (ordered.index[0], ordered.index[-1])]
            if all(end in samples for end in ends):
                before, after = (samples[key].to_numpy() for key in ends)
                paired.append((len(rows), after - before))
            row = {"metric": metric, "model": result.model}
            row |= dict(zip(("site", *columns), place, strict=True))
            for end, values in (("first", first), ("last", last)):
                row[end] = values["mean"]
                row |= {f"{end}_{side}": values[side] for side in ("ci_low", "ci_high")}
            row |= {"change": last["mean"] - first["mean"]}
            rows.append(row | {"change_ci_low": math.nan, "change_ci_high": math.nan})
    if paired:
        found = summarise(
            np.stack([d for _, d in paired], axis=1),
            seed=int(result.run["seed"]),
            contents=result.contents(),
        )
        for (at, _), low, high in zip(paired, found.ci_low, found.ci_high, strict=True):
            rows[at] |= {"change_ci_low": float(low), "change_ci_high": float(high)}
    return pd.DataFrame(rows)


def curves(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The rows of each measure, site and setting, in the order of the layers."""
    columns = ["site", *(name for name in SETTINGS if name in frame)]
    for metric in dict.fromkeys(frame["metric"]):
        mine = frame[frame["metric"] == metric]
        for _, curve in mine.groupby(columns, sort=False, dropna=False):
            yield curve.sort_values("layer")


def rows_of(
    results: Sequence[Measured], metrics: Sequence[str] | None = None
) -> list[tuple[Cell, ...]]:
    """One row of cells a measure, setting and model, under `HEADER`."""
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        by_metric = uncopied(result, "frame").groupby("metric", sort=False)
        several = {m: varying(g) for m, g in by_metric}
        for row in changes(result, metrics).to_dict("records"):
            told = {name: row[name] for name in several[row["metric"]]}
            rows.append((measure(row["metric"], told), result.model, *cells(row)))
    order = list(dict.fromkeys(row[0] for row in rows))
    return sorted(rows, key=lambda row: order.index(row[0]))


def rows_of_comparison(
    frame: pd.DataFrame, differences: pd.DataFrame, metrics: Sequence[str] | None = None
) -> list[tuple[Cell, ...]]:
    """The same of several models, each measure followed by its paired differences."""
    values = ["mean", "ci_low", "ci_high"]
    paired = differences.rename(columns={"difference": "mean"})
    names = paired["second"] + " - " + paired["first"]
    paired = paired.assign(model=names, basis=paired["first_basis"])
    rows: list[tuple[Cell, ...]] = []
    columns = ["model", "site", *SETTINGS]
    for metric in metrics or dict.fromkeys(frame["metric"]):
        for part in (frame, paired):
            mine = part[part["metric"] == metric]
            several = ["site"] * (mine["site"].nunique() > 1) + varying(mine)
            for place, curve in mine.groupby(columns, sort=False, dropna=False):
                ordered = curve.sort_values("layer")
                row: dict[Hashable, Any] = {}
                for end, at in (("first", ordered.iloc[0]), ("last", ordered.iloc[-1])):
                    row |= {end: at[values[0]]} | {f"{end}_{side}": at[side] for side in values[1:]}
                row |= {"change": row["last"] - row["first"]}
                row |= {"change_ci_low": math.nan, "change_ci_high": math.nan}
                told = dict(zip(columns, place, strict=True))
                shown = {name: told[name] for name in several}
                rows.append((measure(metric, shown), str(place[0]), *cells(row)))
    return rows


def measure(metric: str, settings: Mapping[str, Any]) -> str:
    """A measure and the settings that tell it from others, in words."""
    told = ", ".join(f"{k}={written(v)}" for k, v in settings.items() if written(v))
    return f"{metric} ({told})" if told else metric


def cells(row: Mapping[Hashable, Any]) -> tuple[Number, Number, Number]:
    """First layer, last layer and change of a row of `changes`."""
    return _cell(row, "first"), _cell(row, "last"), _cell(row, "change", sign="+")


def _cell(row: Mapping[Hashable, Any], part: str, sign: str = "") -> Number:
    value, low, high = (float(row[f"{part}{end}"]) for end in ("", "_ci_low", "_ci_high"))
    return Number(value, low, high, sign)


def with_units(rows: Sequence[Sequence[Cell]], units: Mapping[str, str]) -> list[Sequence[Cell]]:
    """Rows whose measures are followed by their units, as a table in print has them."""
    found: list[Sequence[Cell]] = []
    for first, *rest in rows:
        unit = units.get(str(first).partition(" (")[0], "")
        found.append([f"{first} [{unit}]" if unit else first, *rest])
    return found
