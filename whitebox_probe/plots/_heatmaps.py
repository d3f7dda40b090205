"""What every heatmap shares: panels of matrices, names beside them, and a colour bar."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots import _fit, style
from whitebox_probe.plots._comparable import check_results, chosen, matrices_of
from whitebox_probe.plots._palette import Palette, colour_map
from whitebox_probe.plots._settings import setting
from whitebox_probe.plots._where import Where
from whitebox_probe.plots.page import Page, Size, extent, page, refuse_size
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 8  # more panels than that are too small to read in a paper
_MOST = 99.5  # percent of values that colours are spread over
_TICKS = 6  # intervals of a scale, at most
_NAMES = 1.1  # inches that the models' names may take


@dataclass(frozen=True, kw_only=True)
class Options(Where):
    """Keywords of every figure of one small matrix a layer.

    Args:
        layers: which to draw, counted from 1; if not given, at most eight, spread over the depth.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: a colour map's name; or colours of the models' names, as a list or a mapping.
        axes: draw in these axes, one a panel, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the panels; if not given, which of several settings was picked, if one was.
        colorbar: beside the panels.
    """

    layers: Sequence[int] | int | None = None
    labels: style.Labels = None
    palette: Palette = None
    axes: Any = None
    size: Size = None
    width: style.Width | None = None
    title: str | None = None
    colorbar: bool = True


@dataclass(frozen=True)
class Scale:
    """What the colours mean: words, the range, and a value to mark.

    An end that is None is where 99.5% of what is drawn ends; of a diverging scale zero is in the
    middle.
    """

    label: str
    low: float | None
    high: float | None
    mark: tuple[float, str] | None = None
    diverging: bool = False

    def spread(self, values: np.ndarray) -> "Scale":
        """The same, with the ends that it lacks."""
        if self.low is not None and self.high is not None:
            return self
        held = values[np.isfinite(values)]
        most = float(np.percentile(np.abs(held), _MOST)) if len(held) else 1.0
        step = 10 ** np.floor(np.log10(most)) / 2 if most > 0 else 1.0
        most = float(np.ceil(most / step) * step) if most > 0 else 1.0
        return replace(self, low=-most if self.diverging else 0.0, high=most)


def draw(
    results: Sequence[Result],
    matrix: str,
    options: Options,
    *,
    scale: Scale,
    form: Callable[[Result, np.ndarray], np.ndarray] | None = None,
    parts: Callable[[Result, int], Sequence[int]] | None = None,
) -> "Figure":
    """One row of panels a result, one panel a layer.

    Args: form: of a result's matrices what is drawn. parts: where lines part rows and columns.

    Raises: ResultError when a result holds no such matrix, or no such layer.
    """
    check_results(results)
    refuse_size(options.axes, options.size, options.width, "axes")
    stacks = [_stack(result, matrix, options) for result in results]
    if form is not None:
        stacks = [form(result, stack) for result, stack in zip(results, stacks, strict=True)]
    looks = style.looks(
        [r.model for r in results],
        initial=style.initial(results),
        nulls=style.nulls(results),
        labels=options.labels,
        palette=None if isinstance(options.palette, str) else options.palette,
    )
    named = isinstance(options.palette, str)
    cmap = "RdBu_r" if scale.diverging and not named else colour_map(options.palette)
    across, _, fixed = extent(options.size, options.width, usual="text", height=1)
    shown = _shown(stacks, options.layers, most=max(2, min(MOST, int((across - 1.3) / 0.5))))
    held = [stack[np.asarray(shown) - 1].ravel() for stack in stacks]
    scale = scale.spread(np.concatenate(held))
    panel = (across - 1.5) / len(shown)
    tall = options.size[1] if options.size else len(stacks) * (panel + 0.08) + 0.5
    with page(
        options.axes,
        inches=(across, tall, fixed),
        shape=(len(stacks), len(shown)),
        panels=f"{len(stacks)} models x {len(shown)} layers",
        layout="compressed",  # square panels, without the gaps that a plain grid would leave
    ) as sheet:
        for row, stack in enumerate(stacks):
            for ax, layer in zip(sheet.axes[row], shown, strict=True):
                image = paint(ax, stack[layer - 1], scale, cmap)
                ax.set(xticks=[], yticks=[])
                for at in parts(results[row], stack.shape[-1]) if parts else ():
                    ax.axhline(at - 0.5, color="white", linewidth=0.5)
                    ax.axvline(at - 0.5, color="white", linewidth=0.5)
                if row == 0:
                    ax.set_title(rf"$\ell={layer}$")
                    _fit.fit(ax.title, 1.1 * ax.get_window_extent().width, most=1)
        if sheet.own:
            _fit.lay_out(sheet.figure)
        for row, result in enumerate(results):
            _name(sheet, row, looks[result.model])
        if options.colorbar:
            add_bar(sheet, image, scale)
        sheet.head(options.above(options.title))
        if sheet.own and options.size is None:
            trim(sheet)
    return sheet.figure


def paint(ax: "Axes", matrix: np.ndarray, scale: Scale, cmap: Any, **more: Any) -> Any:
    """A matrix as an image, without grid and frame."""
    image = ax.imshow(
        matrix, vmin=scale.low, vmax=scale.high, cmap=cmap, interpolation="auto", **more
    )
    if scale.diverging:  # what is left out is not what is zero
        ax.set_facecolor("0.85")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return image


def add_bar(sheet: Page, image: Any, scale: Scale, **more: Any) -> None:
    """The colour bar, no longer than the panels; its label is no longer than it."""
    rows = len(sheet.axes)
    room: dict[str, Any] = {
        "fraction": 0.03,
        "pad": 0.02,
        "aspect": 10 * rows,
        "extend": _beyond(sheet, scale),
    } | more
    bar = sheet.figure.colorbar(image, ax=list(sheet.axes.flat), **room)
    bar.set_label(scale.label)
    bar.outline.set_linewidth(0)
    if sheet.own:
        _fit.lay_out(sheet.figure)
    _ticks(bar, scale)
    if scale.mark is not None:
        bar.ax.axhline(scale.mark[0], color="white", linewidth=1.4)
    _fit.fit(bar.ax.yaxis.label, bar.ax.get_window_extent().height)


def _beyond(sheet: Page, scale: Scale) -> str:
    """At which ends of the bar there are values beyond it, which are drawn in its last colour."""
    drawn = [image.get_array() for ax in sheet.axes.flat for image in ax.images]
    held = np.concatenate([np.ma.masked_invalid(each).compressed() for each in drawn])
    if not len(held):
        return "neither"
    under = scale.low is not None and bool(held.min() < scale.low - 1e-9)
    over = scale.high is not None and bool(held.max() > scale.high + 1e-9)
    return {(1, 1): "both", (1, 0): "min", (0, 1): "max"}.get((under, over), "neither")


def _ticks(bar: Any, scale: Scale) -> None:
    """Round values, and the marked one by its word, as close as their type allows."""
    from matplotlib.ticker import Formatter, MaxNLocator

    low, high = float(scale.low or 0), float(scale.high or 0)
    height = bar.ax.get_window_extent().height / bar.ax.figure.dpi * 72  # points
    needs = _fit.points(bar.ax.yaxis.get_ticklabels()[0]) / height * (high - low)
    ticks: list[float] = [low, high]
    for count in range(_TICKS, 0, -1):
        values = MaxNLocator(nbins=count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        held = [round(float(v), 12) for v in values if low - 1e-9 <= v <= high + 1e-9]
        if len(held) > 1 and held[1] - held[0] > 1.8 * needs:
            ticks = held
            break
    words = [f"{tick:g}" for tick in ticks]
    if not setting("text.usetex"):  # TeX has no such character; it makes its own of $-$
        words = [Formatter.fix_minus(word) for word in words]
    if scale.mark is not None:
        value, word = scale.mark
        far = [t for t in ticks if abs(t - value) > 1.5 * needs]
        ticks, words = [*far, value], [*(f"{t:g}" for t in far), word]
    bar.set_ticks(ticks, labels=words)


def trim(sheet: Page) -> None:
    """Panels are as large as the width lets them be: take off the height that is left over."""
    _fit.lay_out(sheet.figure)
    sheet.figure.set_figheight(sheet.figure.get_tightbbox().height + 0.06)


def _name(sheet: Page, row: int, look: style.Look) -> None:
    """The model's name, before its row."""
    ax = sheet.axes[row, 0]
    ax.set_ylabel(
        look.label.replace(", at", ",\nat"),
        rotation=0,
        ha="right",
        va="center",
        fontsize=sheet.points(7, ax=ax),
        color=look.colour,
    )
    _fit.fit(
        ax.yaxis.label,
        min(_NAMES, sheet.figure.get_figwidth() / 4) * sheet.figure.dpi,
        across=max(ax.get_window_extent().height, 0.3 * sheet.figure.dpi),
    )


def _shown(
    stacks: Sequence[np.ndarray], layers: Sequence[int] | int | None, *, most: int
) -> list[int]:
    depth = min(len(stack) for stack in stacks)
    spread = sorted(set(np.linspace(1, depth, min(depth, most)).round().astype(int).tolist()))
    known = range(1, depth + 1)
    return chosen(layers, known, "layer", "the results have layers", usual=spread)


def _stack(result: Result, matrix: str, options: Options) -> np.ndarray:
    stack = matrices_of(result, matrix, options.where)
    if stack is None or stack.ndim != 3:
        held = uncopied(result, "matrices")
        square = sorted(name for name, each in held.items() if each.ndim == 3)
        raise ResultError(
            f"the result of {result.model} holds no matrix '{matrix}'",
            f"it holds: {', '.join(square) or 'none'}",
            "Probe with the metric that gives it, such as 'coherence'",
        )
    return stack
