"""What the charts of a page share: their colours on light and dark, and their type."""

from collections.abc import Mapping, Sequence
from typing import Any

LIGHT = ("#0072B2", "#C44E00", "#00785A", "#A8417F", "#7A6200", "#4A5BD4", "#3C3C3C")
DARK = ("#56B4E9", "#FF914D", "#2FC79A", "#EE9CCB", "#E0C23A", "#A3B1FF", "#E4E4E4")
"""Of models: three to one and more on their ground, apart for colour-blind eyes; each has a shape
of its own too."""
SHAPES = (
    "circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right",
)  # fmt: skip
GROUND = ("#ffffff", "#171b21")
_INK, DIM, _GRID = ("#1d2329", "#e6e9ed"), ("#4b5560", "#b3bcc7"), ("#e2e6ea", "#323a44")
_HEAT = (("#f7fbff", "#1b1f26"), ("#6baed6", "#2f6f9f"), ("#08306b", "#c3e2f4"))
TARGET: dict[str, Any] = {"size": 420, "opacity": 0.001}
"""Of what is not seen, and says what stands under the pointer."""
SEQUENCE = (("#D2691E", "#0B3C7D"), ("#FFA366", "#A9CEFF"))
"""Of things in an order, as layers: the first and the last, on a light and on a dark ground."""
_MARK = "=expression: "
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def either(light: str, dark: str) -> dict[str, str]:
    """A colour by the ground, as Vega-Lite takes it."""
    return {"expr": f"dark ? '{dark}' : '{light}'"}


def of_models(models: Sequence[str]) -> dict[str, Any]:
    """Scales that give each model its colour and its shape."""
    count = range(len(models))
    colours = [either(LIGHT[i % len(LIGHT)], DARK[i % len(DARK)]) for i in count]
    # The eighth model has the first one's colour, and another shape.
    shapes = [SHAPES[(i + i // len(LIGHT)) % len(SHAPES)] for i in count]
    return {
        "color": {"domain": list(models), "range": colours},
        "shape": {"domain": list(models), "range": shapes},
    }


def params(**values: Any) -> list[dict[str, Any]]:
    """Parameters with their first values; `dark` is always one."""
    return [{"name": name, "value": value} for name, value in {"dark": False, **values}.items()]


def spec(chart: Any, **values: Any) -> dict[str, Any]:
    """The specification of a chart of Altair's, with its parameters and the look of all.

    Args: values: first values of its parameters.
    """
    made: dict[str, Any] = _expressed(chart.to_dict())
    made["params"] = [*params(**values), *made.get("params", [])]
    made["config"] = _config()
    made["background"] = either(*GROUND)
    made["padding"] = {"left": 4, "right": 8, "top": 6, "bottom": 4}
    return made


def title(expression: str) -> str:
    """The title of an axis that is an expression, which Altair's checks do not know of."""
    return f"{_MARK}{expression}"


def _expressed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _expressed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_expressed(each) for each in value]
    marked = isinstance(value, str) and value.startswith(_MARK)
    return {"signal": value.removeprefix(_MARK)} if marked else value


def _config() -> dict[str, Any]:
    ink, dim, grid = (either(*pair) for pair in (_INK, DIM, _GRID))
    return {
        "aria": False,  # the figure around it says what it is, and its table holds the numbers
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": dim, "titleColor": ink, "gridColor": grid, "domainColor": dim,
            "tickColor": dim, "labelFontSize": 12, "titleFontSize": 13, "titleFontWeight": 500,
            "titlePadding": 8, "labelLimit": 220, "titleLimit": 420,
        },
        "legend": {
            "labelColor": ink, "titleColor": ink, "labelFontSize": 12.5, "titleFontSize": 12.5,
            "orient": "bottom", "labelLimit": 330, "titleLimit": 250, "symbolSize": 90,
            "symbolStrokeWidth": 2, "symbolOpacity": 1,
            "columns": {"expr": "width < 480 ? 1 : 3"},
        },
        "header": {
            "labelColor": ink, "titleColor": dim, "labelFontSize": 12.5, "labelFontWeight": 600,
            "labelLimit": 250,
        },
        "title": {"color": ink, "fontSize": 13, "fontWeight": 600, "anchor": "start"},
        "text": {"color": ink},
    }  # fmt: skip


def tips(**fields: str) -> list[Any]:
    """What is told of a point: field of its row -> name."""
    import altair as alt

    return [alt.Tooltip(field, title=name, type="nominal") for field, name in fields.items()]


def heatmap(
    *,
    facet: str = "",
    order: Sequence[str] = (),
    columns: int = 0,
    side: int = 260,
    words: bool = False,
) -> dict[str, Any]:
    """Cells of `rows` (`x`, `y`, `shade` from 0 to 1, `told`), with the values behind the shades.

    Parameters: `lo` and `hi`, the values at no and at full colour; `xtitle`, `ytitle`, `ctitle`.

    Args:
        facet: the field that has a panel each, in this `order`.
        columns: of panels, where there is room.
        side: of a panel, in pixels.
        words: write values into the cells.
    """
    import altair as alt

    ends = [either(*pair) for pair in _HEAT]
    ink = f"(datum.shade > (dark ? 0.72 : 0.6)) === dark ? '{_INK[0]}' : '{_INK[1]}'"
    bar = alt.Legend(
        title=title("ctitle"),
        labelExpr="format(lo + datum.value * (hi - lo), '.3~g')",
        orient="bottom",
        gradientLength=180,
        values=[0, 0.5, 1],
    )
    shade = alt.Color("shade:Q", scale=alt.Scale(domain=[0, 0.5, 1], range=ends), legend=bar)
    axis: dict[str, Any] = {
        "grid": False,
        "labelAngle": 0,
        "labelOverlap": True,
        "domain": False,
        "ticks": False,
    }
    base = alt.Chart(alt.NamedData("rows")).encode(
        x=alt.X("x:O", axis=alt.Axis(title=title("xtitle"), **axis)),
        y=alt.Y("y:O", axis=alt.Axis(title=title("ytitle"), **axis)),
    )
    tip = [alt.Tooltip("where:N"), alt.Tooltip("told:N", title="value")]
    layers = [
        base.mark_rect(stroke=either(*_GRID), strokeWidth=0.5).encode(color=shade, tooltip=tip)
    ]
    if words:
        layers.append(
            base.mark_text(fontSize=12, color={"expr": ink}).encode(text="told:N", tooltip=tip)
        )
    made = alt.layer(*layers)
    if facet:
        panel = made.properties(width=side, height=side)
        head = alt.Header(title=None, orient="top")
        whole = panel.facet(
            facet=alt.Facet(f"{facet}:N", header=head, sort=list(order)), columns=columns
        )
    else:
        whole = made.properties(width=side, height=side)
    return spec(whole, lo=0, hi=1, xtitle="", ytitle="", ctitle="")


def shade(value: float, low: float, high: float) -> float | None:
    """Where a value lies from no to full colour; None of what is no number."""
    if value != value:
        return None
    return round(min(1.0, max(0.0, (value - low) / (high - low or 1.0))), 4)
