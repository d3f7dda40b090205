"""The audit: verdicts in words and colour, what overturns them, and what each rests on."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from whitebox_probe._core.digits import number
from whitebox_probe._core.html import Look
from whitebox_probe.auditing.verdicts import Audit, worded
from whitebox_probe.reporting import charts
from whitebox_probe.reporting.section import (
    Block,
    Cell,
    Chart,
    Code,
    Control,
    Fold,
    Part,
    Prose,
    Section,
    Sheet,
    Table,
)

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

# Of the first word or two of a verdict.
_LOOKS: dict[str, Look] = {
    "supported": "good",
    "contradicted": "bad",
    "depends on": "doubt",
    "not supported": "plain",
}


_LEGEND = (
    "The line is the model, its band the 95% interval over samples; dashed, with the wide band, "
    "the mean and the range of draws of random weights, where they were drawn."
)


def _make(material: "Material") -> Part | None:
    if not material.audits:
        return None
    blocks: list[Block] = []
    for i, audit in enumerate(material.audits, start=1):
        if len(material.audits) > 1:
            blocks.append(Prose(f"Audit {i} of {len(material.audits)}."))
        blocks += _of(material, audit)
    return Part("Verdicts", blocks)


def _of(material: "Material", audit: Audit) -> Iterator[Block]:
    names = {m: material.names[m] for m in dict.fromkeys(audit.frame["model"])}
    counts = ", ".join(f"{n} {verdict}" for verdict, n in audit._counts().items())
    yield Prose(f"Each claim of the principle, judged on each model: {counts}.")
    yield from (Prose(told, "note") for told in _apart(material, audit))
    yield Table(
        "The verdicts, with each effect and its 95% interval",
        ["claim", *names.values()],
        list(_verdicts(audit, names)),
        even=True,
    )
    yield from _robustness(audit, names)
    if len(audit.curves):
        yield _curves(audit, names)
    yield Fold("Why: each claim, its rule, and what it rests on", list(_why(audit)))


def _apart(material: "Material", audit: Audit) -> Iterator[str]:
    """Where the audit saw other samples, or other weights of a name, than the results."""
    data = audit.settings.get("data") or {}
    seen = data.get("fingerprint")
    others = [r for r in material.results if r.run.data.get("fingerprint") != seen]
    if seen and others:
        names = ", ".join(material.names[r.model] for r in others)
        yield (
            f"The audit saw other samples than the results of {names}: its numbers are of "
            f"{data.get('name', 'data')} ({data.get('limit') or 'all'} samples asked for)."
        )
    audited = audit.settings.get("models") or {}
    for result in material.results:
        here = result.run.checkpoint.get("sha256")
        there = ((audited.get(result.model) or {}).get("checkpoint") or {}).get("sha256")
        if here and there and here != there:
            yield (
                f"The audit's {material.names[result.model]} has other weights than the result of "
                "that name: their digests differ."
            )


def _verdicts(audit: Audit, names: Mapping[str, str]) -> Iterator[list[Cell | str]]:
    cells = {(row["claim"], row["model"]): _cell(row) for row in audit.frame.to_dict("records")}
    told = zip(audit.frame["text"], audit.frame["unit"], strict=True)
    for claim, (text, unit) in dict(zip(audit.frame["claim"], told, strict=True)).items():
        first = Cell(str(text), more=f"{claim}; effect: {unit}")
        yield [first, *(cells.get((claim, model), "not judged") for model in names)]


def _cell(row: Mapping[Any, Any]) -> Cell:
    verdict = str(row["verdict"])
    look = next((look for word, look in _LOOKS.items() if verdict.startswith(word)), None)
    more = [worded(row).removeprefix(verdict).strip()]
    if row["value"] == row["value"]:
        more.insert(0, number(row["value"], low=row["ci_low"], high=row["ci_high"]))
    elif row.get("reason"):
        more.append(str(row["reason"]))
    return Cell(verdict, look, " ".join(filter(None, more)))


def _robustness(audit: Audit, names: Mapping[str, str]) -> Iterator[Block]:
    rows = audit.robustness
    if not len(rows):
        yield Prose(
            "No other setting was looked at: how far a verdict rests on one is not known.", "gap"
        )
        return
    grids: list[Block] = [
        Prose(
            "agrees: the verdict is the same; flips: this setting overturns it; no weight: the "
            "claim loses its meaning under it; –: not looked at."
        )
    ]
    for model, told in names.items():
        mine = rows[rows["model"] == model]
        found = {(r["claim"], r["setting"]): r for r in mine.to_dict("records")}
        claims = list(dict.fromkeys(mine["claim"]))
        table = [
            [setting, *(_grid(found.get((claim, setting))) for claim in claims)]
            for setting in dict.fromkeys(mine["setting"])
        ]
        if claims:
            grids.append(
                Table(f"{told}: each claim under every other setting", ["setting", *claims], table)
            )
        else:
            grids.append(Prose(f"{told}: no other setting was looked at.", "gap"))
    yield Fold("Robustness: the same claims under other settings", grids)


def _grid(row: Mapping[Any, Any] | None) -> Cell | str:
    if row is None:
        return "–"
    value = float(row["value"])
    more = "" if math.isnan(value) else number(value)
    if row["agrees"]:
        return Cell("agrees", "good", more)
    return Cell("flips", "bad", more) if row["counts"] else Cell("no weight", "plain", more)


def _curves(audit: Audit, names: Mapping[str, str]) -> Chart:
    texts = dict(zip(audit.frame["claim"], audit.frame["text"], strict=True))
    sheets, claims = {}, dict.fromkeys(audit.curves["claim"])
    for (claim, model), of in audit.curves.groupby(["claim", "model"], sort=False):
        title = f"{claim}, {names[str(model)]} [{of['unit'].iloc[0]}]"
        sheets[f"{claim}|{names[str(model)]}"] = Sheet(
            list(_rows(of, names)), {"ytitle": title}, note=_LEGEND
        )
    options = [(str(claim), f"{claim}: {texts.get(claim, '')}") for claim in claims]
    models = [(name, name) for name in names.values()]
    return Chart(
        name="audit",
        label="The measure behind a claim against depth, with the range of random weights",
        spec=_spec(list(names.values())),
        sheets=sheets,
        by=["claim", "of"],
        controls=[
            Control("select", "claim", "Claim", options, options[0][0]),
            # One at a time: nats of models of different sizes do not share an axis.
            Control("select", "of", "Model", models, models[0][0]),
            Control("toggle", "nulls", "Range of random weights", start=True),
        ],
        table=[
            ("model", "model"),
            ("layer", "layer"),
            ("told", "value [95% interval]"),
            ("random", "random weights, least to most"),
        ],
    )


def _rows(of: pd.DataFrame, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for row in of.to_dict("records"):
        made = {"model": names[row["model"]], "layer": int(row["layer"])}
        made |= {
            k: row[k] for k in ("mean", "ci_low", "ci_high", "null_mean", "null_least", "null_most")
        }
        made["told"] = number(row["mean"], low=row["ci_low"], high=row["ci_high"])
        made["random"] = (
            f"{number(row['null_least'])} to {number(row['null_most'])}"
            if row["null_mean"] == row["null_mean"]
            else "not drawn"
        )
        yield {k: None if v != v else v for k, v in made.items()}


def _spec(names: Sequence[str]) -> dict[str, Any]:
    import altair as alt

    scales = charts.of_models(names)
    depth = alt.X(
        "layer:Q",
        title="layer",
        scale=alt.Scale(nice=False, zero=False, padding=10),
        axis=alt.Axis(tickMinStep=1, grid=False),
    )
    across: dict[str, Any] = {
        "scale": alt.Scale(zero=False),
        "axis": alt.Axis(title=charts.title("ytitle")),
    }
    colour = alt.Color("model:N", scale=alt.Scale(**scales["color"]), legend=None)
    shape = alt.Shape("model:N", scale=alt.Scale(**scales["shape"]), legend=None)
    tip = charts.tips(model="model", layer="layer", told="value", random="random weights")
    base = (
        alt.Chart(alt.NamedData("rows"))
        .transform_calculate(
            low="isValid(datum.ci_low) ? datum.ci_low : datum.mean",
            high="isValid(datum.ci_high) ? datum.ci_high : datum.mean",
            least="nulls && isValid(datum.null_least) ? datum.null_least : datum.mean",
            most="nulls && isValid(datum.null_most) ? datum.null_most : datum.mean",
            middle="nulls && isValid(datum.null_mean) ? datum.null_mean : datum.mean",
        )
        .encode(x=depth, color=colour)
    )
    low, least, middle, mean = (
        alt.Y(f"{name}:Q", **across) for name in ("low", "least", "middle", "mean")
    )
    made = alt.layer(
        base.mark_area(opacity=0.12).encode(y=least, y2="most:Q"),
        base.mark_line(strokeDash=[5, 3], strokeWidth=1.4).encode(y=middle),
        base.mark_area(opacity=0.25).encode(y=low, y2="high:Q"),
        base.mark_line(strokeWidth=2.1).encode(y=mean),
        base.mark_point(filled=True, size=56, opacity=1).encode(y=mean, shape=shape),
        base.mark_circle(**charts.TARGET).encode(y=mean, tooltip=tip),
    ).properties(width="container", height=300)
    return charts.spec(made, nulls=True, ytitle="")


def _why(audit: Audit) -> Iterator[Block]:
    if not audit.rules:
        for line in audit.sentences():
            yield Prose(line)
    for claim in audit.rules:
        yield Code(audit.explain(claim), f"{claim}, explained")


SECTION = Section(order=20, make=_make)
