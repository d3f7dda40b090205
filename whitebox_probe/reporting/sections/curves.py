"""Every measure against depth, one curve a model, with its nulls."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from whitebox_probe.reporting import charts, words
from whitebox_probe.reporting.measured import (
    RAW,
    Rows,
    are_positive,
    forms_of,
    groups,
    rows_of,
    titles,
    with_nulls,
)
from whitebox_probe.reporting.section import Chart, Control, Part, Prose, Section, Sheet

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

FORMS = {
    RAW: "as measured",
    "per_token": "per token (÷ n)",
    "per_entry": "per entry (÷ n·d)",
    "position": "position between its bounds",
    "null_share": "share of the Gaussian null",
}
_UNITS = {"per_token": "nats / token", "per_entry": "nats / entry", "position": "0 to 1"}
BANDS = {"ci": "95% interval of the mean", "std": "± std over samples", "none": "no band"}


def _make(material: "Material") -> Part | None:
    if not material.shown:
        return None
    found = groups(material.shown)
    told = titles(found)
    sheets = {told[key]: _sheet(material, rows, told[key]) for key, rows in found.items()}
    first = next(iter(sheets))
    deep = len({r.run.layers for r in material.shown}) > 1
    names = [material.names[r.model] for r in material.shown]
    nulls = any(row["null"] for sheet in sheets.values() for row in sheet.rows)
    chart = Chart(
        name="curves",
        label="A measure of each layer against depth, one curve a model",
        spec=_spec(names, form=sheets[first].allow["form"][0], relative=deep),
        sheets=sheets,
        by=["measure"],
        controls=list(_controls(sheets, names, nulls=nulls, deep=deep)),
        table=[
            ("series", "model"),
            ("layer", "layer"),
            ("told_{form}", "value [95% interval]"),
            ("count", "count"),
        ],
        log={"y": {"type": "log", "nice": False, "zero": None}},
    )
    return Part("Layer by layer", [*_about(material, nulls=nulls), chart])


def _about(material: "Material", *, nulls: bool) -> Iterator[Prose]:
    if material.sizes_differ:
        yield Prose(
            "The models differ in n, d, K or p, or are not known to agree in them, which raw nats "
            "grow with: rates are shown normalised only, and never as raw nats beside each other.",
            "note",
        )
    if not nulls:
        yield Prose(
            "No null was measured with these results, so what untrained or Gaussian tokens would "
            "show cannot be told here. Measure them with: whitebox-probe run MODEL --null "
            "none,gaussian, or pass what wp.nulls gives.",
            "gap",
        )


def _controls(
    sheets: dict[str, Sheet], names: Sequence[str], *, nulls: bool, deep: bool
) -> Iterator[Control]:
    yield Control("select", "measure", "Measure", [(m, m) for m in sheets], next(iter(sheets)))
    allowed = {form for sheet in sheets.values() for form in sheet.allow["form"]}
    if allowed != {RAW}:
        forms = [(form, label) for form, label in FORMS.items() if form in allowed]
        yield Control("select", "form", "Normalisation", forms, forms[0][0])
    yield Control("select", "band", "Band", list(BANDS.items()), "ci")
    if len(names) > 1:
        yield Control("several", "hidden", "Models", [(name, name) for name in names])
    if nulls:
        yield Control("toggle", "nulls", "Nulls", start=True)
    yield Control("toggle", "relative", "Relative depth", start=deep)
    yield Control("toggle", "log", "Log scale", start=False)


def _sheet(material: "Material", own: Sequence[Rows], title: str) -> Sheet:
    curves, missing = with_nulls(material, own)
    forms = forms_of(material, curves)
    rows = rows_of(material, curves, forms)
    metric = str(own[0][1]["metric"].iloc[0])
    unit = str(own[0][0].run.measures.get(metric, {}).get("unit", ""))
    axes = {form: _axis(title, _UNITS.get(form, unit)) for form in forms}
    if "null_share" in axes:
        axes["null_share"] = f"{title} ÷ that of the Gaussian null"
    shown = {row["model"] for row in rows}
    absent = [n for r in material.shown if (n := material.names[r.model]) not in shown]
    absent += [words.name(null) for null in missing]
    kinds = ", ".join(dict.fromkeys(row["null"] for row in rows if row["null"]))
    positive = are_positive(rows, forms)
    told = [
        f"Dashed: {kinds}." if kinds else "",
        f"Not measured so: {', '.join(absent)}." if absent else "",
        *dict.fromkeys(f"{n}." for _, of in own if "note" in of for n in of["note"] if n),
        "" if positive else "A log scale needs values, and bands, above 0.",
    ]
    return Sheet(
        rows=rows,
        params={"titles": axes},
        allow={"form": forms, "log": [False, True] if positive else [False]},
        note=" ".join(filter(None, told)),
    )


def _axis(title: str, unit: str) -> str:
    return f"{title} [{unit}]" if unit else title


def _spec(names: Sequence[str], *, form: str, relative: bool) -> dict[str, Any]:
    import altair as alt

    scales = charts.of_models(names)
    legend = alt.Legend(title=None, labelLimit={"expr": "max(120, min(330, width - 20))"})
    depth = alt.X(
        "depth:Q",
        scale=alt.Scale(zero=False, nice=False, padding=12),
        axis=alt.Axis(
            title=charts.title("relative ? 'relative depth (layer ÷ layers)' : 'layer'"),
            tickMinStep={"expr": "relative ? 0.1 : 1"},
            grid=False,
        ),
    )
    base = (
        alt.Chart(alt.NamedData("rows"))
        .transform_filter("indexof(hidden, datum.model) < 0 && (nulls || !datum.null)")
        .transform_calculate(
            depth="relative ? datum.layer / datum.layers : datum.layer",
            off="form === 'raw' ? 0 : datum['low_' + form]",
            size="form === 'raw' ? 1 : datum['size_' + form]",
            told="datum['told_' + form]",
        )
        .transform_calculate(
            value="(datum.mean - datum.off) / datum.size",
            low=_edge("ci_low", "-"),
            high=_edge("ci_high", "+"),
        )
        .encode(
            x=depth,
            color=alt.Color("model:N", scale=alt.Scale(**scales["color"]), legend=legend),
            detail="series:N",
        )
    )
    shape = alt.Shape("model:N", scale=alt.Scale(**scales["shape"]), legend=legend)
    return charts.spec(
        alt.layer(*_marks(base, shape)).properties(width="container", height=340),
        form=form, band="ci", hidden=[], nulls=True, relative=relative, titles={form: ""},
    )  # fmt: skip


def _marks(base: Any, shape: Any) -> Iterator[Any]:
    """Bands, lines (dashed for nulls), points, and what a hand that is not steady can hit."""
    import altair as alt

    axis = alt.Axis(title=charts.title("titles[form]"))
    low, value = (alt.Y(f"{f}:Q", scale=alt.Scale(zero=False), axis=axis) for f in ("low", "value"))
    null = "!!datum.null"
    dashes = alt.condition(null, alt.value([5, 3]), alt.value([1, 0]))
    size = alt.condition(null, alt.value(14), alt.value(56))
    yield base.mark_area(opacity=0.2).encode(y=low, y2="high:Q")
    yield base.mark_line(strokeWidth=2.1).encode(y=value, strokeDash=dashes)
    yield base.mark_point(filled=True, opacity=1).encode(y=value, shape=shape, size=size)
    tip = charts.tips(series="model", layer="layer", told="value", count="count")
    yield base.mark_circle(**charts.TARGET).encode(y=value, tooltip=tip)


def _edge(end: str, sign: str) -> str:
    """An edge of the band that is asked for; the value itself where there is none."""
    return (
        f"((band === 'ci' && isValid(datum.{end}) ? datum.{end} : "
        f"band === 'std' && isValid(datum.std) ? datum.mean {sign} datum.std : datum.mean) "
        "- datum.off) / datum.size"
    )


SECTION = Section(order=30, make=_make)
