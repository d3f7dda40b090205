"""First layer, last layer and change of each measure, model by model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from whitebox_probe._core.digits import Number
from whitebox_probe.reporting import words
from whitebox_probe.reporting.section import Part, Section, Table
from whitebox_probe.results import summary
from whitebox_probe.results.forms import in_nats, scale
from whitebox_probe.results.result import Result, units_of

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material


def _make(material: "Material") -> Part | None:
    return Part("Changes", [_table(material)]) if material.results else None


def changes(material: "Material") -> tuple[str, list[str], list[list[str]]]:
    """Caption, head and rows: first layer, last layer and change of each measure and model."""
    results = [per_token(r) if material.sizes_differ else r for r in _with_nulls(material)]
    units = {name: unit for r in results for name, unit in units_of(r).items()}
    if material.sizes_differ:
        units = {name: "nats / token" if unit == "nats" else unit for name, unit in units.items()}
    rows = summary.with_units(summary.rows_of(results), units)
    told = [[str(cell) if isinstance(cell, Number) else cell for cell in row] for row in rows]
    for row in told:
        row[1] = material.names.get(row[1], words.name(row[1]))
    caption = "First layer, last layer, and the change between them, with 95% intervals"
    if material.sizes_differ:
        caption += "; rates per token, as the models differ in size"
    return caption, list(summary.HEADER), told


def _with_nulls(material: "Material") -> Sequence[Result]:
    return [
        each for r in material.results for each in (r, *material.nulls.get(r.model, {}).values())
    ]


def _table(material: "Material") -> Table:
    caption, head, rows = changes(material)
    return Table(caption, head, rows, numbers=(2, 3, 4), grouped=True)


def per_token(result: Result) -> Result:
    """A result whose rates are divided by n, samples included."""
    frame, samples = result.frame.copy(), result.samples.copy()
    keys = result.keys()
    for metric, rows in result.frame.groupby("metric", sort=False):
        if not in_nats(result, str(metric)):
            continue
        size = scale(result.run, str(metric), "per_token", rows)[1]
        for column in ("mean", "std", "sem", "ci_low", "ci_high"):
            frame.loc[rows.index, column] = rows[column] / size
        for key, tokens in zip(keys.loc[rows.index], size, strict=True):
            if key in samples:
                samples[key] = samples[key] / tokens
    return replace(result, frame=frame, samples=samples)


SECTION = Section(order=40, make=_make)
