"""Curves of several results, brought beside each other: which mean the same, and in which forms."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from whitebox_probe._core.digits import number
from whitebox_probe._core.errors import ResultError
from whitebox_probe.results.forms import GAUSSIAN, NULL_SEPARATOR, in_nats, scale
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.pages import place
from whitebox_probe.results.result import Result
from whitebox_probe.results.table import SETTINGS, no_value, setting, written

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

RAW = "raw"
# Settings that tell one measure from another; which U was used is told beside the model.
_APART = tuple(name for name in SETTINGS if name not in ("basis", "null"))
_HEADS = "heads"

Key = tuple[Any, ...]
Rows = tuple[Result, pd.DataFrame]
Sizes = tuple[list[float], list[float]]


@dataclass(frozen=True)
class Curve:
    """A curve that is shown.

    Attributes: source: the result that it is of. rows: a row a layer. of: the model's own result,
        where the source is a null of it.
    """

    source: Result
    rows: pd.DataFrame
    of: Result

    @property
    def null(self) -> str:
        """Which null it is, in words; empty for the model itself."""
        kind = _null(self.rows) or self.source.model.partition(NULL_SEPARATOR)[2]
        return f"{kind.replace('_', ' ')} null" if kind else ""


def groups(results: Sequence[Result]) -> dict[Key, list[Rows]]:
    """(metric, place, settings) -> the curves that were taken so, kin beside kin.

    The projections of a ViT are what `heads` is in a CRATE.
    """
    found: dict[Key, list[Rows]] = {}
    order: dict[Key, Any] = {}
    for result in results:
        frame = uncopied(result, "frame")
        columns = ["metric", "site", *(c for c in SETTINGS if c in frame)]
        for _, rows in frame.groupby(columns, sort=False, dropna=False):
            row = rows.iloc[0]
            site = _HEADS if str(row["site"]).startswith(_HEADS) else str(row["site"])
            key = (row["metric"], site, *(written(row.get(c)) for c in _APART))
            found.setdefault(key, []).append((result, rows.sort_values("layer")))
            order.setdefault(key, (place(result.run, str(row["metric"])), len(order)))
    # A null that was measured where its model was not has nothing to stand beside.
    own = {k: v for k, v in found.items() if any(not _null(rows) for _, rows in v)}
    kept = own or found
    return {key: kept[key] for key in sorted(kept, key=lambda key: order[key])}


def _null(rows: pd.DataFrame) -> str:
    """Which null a curve's rows are of; empty for the model's own."""
    return str(setting(rows, "null").iloc[0])


def titles(found: Mapping[Key, Any]) -> dict[Key, str]:
    """What each measure is called, with the settings that tell it from others of its name."""
    named: dict[str, list[Key]] = {}
    for key in found:
        named.setdefault(key[0], []).append(key)
    told = {}
    places = {"site": 1} | {name: i for i, name in enumerate(_APART, start=2)}
    for metric, keys in named.items():
        vary = {n: i for n, i in places.items() if len({key[i] for key in keys}) > 1}
        for key in keys:
            more = ", ".join(f"{n}={key[i]}" for n, i in vary.items() if key[i])
            told[key] = f"{metric} ({more})" if more else str(metric)
    return told


def with_nulls(material: "Material", own: Sequence[Rows]) -> tuple[list[Curve], list[str]]:
    """The curves of models and of their nulls, and which nulls were not measured so."""
    found = [Curve(result, rows, result) for result, rows in own]
    missing = []
    for result, rows in own:
        if _null(rows):
            continue
        for null in material.nulls.get(result.model, {}).values():
            curve = _as_measured(null, rows)
            if curve is None:
                missing.append(null.model)
            else:
                found.append(Curve(null, curve, result))
    return found, missing


def _as_measured(null: Result, curve: pd.DataFrame) -> pd.DataFrame | None:
    try:
        return null.curve(*_place(curve), **_where(curve))
    except ResultError:
        return None


def _place(curve: pd.DataFrame) -> tuple[str, str]:
    return str(curve["metric"].iloc[0]), str(curve["site"].iloc[0])


def _where(curve: pd.DataFrame) -> dict[str, Any]:
    row = curve.iloc[0]
    return {n: row[n] for n in SETTINGS if n != "null" and n in curve and not no_value(row[n])}


def forms_of(material: "Material", curves: Sequence[Curve]) -> list[str]:
    """The forms that all of these curves can be shown in.

    Rates of models of different sizes are not shown raw, but for those of layers that hold
    different numbers of tokens: they have no other form than the null's share.
    """
    metric = str(curves[0].rows["metric"].iloc[0])
    if not in_nats(curves[0].of, metric):
        return [RAW]
    uneven = any(curve.source.run.tokens_change for curve in curves)
    forms = [RAW] if uneven or not material.sizes_differ else []
    forms += [] if uneven else ["per_token", "per_entry"]
    every = [(c.source.run, row) for c in curves for row in c.rows.to_dict("records")]
    if all(run.bound(metric, row) is not None for run, row in every):
        forms.append("position")
    if all(_gaussian(curves, curve) is not None for curve in curves):
        forms.append("null_share")
    return forms


def _gaussian(curves: Sequence[Curve], curve: Curve) -> pd.DataFrame | None:
    """The Gaussian null of a curve's model, taken as it was, at all of its layers."""
    mine = curve.rows.iloc[0]
    for other in curves:
        row = other.rows.iloc[0]
        same = other.of is curve.of and all(row.get(n) == mine.get(n) for n in ("site", "basis"))
        deep = {*curve.rows["layer"]} <= {*other.rows["layer"]}
        if same and deep and _null(other.rows) == GAUSSIAN:
            return other.rows
    return None


def rows_of(
    material: "Material", curves: Sequence[Curve], forms: Sequence[str]
) -> list[dict[str, Any]]:
    """A row a curve and layer: its numbers, what each form takes off and divides by, and words."""
    own = [curve.of.model for curve in curves if not curve.null]
    several = {model for model in own if own.count(model) > 1}
    return [
        row
        for curve in curves
        for row in _rows(
            material.names[curve.of.model],
            curve,
            {form: _sizes(curves, curve, form) for form in forms},
            several=curve.of.model in several,
        )
    ]


def _rows(
    model: str, curve: Curve, sizes: Mapping[str, Sizes], *, several: bool
) -> Iterator[dict[str, Any]]:
    null = curve.null
    basis = str(setting(curve.rows, "basis").iloc[0])
    series = f"{model} ({basis})" if several and basis else model
    series = f"{series}: {null}" if null else series
    for i, row in enumerate(curve.rows.to_dict("records")):
        made = {"model": model, "series": series, "null": null, "layer": int(row["layer"])}
        made |= {"layers": curve.of.run.layers, "count": int(row["count"])}
        made |= {n: row[n] for n in ("mean", "ci_low", "ci_high", "std")}
        for form, (low, size) in sizes.items():
            value, *ends = ((row[n] - low[i]) / size[i] for n in ("mean", "ci_low", "ci_high"))
            made[f"told_{form}"] = number(value, low=ends[0], high=ends[1])
            made |= {} if form == RAW else {f"low_{form}": low[i], f"size_{form}": size[i]}
        yield {k: None if v != v else v for k, v in made.items()}


def _sizes(curves: Sequence[Curve], curve: Curve, form: str) -> Sizes:
    """What is taken off each row, and what it is then divided by."""
    null = _gaussian(curves, curve) if form == "null_share" else None
    metric, count = str(curve.rows["metric"].iloc[0]), len(curve.rows)
    found = scale(curve.source.run, metric, None if form == RAW else form, curve.rows, null)
    low, size = ([float(v)] * count if isinstance(v, int | float) else [*v] for v in found)
    return low, size


def are_positive(rows: Sequence[Mapping[str, Any]], forms: Sequence[str]) -> bool:
    """Whether values and bands lie above 0 in each form, as a log scale needs."""
    edges = [row[n] for row in rows for n in ("mean", "ci_low", "ci_high")]
    edges += [row["mean"] - row["std"] for row in rows if row["std"] is not None]
    return "position" not in forms and all(value > 0 for value in edges if value is not None)
