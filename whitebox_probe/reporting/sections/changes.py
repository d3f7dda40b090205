"""First layer, last layer and change of each measure, model by model."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from whitebox_probe.reporting import words
from whitebox_probe.reporting.section import Part, Section, Table
from whitebox_probe.results import summary
from whitebox_probe.results.forms import NULL_SEPARATOR, in_nats, scale
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.pages import place
from whitebox_probe.results.result import Result, units_of
from whitebox_probe.results.table import setting, varying

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

WEIGHTS = "weights"


def _make(material: "Material") -> Part | None:
    return Part("Changes", [_table(material)]) if material.shown else None


def changes(material: "Material") -> tuple[str, list[str], list[list[str]]]:
    """Caption, head and rows: first layer, last layer and change of each measure and model."""
    results = [per_token(r) if material.sizes_differ else r for r in _with_nulls(material)]
    found: dict[str, list[list[str]]] = {}
    order: dict[str, tuple[Any, int]] = {}
    for result in results:
        units = units_of(result)
        frame = uncopied(result, "frame")
        several = {m: varying(g) for m, g in frame.groupby("metric", sort=False)}
        nulls_alone = bool((setting(frame, "null") != "").all())
        for row in summary.changes(result).to_dict("records"):
            null = str(row.get("null", ""))
            if null and row["site"] == WEIGHTS and not nulls_alone:
                continue  # no null of tokens changes what is read from weights
            metric = str(row["metric"])
            settings = {n: row[n] for n in several[metric] if n != "null"}
            unit = units.get(metric, "")
            unit = "nats / token" if unit == "nats" and material.sizes_differ else unit
            name = summary.measure(metric, settings) + (f" [{unit}]" if unit else "")
            line = [name, _model(material, result, null), *map(str, summary.cells(row))]
            found.setdefault(name, []).append(line)
            order.setdefault(name, (place(result.run, metric), len(order)))
    told = [row for name in sorted(found, key=lambda n: order[n]) for row in found[name]]
    caption = "First layer, last layer, and the change between them, with 95% intervals"
    if material.sizes_differ:
        caption += "; rates per token, as the models differ in size"
    return caption, list(summary.HEADER), told


def _model(material: "Material", result: Result, null: str) -> str:
    of, separator, kind = result.model.partition(NULL_SEPARATOR)
    kind = null or (kind if separator else "")
    name = material.names.get(of, words.name(of))
    return f"{name}: {kind.replace('_', ' ')} null" if kind else name


def _with_nulls(material: "Material") -> Sequence[Result]:
    return [each for r in material.shown for each in (r, *material.nulls.get(r.model, {}).values())]


def _table(material: "Material") -> Table:
    caption, head, rows = changes(material)
    return Table(caption, head, rows, numbers=(2, 3, 4), grouped=True)


def per_token(result: Result) -> Result:
    """A result whose rates are divided by n, samples included.

    Where layers hold different numbers of tokens there is no such n, and rates are left out.
    """
    frame, samples = result.frame, result.samples
    keys = result.keys()
    for metric, rows in uncopied(result, "frame").groupby("metric", sort=False):
        if not in_nats(result, str(metric)):
            continue
        if result.run.tokens_change:
            frame = frame.drop(index=rows.index)
            continue
        size = scale(result.run, str(metric), "per_token", rows)[1]
        for column in ("mean", "std", "sem", "ci_low", "ci_high"):
            frame.loc[rows.index, column] = rows[column] / size
        for key, tokens in zip(keys.loc[rows.index], size, strict=True):
            if key in samples:
                samples[key] = samples[key] / tokens
    return replace(result, frame=frame, samples=samples)


SECTION = Section(order=40, make=_make)
