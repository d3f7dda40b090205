"""Several measures of the same models, side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from whitebox_probe._core.arguments import expect, optional, whole
from whitebox_probe._core.errors import ResultError, nearest
from whitebox_probe.plots import _bands, _curves, _ends, _fit, _legend, style
from whitebox_probe.plots._comparable import BANDS, check_results
from whitebox_probe.plots._curve_options import Band
from whitebox_probe.plots._curve_options import Options as CurveOptions
from whitebox_probe.plots._palette import Palette
from whitebox_probe.plots._where import Where
from whitebox_probe.plots.kind import figure
from whitebox_probe.plots.page import Page, Size, extent, page, refuse_size
from whitebox_probe.results.forms import in_nats
from whitebox_probe.results.result import Result
from whitebox_probe.results.table import depends_on, no_value, not_measured, written

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OF_SOME = ("site", "convention")
_IN_LABELS = ("eps", "lam", "convention", "prenorm")
USUAL = ("compression", "coding_rate", "rate_reduction", "l0")
_TALL = 1.75  # inches a row
_MOST = 100


@dataclass(frozen=True, kw_only=True)
class Options(Where):
    """Keywords of every figure of several measures.

    Args:
        columns: panels in a row; two, or three of more than four, if not given.
        site: which one, of measures that were taken at several.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: how nats are brought to a common size, `per_token` or `per_entry`; measures that
            are not in nats stay as they are.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        axes: draw in these axes, one a measure, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the panels; if not given, which of several settings was picked, if one was.
        legend: under the panels (true, or `auto`), or none (false); names at the `end` of each line
            in the panels at the right, where they fit.
    """

    columns: int | None = None
    site: str | None = None
    band: Band = "ci"
    relative_depth: bool = False
    normalise: Literal["per_token", "per_entry"] | None = None
    labels: style.Labels = None
    palette: Palette = None
    axes: Any = None
    size: Size = None
    width: style.Width | None = None
    title: str | None = None
    legend: _ends.Legend = True


@figure(takes="results", options=Options)
def panel(*results: Result, metrics: Sequence[str] | str | None = None, **options: Any) -> "Figure":
    """Several measures against depth, one panel each, with one legend for all of them.

    Args:
        metrics: names in the table; if not given, those of R^c, R, their difference and l0 that
            every result holds.

    Raises: ResultError when a result lacks a measure, and where there is none to draw.
    """
    check_results(results)
    return draw(results, _asked(results, metrics), Options(**options))


def draw(results: Sequence[Result], metrics: Sequence[str], options: Options) -> "Figure":
    """One panel a measure.

    Raises: ResultError when a result lacks one.
    """
    refuse_size(options.axes, options.size, options.width, "axes")
    _expect_held(results[0], metrics, options)
    columns = expect("columns", options.columns, optional(whole(1, most=_MOST)), "panels in a row")
    across = columns or (3 if len(metrics) > 4 else min(2, len(metrics)))
    rows = math.ceil(len(metrics) / across)
    inches = extent(options.size, options.width, usual="text", height=rows * _TALL)
    shape = (1, len(metrics)) if options.axes is not None else (rows, across)
    looks = style.looks(
        [r.model for r in results],
        initial=style.initial(results),
        nulls=style.nulls(results),
        labels=options.labels,
        palette=options.palette,
    )
    measures = f"{len(metrics)} measures"
    with page(options.axes, inches=inches, shape=shape, panels=measures) as sheet:
        cells = list(sheet.axes.flat)
        drawn = cells[: len(metrics)]
        for ax, metric in zip(drawn, metrics, strict=True):
            one = CurveOptions(
                **_asked_of(results[0], metric, options),
                band=options.band,
                relative_depth=options.relative_depth,
                labels=options.labels,
                palette=options.palette,
                ax=ax,
                legend=False,
                title="",
            )
            _curves.draw(results, metric, one)
        for ax in cells[len(metrics) :]:
            ax.remove()
        for ax in drawn[: len(metrics) - across]:
            ax.set_xlabel("")
        names = {}
        if options.legend == "end":
            names = _at_ends(sheet, cells, len(metrics), across, len(results))
        if options.legend:
            lines = list(drawn[0].lines)[: len(results)]
            told = [] if names else lines
            seen = any(_bands.shaded(ax) for ax in drawn)
            _legend.draw(
                sheet,
                told,
                bands=[BANDS[options.band]] if options.band and seen else [],
                note=None,
                brief=_curves.brief(lines, list(looks.values()), told) if told else [],
            )
        sheet.head(options.above(options.title, besides=_IN_LABELS))
        if sheet.own:
            _fit.lay_out(sheet.figure)
            for ax in drawn:
                _fit.fit(ax.yaxis.label, ax.get_window_extent().height)
        for ax, texts in names.items():
            _ends.spread(ax, texts)
    return sheet.figure


def _at_ends(sheet: Page, cells: Sequence[Any], count: int, across: int, lines: int) -> Any:
    """Panels at the right -> the names beside them; none at all where some do not fit."""
    found = {}
    for i, ax in enumerate(cells[:count]):
        if (i + 1) % across == 0 or i == count - 1:
            found[ax] = _ends.draw(sheet, ax, list(ax.lines)[:lines])
    if all(found.values()):
        return found
    for text in (text for texts in found.values() for text in texts):
        text.remove()
    return {}


def _asked(results: Sequence[Result], metrics: Sequence[str] | str | None) -> list[str]:
    """The measures that are drawn.

    Raises: ResultError where there is none.
    """
    if metrics is not None:
        found = [metrics] if isinstance(metrics, str) else list(metrics)
    else:
        held = set.intersection(*(set(result.frame["metric"]) for result in results))
        found = [metric for metric in USUAL if metric in held]
    if not found:
        raise ResultError(
            "no measure is named" if metrics is not None else f"'{USUAL[0]}' is not in the results",
            "there is nothing to draw",
            "Name some that they hold with metrics=[...]",
        )
    return found


def _asked_of(result: Result, metric: str, options: Options) -> dict[str, Any]:
    """What picks the rows of one measure: site and convention only where it has them.

    Of other settings those that it depends on.
    """
    rows = result.frame[result.frame["metric"] == metric]
    found: dict[str, Any] = {
        name: value
        for name, value in options.where.items()
        if name == "null" or depends_on(rows, name)
    }
    for name in _OF_SOME:
        asked = getattr(options, name)
        found[name] = asked if name in rows and asked in set(rows[name]) else None
    if options.normalise is not None and in_nats(result, metric):
        found["normalise"] = options.normalise
    return found


def _expect_held(result: Result, metrics: Sequence[str], options: Options) -> None:
    """Check that what is asked for applies to one of the measures at least.

    Raises: ResultError.
    """
    rows = result.frame[result.frame["metric"].isin(metrics)]
    for name in dict.fromkeys((*_OF_SOME, *options.where)):
        asked, held = getattr(options, name), rows[name] if name in rows else pd.Series()
        if asked is None or rows.empty:
            continue
        taken = rows if name in _OF_SOME else result.frame  # others may have been taken so
        if name not in taken or not_measured(taken, name, [asked]):
            known = sorted(written(value) for value in set(held) if not no_value(value))
            raise ResultError(
                f"no measure of this figure has {name}={written(asked)}",
                "none was taken so",
                nearest(written(asked), known) if known else f"Leave out {name}=",
            )
    if options.normalise is not None and not any(in_nats(result, metric) for metric in metrics):
        raise ResultError(
            f"nothing in this figure can be drawn {options.normalise.replace('_', ' ')}",
            "none of its measures is in nats",
            "Leave out normalise=",
        )
