"""What every figure of a measure against depth shares: how it is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from whitebox_probe.plots import (
    _bands,
    _bounds,
    _ends,
    _fit,
    _labels,
    _legend,
    _nulls,
    _settings,
    style,
)
from whitebox_probe.plots._comparable import (
    BANDS,
    check_curves,
    check_options,
    check_results,
    expect_dependence,
)
from whitebox_probe.plots._curve_options import Band, Options
from whitebox_probe.plots._names import verbatim, words
from whitebox_probe.plots.page import Page, extent, page, refuse_size
from whitebox_probe.results.forms import normal_form
from whitebox_probe.results.pairing import expect_same_parameters
from whitebox_probe.results.result import Result
from whitebox_probe.results.table import no_value, setting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_IN_LABELS = ("basis", "eps", "lam", "convention", "prenorm")
HEIGHT: dict[str, float] = {"column": 2.15, "text": 2.6}  # inches, without the legend


@dataclass(frozen=True)
class Curve:
    """One result's curve in the form that is drawn, with its nulls; `depth` is where it stands."""

    result: Result
    raw: pd.DataFrame
    rows: pd.DataFrame
    nulls: list[tuple[Result, pd.DataFrame]]
    limits: _bounds.Limits


def draw(results: Sequence[Result], metric: str, options: Options) -> "Figure":
    """One measure of each result against depth, with its band, over the bands of its nulls.

    Raises: ResultError when a result lacks the measure, or what is drawn would not be comparable.
    """
    check_results(results)
    check_options(results, metric, options.band, options.normalise)
    expect_dependence(results, metric, options.where)
    refuse_size(options.ax, options.size, options.width, "ax")
    curves = _curves(results, metric, options)
    check_curves(results, [c.raw for c in curves], metric, options.normalise)
    limits = _bounds.together([curve.limits for curve in curves])
    looks = style.looks(
        [r.model for r in results],
        initial=style.initial(results),
        nulls=style.nulls(results),
        labels=options.labels,
        palette=options.palette,
    )
    inches = extent(options.size, options.width, usual="column", height=HEIGHT)
    with page(options.ax, inches=inches, panels="one") as sheet:
        handles, lines = [], []
        for curve in curves:
            look = looks[curve.result.model]
            under = [
                _nulls.draw(sheet.ax, null, rows, look, among=len(curves), at=i)
                for i, (null, rows) in enumerate(curve.nulls)
            ]
            lines.append(_line(sheet.ax, curve.rows, look))
            handles += [lines[-1], *under]
            _shade(sheet.ax, curve.rows, options.band, look)
        handles += _bounds.draw(sheet.ax, limits)
        _say(sheet, curves, options)
        names: list[Any] = []
        if options.legend:
            if _ends.wanted(options.legend, sheet, len(lines)):
                names = _ends.draw(sheet, sheet.ax, lines)
            told = [handle for handle in handles if not names or handle not in lines]
            bands = _told_bands(sheet, curves, options.band)
            short = [] if names else brief(lines, list(looks.values()), told)
            _legend.draw(sheet, told, bands=bands, note=_bases(curves), brief=short)
        _fit_labels(sheet)
        _ends.spread(sheet.ax, names)
    return sheet.figure


def _curves(results: Sequence[Result], metric: str, options: Options) -> list[Curve]:
    null_of = _nulls.by_model(results, options.nulls)
    found = []
    for result in results:
        raw = result.curve(metric, options.site, **options.where)
        for null in null_of[result.model].values():
            expect_same_parameters(metric, result.run, null.run)
        nulls = {
            kind: (null, _nulls.rows(null, raw)) for kind, null in null_of[result.model].items()
        }
        by = None
        if options.normalise == "null_share":
            _nulls.gaussian(result.model, null_of[result.model])
            by = nulls["gaussian"][1]
        form = normal_form(result, metric, options.normalise, by)
        layers = result.run["layers"] if options.relative_depth else 1

        def drawn(rows: pd.DataFrame, form: Any = form, layers: int = layers) -> pd.DataFrame:
            return form(rows).assign(depth=rows["layer"] / layers)

        under = [(null, drawn(rows)) for null, rows in nulls.values()]
        limits = _bounds.of_curve(result.run, metric, raw, form) if options.bounds else set()
        found.append(Curve(result, raw, drawn(raw), under, limits))
    return found


def _line(ax: "Axes", rows: pd.DataFrame, look: style.Look) -> Any:
    """A model at initialisation is paler, dashed and ringed: a coinciding curve stays visible."""
    size = _settings.setting("lines.markersize")
    (line,) = ax.plot(
        rows["depth"],
        rows["mean"],
        color=look.colour,
        marker=look.marker,
        linestyle="--" if look.initial else "-",
        alpha=0.65 if look.initial else 1.0,
        markersize=1.65 * size if look.initial else size,
        markerfacecolor=ax.get_facecolor() if look.initial else look.colour,
        zorder=2.1 if look.initial else 2.2,
        label=look.label,
    )
    return line


def _shade(ax: "Axes", rows: pd.DataFrame, band: Band, look: style.Look) -> None:
    """The band, if there is one."""
    low, high = _bands.edges(rows, band)
    if not low.isna().all():
        ax.fill_between(rows["depth"], low, high, color=look.colour, alpha=0.22, linewidth=0)


def brief(lines: Sequence[Any], looks: Sequence[style.Look], told: Sequence[Any]) -> list[Any]:
    """Handles where one stands for all initialisations; none if that would not say the same."""
    from matplotlib.lines import Line2D

    begun = [line for line, look in zip(lines, looks, strict=True) if look.initial]
    trained = {look.base: look.colour for look in looks if not look.initial}
    plain = all(
        look.label == f"{look.base}, at initialisation" and trained.get(look.base) == look.colour
        for look in looks
        if look.initial
    )
    if len(begun) < 2 or not plain:
        return []
    stands = Line2D([], [], label="at initialisation", color="0.4", alpha=begun[0].get_alpha())
    stands.set(linestyle="--", marker="o", markersize=begun[0].get_markersize())
    stands.set_markerfacecolor(begun[0].get_markerfacecolor())
    rest = [handle for handle in told if handle not in begun]
    after = max(i for i, handle in enumerate(rest) if handle in lines) + 1
    return [*rest[:after], stands, *rest[after:]]


def _told_bands(sheet: Page, curves: Sequence[Curve], band: Band) -> list[str]:
    """What the legend says of bands: nothing of those that no one can see beside their line."""
    ax = sheet.ax
    own = band is not None and any(_bands.seen(ax, *_bands.edges(c.rows, band)) for c in curves)
    nulls = [rows for curve in curves for _, rows in curve.nulls]
    grey = any(_bands.seen(ax, *_bands.edges(rows, "std")) for rows in nulls)
    return ([BANDS[band]] if own and band else []) + ([_nulls.BAND] if grey else [])


def _say(sheet: Page, curves: Sequence[Curve], options: Options) -> None:
    """Ticks and labels."""
    ax = sheet.ax
    if options.relative_depth:
        ax.set_xlabel(r"relative depth $\ell / L$")
    else:
        ax.set_xlabel(r"layer $\ell$")
        ax.set_xticks(_whole_layers(max(c.raw["layer"].max() for c in curves), sheet))
    run, first = curves[0].result.run, curves[0].raw.iloc[0]
    asked = {k: v for k, v in options.where.items() if k in ("eps", "lam")}
    named = {k: v for k, v in asked.items() if not no_value(first.get(k))}
    ax.set_ylabel(_labels.axis(run, curves[0].raw, normalise=options.normalise, named=named))
    if above := options.above(options.title, besides=_IN_LABELS):
        ax.set_title(words(above))


def _fit_labels(sheet: Page) -> None:
    """No label is longer than its axis; the layout of a page of ours is known once it is laid out.

    The caller's axes stay where they are, and their figure's layout is theirs to run.
    """
    ax = sheet.ax
    for _ in range(2 if sheet.own else 1):
        if sheet.own:
            _fit.lay_out(sheet.figure)
        box = ax.get_window_extent()
        changed = _fit.fit(ax.yaxis.label, box.height if sheet.own else _left(ax))
        changed |= _fit.fit(ax.xaxis.label, box.width)
        changed |= _fit.fit(ax.title, box.width)
        if not changed:
            return


def _left(ax: "Axes") -> float:
    """The least height that the caller's axes will have when their figure is laid out."""
    height, legend = ax.get_window_extent().height, ax.get_legend()
    if ax.figure.figure.get_layout_engine() is None:
        return height
    spec = ax.get_subplotspec()
    rows = spec.get_gridspec().nrows if spec is not None else 1
    under = legend.get_window_extent().height / rows if legend is not None else 0
    return max(0.85 * height - under, 0.4 * height)


def _whole_layers(last: int, sheet: Page) -> list[int]:
    """Ticks at layers that exist: whole, none at 0, and no more than there is room for."""
    from matplotlib.ticker import MaxNLocator

    bins = int(min(12, max(2, sheet.ax.get_window_extent().width / (3 * sheet.figure.dpi / 12))))
    ticks = MaxNLocator(nbins=bins, integer=True, min_n_ticks=1).tick_values(1, last)
    return [int(tick) for tick in ticks if 1 <= tick <= last]


def _bases(curves: Sequence[Curve]) -> str | None:
    """Which U was used, since the same symbol stands for different projections."""
    first = curves[0]
    if not _labels.measure(first.result.run, str(first.raw["metric"].iloc[0]))["bases"]:
        return None
    families: dict[str, dict[str, None]] = {}
    for curve in curves:
        name = str(curve.result.run.get("family", curve.result.model))
        families.setdefault(str(setting(curve.raw, "basis").iloc[0]), {})[name] = None
    if len(families) == 1:
        return f"$U$: {verbatim(next(iter(families)))}"
    told = (verbatim(f"{basis} ({', '.join(names)})") for basis, names in families.items())
    return f"$U$: {', '.join(told)}"
