"""What every figure of a measure against depth shares: its options, and how it is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots import _fit, _labels, _legend, _nulls, _settings, style
from whitebox_probe.plots._comparable import BANDS, check_curves, check_options, check_results
from whitebox_probe.plots._palette import Palette
from whitebox_probe.plots.page import Page, Size, extent, page, refuse_size
from whitebox_probe.results.forms import normal_form
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Band = Literal["ci", "std", "sem"] | None
Normalise = Literal["per_token", "per_entry", "position", "null_share"] | None
HEIGHT: dict[str, float] = {"column": 2.15, "text": 2.6}  # inches, without the legend


@dataclass(frozen=True, kw_only=True)
class Options:
    """Keywords of every figure of a measure against depth.

    Args:
        site: which one, if the measure was taken at several.
        basis: which one, if it was taken in several.
        convention: which one, if it was taken in both.
        eps: which one, if it was taken with several.
        lam: which one, if it was taken with several.
        null: which one, if a result holds nulls among its rows.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: how nats are brought to a common size (`results.FORMS`), such as `per_token`.
        nulls: of `wp.nulls`, or several of them in a list; drawn under the curve of their model.
        bounds: dotted lines at the smallest and largest value of the official convention.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes.
        legend: under the axes, or inside those that are given.
    """

    site: str | None = None
    basis: str | None = None
    convention: str | None = None
    eps: float | None = None
    lam: float | None = None
    null: str | None = None
    band: Band = "ci"
    relative_depth: bool = False
    normalise: Normalise = None
    nulls: _nulls.Nulls = ()
    bounds: bool = False
    labels: style.Labels = None
    palette: Palette = None
    ax: "Axes | None" = None
    size: Size = None
    width: style.Width | None = None
    title: str | None = None
    legend: bool = True

    @property
    def where(self) -> dict[str, Any]:
        """What picks the rows, besides the site."""
        names = ("basis", "convention", "eps", "lam", "null")
        return {k: getattr(self, k) for k in names if getattr(self, k) is not None}


@dataclass(frozen=True)
class Curve:
    """One result's curve in the form that is drawn, with its nulls; `depth` is where it stands."""

    result: Result
    raw: pd.DataFrame
    rows: pd.DataFrame
    nulls: list[tuple[Result, pd.DataFrame]]


def draw(results: Sequence[Result], metric: str, options: Options) -> "Figure":
    """One measure of each result against depth, with its band, over the bands of its nulls.

    Raises: ResultError when a result lacks the measure, or what is drawn would not be comparable.
    """
    check_results(results)
    check_options(results, metric, options.band, options.normalise)
    refuse_size(options.ax, options.size, options.width, "ax")
    curves = _curves(results, metric, options)
    check_curves(results, [c.raw for c in curves], metric, options.normalise)
    limits = _bounds(results, metric, options.normalise) if options.bounds else ()
    looks = style.looks([r.model for r in results], labels=options.labels, palette=options.palette)
    inches = extent(options.size, options.width, usual="column", height=HEIGHT)
    with page(options.ax, inches=inches, panels="one") as sheet:
        handles, banded = [], False
        for curve in curves:
            look = looks[curve.result.model]
            under = [
                _nulls.draw(sheet.ax, null, rows, look, among=len(curves), at=i)
                for i, (null, rows) in enumerate(curve.nulls)
            ]
            handles += [_line(sheet.ax, curve.rows, look), *under]
            banded |= _shade(sheet.ax, curve.rows, options.band, look)
        handles += _limit_lines(sheet.ax, limits)
        _say(sheet, curves, options)
        if options.legend:
            bands = [BANDS[options.band]] if options.band and banded else []
            bands += [_nulls.BAND] if any(_nulls.spread(c.nulls) for c in curves) else []
            _legend.draw(sheet, handles, bands=bands, note=_bases(curves))
        _fit_labels(sheet)
    return sheet.figure


def _curves(results: Sequence[Result], metric: str, options: Options) -> list[Curve]:
    null_of = _nulls.by_model(results, options.nulls)
    found = []
    for result in results:
        raw = result.curve(metric, options.site, **options.where)
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
        found.append(Curve(result, raw, drawn(raw), under))
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


def _shade(ax: "Axes", rows: pd.DataFrame, band: Band, look: style.Look) -> bool:
    """The band, if there is one."""
    if band == "ci":
        low, high = rows["ci_low"], rows["ci_high"]
    else:
        spread = rows[band] if band is not None else rows["mean"] * float("nan")
        low, high = rows["mean"] - spread, rows["mean"] + spread
    if low.isna().all():
        return False
    ax.fill_between(rows["depth"], low, high, color=look.colour, alpha=0.22, linewidth=0)
    return True


def _say(sheet: Page, curves: Sequence[Curve], options: Options) -> None:
    """Ticks and labels."""
    ax = sheet.ax
    if options.relative_depth:
        ax.set_xlabel(r"relative depth $\ell / L$")
    else:
        ax.set_xlabel(r"layer $\ell$")
        ax.set_xticks(_whole_layers(max(c.raw["layer"].max() for c in curves), sheet))
    named = {k: v for k, v in options.where.items() if k in ("eps", "lam")}
    run = curves[0].result.run
    ax.set_ylabel(_labels.axis(run, curves[0].raw, normalise=options.normalise, named=named))
    if options.title:
        ax.set_title(options.title)


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


def _bounds(results: Sequence[Result], metric: str, normalise: Normalise) -> tuple[float, ...]:
    """The smallest and the largest value possible, the same for all results."""
    found = set()
    for result in results:
        pair = result.run.get("bounds", {}).get(metric)
        if pair is None:
            raise ResultError(
                f"the result of {result.model} has no bounds of '{metric}'",
                "only compression in the official convention has them",
                "Probe with convention='official', or leave out bounds",
            )
        limits = normal_form(result, metric, normalise)(pd.DataFrame({"mean": pair, "layer": 1}))
        found.add(tuple(limits["mean"]))
    if len(found) > 1:
        raise ResultError(
            "the results have different bounds",
            "their models differ in size",
            "Draw them in separate figures, or leave out bounds",
        )
    return found.pop()


def _limit_lines(ax: "Axes", limits: Sequence[float]) -> list[Any]:
    """Of which the first stands for both in the legend."""
    label = "smallest and largest value possible"
    return [
        ax.axhline(value, color="0.35", linestyle=":", linewidth=1, label=label, zorder=1.5)
        for value in limits
    ][:1]


def _bases(curves: Sequence[Curve]) -> str | None:
    """Which U was used, since the same symbol stands for different projections."""
    first = curves[0]
    if not _labels.measure(first.result.run, str(first.raw["metric"].iloc[0]))["bases"]:
        return None
    families: dict[str, dict[str, None]] = {}
    for curve in curves:
        name = str(curve.result.run.get("family", curve.result.model))
        families.setdefault(str(curve.raw["basis"].iloc[0]), {})[name] = None
    if len(families) == 1:
        return f"$U$: {next(iter(families))}"
    told = (f"{basis} ({', '.join(names)})" for basis, names in families.items())
    return f"$U$: {', '.join(told)}"
