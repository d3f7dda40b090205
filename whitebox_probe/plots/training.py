"""Measures over a training: the checkpoints' results against their steps."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ProbeError, ResultError, nearest
from whitebox_probe.plots import _fit, _labels, _sequence, style
from whitebox_probe.plots._comparable import (
    check_alike,
    check_options,
    check_results,
    chosen,
    expect_dependence,
)
from whitebox_probe.plots._names import verbatim
from whitebox_probe.plots._names import words as _words
from whitebox_probe.plots._palette import Palette, map_of_values
from whitebox_probe.plots._where import Where
from whitebox_probe.plots.kind import figure
from whitebox_probe.plots.page import Page, Size, extent, page, refuse_size
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMS = ("curves", "heatmap")
_INIT = "-init"
_FARTHEST = 1e300
_LAST_NUMBER = re.compile(r"\d+(?!.*\d)")


@figure(takes="results", options=Where)
def over_steps(
    *results: Result,
    metric: str = "compression",
    steps: Sequence[float] | None = None,
    form: Literal["curves", "heatmap"] = "curves",
    layers: Sequence[int] | int | None = None,
    site: str | None = None,
    log: bool | None = None,
    labels: style.Labels = None,
    palette: Palette = None,
    ax: "Axes | None" = None,
    size: Size = None,
    width: style.Width | None = None,
    title: str | None = None,
    **options: Any,
) -> "Figure":
    """A measure of each layer over a training, one result a checkpoint.

    Args:
        metric: its name in the table.
        steps: of the results, in their order; if not given, the last number in each one's name
            (`ckpt-1000`), and 0 for an initialisation (`-init`). Where those tell no steps apart,
            results are drawn side by side, in their order, under their names.
        form: `curves`, one a layer, dark for the first ones; or a `heatmap` of layers by steps.
        layers: which to draw, counted from 1; all if not given.
        site: which one, if the measure was taken at several.
        log: whether steps are on a logarithmic axis, whose 0 is kept; if they span a factor of a
            hundred, if not given.
        labels: what results are called, under a heatmap or side by side: a mapping from their
            names, or a list.
        palette: a colour map's name.
        ax: draw in these axes, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `column`, if not given.
        title: above the axes; if not given, which of several settings was picked, if one was.

    Raises: ResultError for fewer than two results, or of different measures; ProbeError for steps
        that are not known, or a form that there is not.
    """
    check_results(results)
    check_options(results, metric, None, None)
    refuse_size(ax, size, width, "ax")
    if form not in FORMS:
        raise ProbeError(f"there is no form '{form}'", "it is unknown", nearest(str(form), FORMS))
    picked = Where(**options)
    expect_dependence(results, metric, picked.where)
    found = [result.curve(metric, site, **picked.where) for result in results]
    check_alike(results, found, metric)
    at, numbered = _steps(results, steps)
    order = np.argsort(at, kind="stable")
    at, ordered = at[order], [results[i] for i in order]
    curves = [found[i] for i in order]
    known = _layers(ordered, curves)
    means = np.stack([curve["mean"].to_numpy() for curve in curves])  # (steps, layers)
    shown = chosen(layers, known, "layer", "the results have layers")
    means = means[:, [known.index(layer) for layer in shown]]
    inches = extent(size, width, usual="column", height={"column": 2.3, "text": 2.9})
    with page(ax, inches=inches, panels="one") as sheet:
        label = _labels.axis(ordered[0].run, curves[0])
        named = style.named([result.model for result in ordered], labels)
        words = [
            named.get(r.model, _told(step) if numbered else verbatim(r.model))
            for r, step in zip(ordered, at, strict=True)
        ]
        if form == "curves":
            _curves(sheet, at, means, shown, _sequence.colours(len(shown), palette), label)
            if numbered:
                _axis(sheet, at, log)
            else:
                _under(sheet, words, first=1)
        else:
            _heatmap(sheet, means, shown, words, map_of_values(palette, "viridis"), label)
            if not numbered:
                _under(sheet, words, first=0)
        sheet.ax.set_xlabel("training step" if numbered else "checkpoint")
        if above := picked.above(title, besides=("convention", "prenorm")):
            sheet.ax.set_title(_words(above))
        if sheet.own:
            _fit.lay_out(sheet.figure)
            for text, room in (
                (sheet.ax.yaxis.label, sheet.ax.get_window_extent().height),
                (sheet.ax.title, sheet.ax.get_window_extent().width),
            ):
                _fit.fit(text, room)
    return sheet.figure


def _steps(results: Sequence[Result], steps: Sequence[float] | None) -> tuple[np.ndarray, bool]:
    """The step of each result, and whether it is one; else its place among them.

    Raises: ResultError for fewer than two results; ProbeError for steps of another number, or two
        that are the same, or one that no axis holds.
    """
    names = [result.model for result in results]
    if len(names) < 2:
        raise ResultError(
            "one result is no training", "a step is drawn beside others", "Pass two or more"
        )
    if steps is None:
        told = [_number(name) for name in names]
        apart = len(set(told)) == len(told) and any(not n.endswith(_INIT) for n in names)
        if apart and np.isfinite(told).all():
            return np.asarray(told), True
        return np.arange(1.0, len(names) + 1), False
    if len(steps) != len(names) or len(set(steps)) < len(names):
        raise ProbeError(
            f"{len(set(steps))} steps are given for {len(names)} results",
            "each result is of its own step",
            "Pass as many, all different",
        )
    if max(map(abs, steps)) > _FARTHEST:
        raise ProbeError(
            f"a step is {max(steps, key=abs):g}",
            "an axis cannot hold it",
            f"Pass steps of at most {_FARTHEST:g}",
        )
    return np.asarray(steps, dtype=float), True


def _layers(results: Sequence[Result], curves: Sequence[pd.DataFrame]) -> list[int]:
    """The layers of all steps.

    Raises: ResultError where they are not the same.
    """
    known: list[int] = curves[0]["layer"].tolist()
    for result, curve in zip(results, curves, strict=True):
        if curve["layer"].tolist() != known:
            raise ResultError(
                f"{results[0].model} has it at {len(known)} layers, {result.model} at {len(curve)}",
                "steps are of one network, and have its layers",
                "Draw models of several depths with curves",
            )
    return known


def _number(name: str) -> float:
    """The last number in a name; 0 of an initialisation, NaN where there is none."""
    if name.endswith(_INIT):
        return 0.0
    found = _LAST_NUMBER.search(name)
    return float(found.group()) if found else float("nan")


def _under(sheet: Page, words: Sequence[str], *, first: int) -> None:
    """Names of checkpoints under their places."""
    ax = sheet.ax
    small = sheet.points(6, ax=ax)
    every = -(-len(words) // 12)
    at = range(first, first + len(words), every)
    ax.set_xticks(at, words[::every], fontsize=small)
    length = _fit.ruler(ax.get_xticklabels()[0])
    room = 0.9 * ax.get_window_extent().width / len(at)
    lines = [_fit.wrapped(word, room, length) for word in words[::every]]
    flat = len(at) <= 5 or all(len(e) <= 6 and max(map(length, e)) <= room for e in lines)
    if not flat:  # aslant, two lines each
        most = max(map(length, words)) / 2
        lines = [_fit.wrapped(word, 1.3 * most, length) for word in words[::every]]
    slant: dict[str, Any] = (
        {} if flat else {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    )
    ax.set_xticks(at, ["\n".join(each) for each in lines], fontsize=small, **slant)


def _curves(
    sheet: Page, at: np.ndarray, means: np.ndarray, layers: Sequence[int], of: list[Any], label: str
) -> None:
    for values, colour in zip(means.T, of, strict=True):
        sheet.ax.plot(at, values, color=colour, marker="o", markersize=2.2)
    sheet.ax.set_ylabel(label)
    _sequence.add_bar(sheet.ax, of, layers, r"layer $\ell$")


def _axis(sheet: Page, at: np.ndarray, log: bool | None) -> None:
    positive = at[at > 0]
    wide = len(positive) > 1 and positive.max() / positive.min() >= 100
    if log or (log is None and wide):
        sheet.ax.set_xscale("symlog", linthresh=float(positive.min()) if len(positive) else 1.0)


def _heatmap(
    sheet: Page,
    means: np.ndarray,
    layers: Sequence[int],
    words: Sequence[str],
    cmap: Any,
    label: str,
) -> None:
    image = sheet.ax.imshow(
        means.T, cmap=cmap, origin="lower", aspect="auto", interpolation="nearest"
    )
    sheet.ax.grid(visible=False)
    step = max(1, -(-len(words) // 8))
    sheet.ax.set_xticks(range(0, len(words), step), words[::step])
    rows = max(1, -(-len(layers) // 12))
    sheet.ax.set_yticks(range(0, len(layers), rows), [str(layer) for layer in layers[::rows]])
    sheet.ax.set_ylabel(r"layer $\ell$")
    bar = sheet.figure.colorbar(image, ax=sheet.ax, pad=0.02, aspect=25)
    bar.outline.set_linewidth(0)
    bar.set_label(label)
    _fit.fit(bar.ax.yaxis.label, sheet.ax.get_window_extent().height)


def _told(step: float) -> str:
    return f"{step:,.0f}" if step == round(step) else f"{step:g}"
