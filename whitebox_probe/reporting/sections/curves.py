"""Every measure against depth, one curve a model, with its nulls."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from whitebox_probe._core.digits import number
from whitebox_probe._core.errors import ResultError
from whitebox_probe.reporting import charts
from whitebox_probe.reporting.section import Chart, Control, Part, Prose, Section, Sheet
from whitebox_probe.results.forms import gaussian_null, in_nats, scale
from whitebox_probe.results.pages import place
from whitebox_probe.results.result import Result
from whitebox_probe.results.table import SETTINGS, no_value, written

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

RAW = "raw"
FORMS = {
    RAW: "as measured",
    "per_token": "per token (÷ n)",
    "per_entry": "per entry (÷ n·d)",
    "position": "position between its bounds",
    "null_share": "share of the Gaussian null",
}
_UNITS = {"per_token": "nats / token", "per_entry": "nats / entry", "position": "0 to 1"}
BANDS = {"ci": "95% interval of the mean", "std": "± std over samples", "none": "no band"}
# Settings that tell one measure from another; which U was used is told beside the model.
_APART = tuple(name for name in SETTINGS if name not in ("basis", "null"))


def _make(material: "Material") -> Part | None:
    if not material.shown:
        return None
    found = groups(material.shown)
    told = titles(found)
    sheets, firsts = {}, []
    for key, rows in found.items():
        sheets[told[key]] = _sheet(material, rows, told[key])
        firsts.append((told[key], told[key]))
    names = [material.names[r.model] for r in material.shown]
    nulls = any(row["null"] for sheet in sheets.values() for row in sheet.rows)
    rates = any(
        len(sheet.allow["form"]) > 1 or RAW not in sheet.allow["form"] for sheet in sheets.values()
    )
    controls = [Control("select", "measure", "Measure", firsts, firsts[0][0])]
    if rates:
        forms = [
            (k, v) for k, v in FORMS.items() if any(k in s.allow["form"] for s in sheets.values())
        ]
        controls.append(Control("select", "form", "Normalisation", forms, forms[0][0]))
    controls.append(Control("select", "band", "Band", list(BANDS.items()), "ci"))
    if len(names) > 1:
        controls.append(Control("several", "hidden", "Models", [(n, n) for n in names]))
    if nulls:
        controls.append(Control("toggle", "nulls", "Nulls", start=True))
    controls.append(Control("toggle", "relative", "Relative depth", start=_depths(material) > 1))
    controls.append(Control("toggle", "log", "Log scale", start=False))
    first = sheets[firsts[0][0]]
    chart = Chart(
        name="curves",
        label="A measure of each layer against depth, one curve a model",
        spec=_spec(names, form=first.allow["form"][0], relative=_depths(material) > 1),
        sheets=sheets,
        by=["measure"],
        controls=controls,
        table=[
            ("series", "model"),
            ("layer", "layer"),
            ("told_{form}", "value [95% interval]"),
            ("count", "count"),
        ],
        log={"y": {"type": "log", "nice": False, "zero": None}},
    )
    return Part("Layer by layer", [*_about(material, nulls), chart])


def _about(material: "Material", nulls: bool) -> Iterator[Prose]:
    if material.sizes_differ:
        yield Prose(
            "The models differ in n, d, K or p, or are not known to agree in them, which raw nats "
            "grow with: rates are shown normalised only, and never as raw nats beside each other.",
            "note",
        )  # fmt: skip
    if not nulls:
        yield Prose(
            "No null was measured with these results, so what untrained or Gaussian tokens would "
            "show cannot be told here. Measure them with: whitebox-probe run MODEL --null "
            "none,gaussian, or pass what wp.nulls gives.", "gap",
        )  # fmt: skip


def _depths(material: "Material") -> int:
    return len({r.run.layers for r in material.shown})


def groups(results: Sequence[Result]) -> dict[tuple[Any, ...], list[tuple[Result, pd.DataFrame]]]:
    """(metric, place, settings) -> the curves that were taken so, kin beside kin."""
    found: dict[tuple[Any, ...], list[tuple[Result, pd.DataFrame]]] = {}
    order: dict[tuple[Any, ...], Any] = {}
    for result in results:
        frame = result.frame
        columns = ["metric", "site", *(c for c in SETTINGS if c in frame)]
        for _, rows in frame.groupby(columns, sort=False, dropna=False):
            row = rows.iloc[0]
            site = "heads" if str(row["site"]).startswith("heads") else str(row["site"])
            key = (row["metric"], site, *(written(row.get(c)) for c in _APART))
            found.setdefault(key, []).append((result, rows.sort_values("layer")))
            order.setdefault(key, (place(result.run, str(row["metric"])), len(order)))
    # A null that was measured where its model was not has nothing to stand beside.
    own = {k: v for k, v in found.items() if any(not rows["null"].iloc[0] for _, rows in v)}
    kept = own or found
    return {key: kept[key] for key in sorted(kept, key=lambda key: order[key])}


def titles(groups: Mapping[tuple[Any, ...], Any]) -> dict[tuple[Any, ...], str]:
    """What each measure is called, with the settings that tell it from others of its name."""
    named: dict[str, list[tuple[Any, ...]]] = {}
    for key in groups:
        named.setdefault(key[0], []).append(key)
    told = {}
    for metric, keys in named.items():
        parts = [("site", 1), *((name, i + 2) for i, name in enumerate(_APART))]
        vary = [(n, i) for n, i in parts if len({key[i] for key in keys}) > 1]
        for key in keys:
            more = ", ".join(f"{n}={key[i]}" for n, i in vary if key[i])
            told[key] = f"{metric} ({more})" if more else str(metric)
    return told


def _sheet(
    material: "Material", curves: Sequence[tuple[Result, pd.DataFrame]], title: str
) -> Sheet:
    metric = str(curves[0][1]["metric"].iloc[0])
    rate = in_nats(curves[0][0], metric)
    drawn = [(r, rows, r) for r, rows in curves]
    drawn += [
        (null, rows, r)
        for r, mine in curves
        if not mine["null"].iloc[0]
        for null, rows in _of_nulls(material, r, mine)
    ]
    forms = _forms(material, drawn, metric, rate)
    several = _several(curves)
    rows = [
        row
        for source, curve, of in drawn
        for row in _rows(material, source, curve, of, metric, forms, several)
    ]
    unit = str(curves[0][0].run.measures.get(metric, {}).get("unit", ""))
    axis = {
        form: _axis(title, _UNITS.get(form, "" if form == "null_share" else unit)) for form in forms
    }
    if "null_share" in axis:
        axis["null_share"] = f"{title} ÷ that of the Gaussian null"
    missing = [
        n
        for r in material.shown
        if (n := material.names[r.model]) not in {w["model"] for w in rows}
    ]
    note = f"Not measured so: {', '.join(missing)}." if missing else ""
    kinds = ", ".join(dict.fromkeys(row["null"] for row in rows if row["null"]))
    dashed = f"Dashed: {kinds}." if kinds else ""
    positive = all(
        value > 0
        for row in rows
        for value in (
            row["mean"],
            row["ci_low"],
            None if row["std"] is None else row["mean"] - row["std"],
        )
        if value is not None
    )
    positive = positive and "position" not in forms
    note = " ".join(
        filter(
            None,
            [
                dashed,
                note,
                _notes(curves),
                "" if positive else "A log scale needs values, and bands, above 0.",
            ],
        )
    )
    return Sheet(
        rows=rows,
        params={"titles": axis},
        allow={"form": list(forms), "log": [False, True] if positive else [False]},
        note=note,
    )


def _axis(title: str, unit: str) -> str:
    return f"{title} [{unit}]" if unit else title


def _of_nulls(
    material: "Material", result: Result, curve: pd.DataFrame
) -> Iterator[tuple[Result, pd.DataFrame]]:
    """The same curve of each null of a model that is a result by itself."""
    row = curve.iloc[0]
    where = {n: row[n] for n in SETTINGS if n != "null" and n in curve and not no_value(row[n])}
    for null in material.nulls.get(result.model, {}).values():
        try:
            yield null, null.curve(str(row["metric"]), str(row["site"]), **where)
        except ResultError:
            continue  # a null of other measures: its own models' sheet tells of none


def _several(curves: Sequence[tuple[Result, pd.DataFrame]]) -> set[str]:
    """Models that have several curves of one measure, by which U they used."""
    own = [r.model for r, rows in curves if not rows["null"].iloc[0]]
    return {model for model in own if own.count(model) > 1}


def _forms(material: "Material", drawn: Sequence[Any], metric: str, rate: bool) -> list[str]:
    if not rate:
        return [RAW]
    forms = [] if material.sizes_differ else [RAW]
    forms += ["per_token", "per_entry"]
    every = [(s, row) for s, curve, _ in drawn for row in curve.to_dict("records")]
    if all(source.run.bound(metric, row) is not None for source, row in every):
        forms.append("position")
    if all(_gaussian(material, of, curve) is not None for _, curve, of in drawn):
        forms.append("null_share")
    return forms


def _gaussian(material: "Material", result: Result, curve: pd.DataFrame) -> pd.DataFrame | None:
    row = curve.iloc[0]
    where = {n: row[n] for n in SETTINGS if n != "null" and n in curve and not no_value(row[n])}
    others = list(material.nulls.get(result.model, {}).values())
    try:
        found = gaussian_null(result, str(row["metric"]), str(row["site"]), nulls=others, **where)
    except ResultError:
        return None
    return found if found is not None and set(curve["layer"]) <= set(found["layer"]) else None


def _rows(
    material: "Material",
    source: Result,
    curve: pd.DataFrame,
    of: Result,
    metric: str,
    forms: Sequence[str],
    several: set[str],
) -> Iterator[dict[str, Any]]:
    """A row a layer, with what each form takes off and divides by, and its value in words."""
    model = material.names[of.model]
    first = curve.iloc[0]
    kind = _kind(source, first)
    series = f"{model} ({first['basis']})" if of.model in several and first["basis"] else model
    null = _gaussian(material, of, curve) if "null_share" in forms else None
    sizes = {form: _sizes(source, metric, form, curve, null) for form in forms if form != RAW}
    for i, row in enumerate(curve.to_dict("records")):
        made = {"model": model, "series": f"{series}: {kind}" if kind else series, "null": kind}
        made |= {"layer": int(row["layer"]), "layers": of.run.layers, "count": int(row["count"])}
        made |= {n: row[n] for n in ("mean", "ci_low", "ci_high", "std")}
        for form, (low, size) in sizes.items():
            made |= {f"low_{form}": low[i], f"size_{form}": size[i]}
        for form in forms:
            low, size = (sizes[form][0][i], sizes[form][1][i]) if form != RAW else (0.0, 1.0)
            value, *ends = ((row[n] - low) / size for n in ("mean", "ci_low", "ci_high"))
            made[f"told_{form}"] = number(value, low=ends[0], high=ends[1])
        yield {k: None if v != v else v for k, v in made.items()}


def _sizes(
    source: Result, metric: str, form: str, curve: pd.DataFrame, null: pd.DataFrame | None
) -> tuple[list[float], list[float]]:
    low, size = scale(source.run, metric, form, curve, null)
    count = len(curve)
    return tuple([float(v)] * count if _alone(v) else [float(x) for x in v] for v in (low, size))  # type: ignore[return-value]


def _alone(value: Any) -> bool:
    return isinstance(value, int | float)


def _kind(source: Result, row: Any) -> str:
    from whitebox_probe.results.forms import NULL_SEPARATOR

    kind = str(row["null"] or source.model.partition(NULL_SEPARATOR)[2])
    return f"{kind.replace('_', ' ')} null" if kind else ""


def _notes(curves: Sequence[tuple[Result, pd.DataFrame]]) -> str:
    told = dict.fromkeys(str(n) for _, rows in curves if "note" in rows for n in rows["note"] if n)
    return " ".join(f"{note}." for note in told)


def _spec(names: Sequence[str], *, form: str, relative: bool) -> dict[str, Any]:
    import altair as alt

    scales = charts.of_models(names)
    colour = alt.Color("model:N", scale=alt.Scale(**scales["color"]), title=None)
    shape = alt.Shape("model:N", scale=alt.Scale(**scales["shape"]), title=None)
    depth = alt.X(
        "depth:Q",
        scale=alt.Scale(zero=False, nice=False, padding=12),
        axis=alt.Axis(
            title=charts.title("relative ? 'relative depth (layer ÷ number of layers)' : 'layer'"),
            tickMinStep={"expr": "relative ? 0.1 : 1"},  # type: ignore[arg-type]
            grid=False,
        ),
    )
    upright: dict[str, Any] = {"scale": alt.Scale(zero=False)}
    upright["axis"] = alt.Axis(title=charts.title("titles[form]"))
    value = alt.Y("value:Q", **upright)
    tip = [
        alt.Tooltip("series:N", title="model"),
        alt.Tooltip("layer:Q"),
        alt.Tooltip("told:N", title="value"),
        alt.Tooltip("count:Q"),
    ]
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
    )
    lines = base.encode(x=depth, color=colour, detail="series:N")
    is_null = "!!datum.null"
    dashes = alt.condition(is_null, alt.value([5, 3]), alt.value([1, 0]))
    layered = alt.layer(
        lines.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", **upright), y2="high:Q"),
        lines.mark_line(strokeWidth=2.1).encode(y=value, strokeDash=dashes),
        lines.mark_point(filled=True, opacity=1).encode(
            y=value, shape=shape, size=alt.condition(is_null, alt.value(14), alt.value(56))
        ),
        # What a finger, or a hand that is not steady, can hit.
        lines.mark_circle(size=420, opacity=0.001).encode(y=value, tooltip=tip),
    ).properties(width="container", height=340)
    return charts.spec(
        layered, form=form, band="ci", hidden=[], nulls=True, relative=relative, titles={form: ""}
    )


def _edge(end: str, sign: str) -> str:
    """An edge of the band that is asked for; the value itself where there is none."""
    return (
        f"((band === 'ci' && isValid(datum.{end}) ? datum.{end} : "
        f"band === 'std' && isValid(datum.std) ? datum.mean {sign} datum.std : datum.mean) "
        "- datum.off) / datum.size"
    )


SECTION = Section(order=30, make=_make)
