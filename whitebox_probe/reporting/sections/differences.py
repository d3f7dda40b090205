"""Models pair by pair, on the same samples: second minus first, over depth."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd

from whitebox_probe._core.digits import number
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.reporting import charts
from whitebox_probe.reporting.section import (
    Block,
    Cell,
    Chart,
    Control,
    Fold,
    Part,
    Prose,
    Section,
    Sheet,
    Table,
)
from whitebox_probe.results.compare import Comparison
from whitebox_probe.results.summary import curves, measure
from whitebox_probe.results.table import varying

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

_FORMS = {"per_token": "nats / token", "per_entry": "nats / entry", "position": "share"}


def _make(material: "Material") -> Part | None:
    made = material.comparison
    if made is None:
        return None
    if isinstance(made, ProbeError):
        told = f"They could not be taken: {str(made).rstrip('.')}."
        return Part("Paired differences", [Prose(told, "gap")])
    blocks: list[Block] = []
    for comparison in material.comparisons or [made]:
        blocks += _of(material, comparison)
    return Part("Paired differences", blocks)


def paired(material: "Material") -> tuple[str, list[str], list[list[str]], list[str]]:
    """Caption, head, rows and notes of the differences, for print; no rows where there are none."""
    made = material.comparison
    if not isinstance(made, Comparison):
        return "", [], [], [f"No paired differences: {made}"] if made is not None else []
    caption, head, rows = _table(material, made)
    told = [[c.text if isinstance(c, Cell) else c for c in row] for row in rows]
    return caption, head, told, list(made.notes)


def _of(material: "Material", comparison: Comparison) -> Iterator[Block]:
    caption, head, rows = _table(material, comparison)
    if rows:
        yield _chart(material, comparison)
        table = Table(caption, head, rows, numbers=(2, 3), grouped=True)
        yield table if len(rows) < 40 else Fold("The differences as a table", [table])
    else:
        yield Prose("The models share no measure at one place.", "gap")
    if comparison.notes:
        lines = [Prose(f"{note[:1].upper()}{note[1:].rstrip('.')}.") for note in comparison.notes]
        yield Fold("What else differs between them", lines, open=len(lines) < 4)


def _groups(
    comparison: Comparison,
) -> Iterator[tuple[tuple[str, str], str, str, pd.DataFrame]]:
    """(pair, measure, unit, rows) of each curve of differences."""
    differences = comparison.differences.rename(
        columns={"difference": "mean", "second_basis": "basis"}
    )
    own = differences["null"] == ""
    differences = differences[own] if own.any() else differences
    for (first, second), of in differences.groupby(["first", "second"], sort=False):
        for curve in curves(of):
            row = curve.iloc[0]
            mine = of[of["metric"] == row["metric"]]
            several = ["site"] * (mine["site"].nunique() > 1) + varying(mine)
            told = measure(str(row["metric"]), {name: row[name] for name in several})
            unit = _FORMS.get(str(row["form"]), comparison.units.get(str(row["metric"]), ""))
            yield (str(first), str(second)), told, unit, curve


def _pair(material: "Material", pair: tuple[str, str]) -> str:
    first, second = pair
    return f"{material.names[second]} − {material.names[first]}"


def _table(
    material: "Material", comparison: Comparison
) -> tuple[str, list[str], list[list[Cell | str]]]:
    rows: list[list[Cell | str]] = []
    for pair, told, unit, curve in _groups(comparison):
        ends = curve.iloc[0], curve.iloc[-1]
        cells = [number(e["mean"], sign="+", low=e["ci_low"], high=e["ci_high"]) for e in ends]
        row = [_pair(material, pair), f"{told} [{unit}]" if unit else told, *cells]
        rows.append([*row, _direction(ends[1])])
    caption = "Differences sample by sample, with 95% intervals, at the first and the last depth"
    return caption, ["pair", "measure", "first depth", "last depth", "at the last"], rows


def _direction(row: Any) -> str:
    if row["ci_low"] > 0:
        return "▲ higher"
    return "▼ lower" if row["ci_high"] < 0 else "≈ not told apart"


def _chart(material: "Material", comparison: Comparison) -> Chart:
    sheets: dict[str, Sheet] = {}
    pairs: dict[str, None] = {}
    measures: dict[str, None] = {}
    for pair, told, unit, curve in _groups(comparison):
        name = _pair(material, pair)
        pairs[name], measures[told] = None, None
        rows = [
            {"depth": row["relative_depth"], "layer": int(row["layer"]), "count": int(row["count"])}
            | {k: _number(row[k]) for k in ("mean", "ci_low", "ci_high")}
            | {"told": number(row["mean"], sign="+", low=row["ci_low"], high=row["ci_high"])}
            for row in curve.to_dict("records")
        ]
        title = f"{told}, difference" + (f" [{unit}]" if unit else "")
        sheets[f"{name}|{told}"] = Sheet(rows, {"ytitle": title})
    controls = [
        Control("select", "pair", "Pair", [(p, p) for p in pairs], next(iter(pairs))),
        Control("select", "measure", "Measure", [(m, m) for m in measures], next(iter(measures))),
    ]
    return Chart(
        name="differences",
        label="Paired difference of a measure over depth, with its 95% interval",
        spec=_spec(),
        sheets=sheets,
        by=["pair", "measure"],
        controls=controls,
        table=[("layer", "layer"), ("told", "difference [95% interval]"), ("count", "samples")],
    )


def _number(value: float) -> float | None:
    return None if value != value else float(value)


def _spec() -> dict[str, Any]:
    import altair as alt

    colour = charts.either(charts.LIGHT[0], charts.DARK[0])
    depth = alt.X(
        "depth:Q",
        title="relative depth",
        scale=alt.Scale(nice=False, zero=False, padding=10),
        axis=alt.Axis(grid=False),
    )
    across: dict[str, Any] = {"axis": alt.Axis(title=charts.title("ytitle"))}
    low, mean, zero = (alt.Y(f"{name}:Q", **across) for name in ("ci_low", "mean", "zero"))
    tip = charts.tips(layer="layer", told="difference", count="samples")
    base = alt.Chart(alt.NamedData("rows")).encode(x=depth)
    nothing = (
        alt.Chart(alt.NamedData("rows"))
        .transform_aggregate(n="count()")
        .transform_calculate(zero="0")
        .mark_rule(strokeDash=[3, 3], color=charts.either(*charts.DIM))
    )
    made = alt.layer(
        nothing.encode(y=zero),
        base.mark_area(opacity=0.25, color=colour).encode(y=low, y2="ci_high:Q"),
        base.mark_line(strokeWidth=2.1, color=colour).encode(y=mean),
        base.mark_point(filled=True, size=56, opacity=1, color=colour).encode(y=mean),
        base.mark_circle(**charts.TARGET).encode(y=mean, tooltip=tip),
    ).properties(width="container", height=280)
    return charts.spec(made, ytitle="")


SECTION = Section(order=50, make=_make)
