"""A training: each measure over its steps, one curve a layer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.digits import number
from whitebox_probe.reporting import charts
from whitebox_probe.reporting.measured import groups, titles
from whitebox_probe.reporting.section import Chart, Control, Part, Section, Sheet
from whitebox_probe.reporting.sections.changes import per_token
from whitebox_probe.results.forms import in_nats
from whitebox_probe.results.table import setting

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material


def _make(material: "Material") -> Part | None:
    if material.steps is None:
        return None
    differ = material.sizes_differ
    results = [per_token(r) if differ else r for r in material.results]
    step_of = {r.model: step for r, step in zip(results, material.steps, strict=True)}
    found = groups(results)
    told = titles(found)
    sheets: dict[str, Sheet] = {}
    for key, curves in found.items():
        own = [(r, rows) for r, rows in curves if not setting(rows, "null").iloc[0]]
        rows = [row for r, of in own for row in _rows(material, r, of, step_of[r.model])]
        if not rows:
            continue
        result, metric = own[0][0], str(key[0])
        rate = in_nats(result, metric)
        unit = str(result.run.measures.get(metric, {}).get("unit", ""))
        unit = "nats / token" if rate and differ else unit
        missing = [
            material.names[r.model] for r in results if r.model not in {o.model for o, _ in own}
        ]
        note = f"Not measured so: {', '.join(missing)}." if missing else ""
        title = f"{told[key]} [{unit}]" if unit else told[key]
        sheets[told[key]] = Sheet(rows, {"ytitle": title}, note=note)
    layers = sorted({row["layer"] for sheet in sheets.values() for row in sheet.rows})
    options = [("all", "all layers"), *((str(n), f"layer {n}") for n in layers)]
    positive = min((s for s in material.steps if s > 0), default=1.0)
    wide = max(material.steps) / positive >= 100
    names = [(name, name) for name in sheets]
    chart = Chart(
        name="training",
        label="A measure over the steps of a training, one curve a layer",
        spec=_spec(layers),
        sheets=sheets,
        by=["measure"],
        controls=[
            Control("select", "measure", "Measure", names, names[0][0]),
            Control("select", "shown", "Layers", options, "all"),
            Control("toggle", "log", "Logarithmic steps", start=wide),
        ],
        table=[
            ("model", "checkpoint"),
            ("step", "step"),
            ("layer", "layer"),
            ("told", "value [95% interval]"),
        ],
        log={"x": {"type": "symlog", "constant": positive}},
    )
    return Part("Over the training", [chart])


def _rows(material: "Material", result: Any, of: Any, step: float) -> Iterator[dict[str, Any]]:
    for row in of.to_dict("records"):
        made = {"model": material.names[result.model], "step": step, "layer": int(row["layer"])}
        value = float(row["mean"])
        made["mean"] = None if value != value else value
        yield made | {"told": number(value, low=row["ci_low"], high=row["ci_high"])}


def _spec(layers: list[int]) -> dict[str, Any]:
    import altair as alt

    (first, last), (dark_first, dark_last) = charts.SEQUENCE
    ends = [charts.either(first, dark_first), charts.either(last, dark_last)]
    step = alt.X(
        "step:Q",
        title="training step",
        scale=alt.Scale(nice=False),
        axis=alt.Axis(grid=False, format=","),
    )
    across = alt.Y(
        "mean:Q", scale=alt.Scale(zero=False), axis=alt.Axis(title=charts.title("ytitle"))
    )
    shade = alt.Color(
        "layer:Q",
        scale=alt.Scale(domain=[layers[0], layers[-1]], range=ends),
        legend=alt.Legend(
            title="layer",
            columns=4,
            orient="bottom",
            tickMinStep=1,
            format="d",
        ),
    )
    tip = charts.tips(model="checkpoint", step="step", layer="layer", told="value")
    base = (
        alt.Chart(alt.NamedData("rows"))
        .transform_filter("shown === 'all' || toNumber(shown) === datum.layer")
        .encode(x=step, y=across, color=shade, detail="layer:N")
    )
    made = alt.layer(
        base.mark_line(strokeWidth=2),
        base.mark_point(filled=True, size=44, opacity=1),
        base.mark_circle(**charts.TARGET).encode(tooltip=tip),
    ).properties(width="container", height=320)
    return charts.spec(made, shown="all", ytitle="")


SECTION = Section(order=45, make=_make)
