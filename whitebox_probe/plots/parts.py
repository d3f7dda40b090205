"""The attention's change of R^c, taken apart layer by layer."""

from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots import _fit, _legend, style
from whitebox_probe.plots._comparable import check_results, expect_dependence
from whitebox_probe.plots._palette import Palette, colours
from whitebox_probe.plots._where import Where
from whitebox_probe.plots.kind import figure
from whitebox_probe.plots.page import Size, extent, page, refuse_size
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHOLE = "attention_rate_change"
PARTS = {"common": "shift of all tokens", "radial": "along the tokens", "tangential": "across them"}
NULLS = {"shuffled": ("updates on other tokens", "x"), "mean": ("mean of other samples", "+")}
COLOURS = ("#E69F00", "#56B4E9", "#0072B2")


@figure(
    takes="results",
    rows=(WHOLE, *(f"{WHOLE}_{part}" for part in PARTS)),
    options=Where,
    exempt={"palette": "its colours are of the parts, and the same for every model"},
)
def rate_change_parts(
    *results: Result,
    labels: style.Labels = None,
    palette: Palette = None,
    axes: Any = None,
    size: Size = None,
    width: style.Width | None = None,
    title: str | None = None,
    **options: Any,
) -> "Figure":
    """Which part of the attention's update changes R^c, in bars that add up; one panel a model.

    Bars from zero are the common shift of all tokens, and what lies along and across each of them;
    the black line is the whole change. Crosses are what the same updates do on other tokens, and
    what the mean update of other samples does, where a result holds them: they are no part of it.

    Args:
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of the parts: a list of three, a mapping from `common`, `radial` and
            `tangential`, or a colour map's name.
        axes: draw in these axes, one a model, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or by the number of models.
        title: above the panels; if not given, which of several settings was picked, if one was.

    Raises: ResultError when a result lacks a part.
    """
    check_results(results)
    refuse_size(axes, size, width, "axes")
    looks = style.looks(
        [result.model for result in results], initial=style.initial(results), labels=labels
    )
    usual: style.Width = "column" if len(results) == 1 else "text"
    inches = extent(size, width, usual=usual, height=2.3)
    of = dict(zip(PARTS, PARTS, strict=True))
    tints = list(colours(of, COLOURS if palette is None else palette).values())
    with page(
        axes, inches=inches, shape=(1, len(results)), panels=f"{len(results)} models"
    ) as sheet:
        handles: list[Any] = []
        for ax, result in zip(sheet.axes[0], results, strict=True):
            handles = _panel(ax, result, tints, Where(**options))
            ax.set_title(looks[result.model].label, color=looks[result.model].colour)
            ax.set_xlabel(r"layer $\ell$")
        sheet.ax.set_ylabel(r"change of $R^c$ [nats]")
        _legend.draw(sheet, handles, bands=[], note=None)
        sheet.head(Where(**options).above(title))
        if sheet.own:
            _fit.lay_out(sheet.figure)
        for ax in sheet.axes[0]:
            _fit.fit(ax.title, ax.get_window_extent().width)
    return sheet.figure


def _panel(ax: Any, result: Result, tints: list[Any], which: Where) -> list[Any]:
    held = set(result.frame["metric"])
    lacking = [part for part in PARTS if f"{WHOLE}_{part}" not in held]
    if lacking or WHOLE not in held:
        name = f"{WHOLE}_{lacking[0]}" if lacking else WHOLE
        raise ResultError(
            f"'{name}' is not in the result of {result.model}",
            "the change is drawn with all of its parts",
            f"Probe with {WHOLE}, {', '.join(f'{WHOLE}_{part}' for part in PARTS)}",
        )
    expect_dependence([result], WHOLE, which.where)
    handles = []
    above = below = np.zeros(1)
    for (part, words), colour in zip(PARTS.items(), tints, strict=True):
        curve = result.curve(f"{WHOLE}_{part}", **which.where)
        values = curve["mean"].to_numpy()
        base = np.where(values >= 0, above, below)
        handles.append(
            ax.bar(curve["layer"], values, bottom=base, color=colour, width=0.75, label=words)
        )
        above, below = above + values.clip(min=0), below + values.clip(max=0)
    whole = result.curve(WHOLE, **which.where)
    (line,) = ax.plot(
        whole["layer"], whole["mean"], color="black", marker="o", markersize=2.5, label="whole"
    )
    handles.append(line)
    for null, (words, marker) in NULLS.items():
        if f"{WHOLE}_{null}" in held:
            curve = result.curve(f"{WHOLE}_{null}", **which.where)
            (cross,) = ax.plot(
                curve["layer"], curve["mean"], linestyle="", marker=marker, color="0.35",
                markersize=4, label=words,
            )  # fmt: skip
            handles.append(cross)
    ax.axhline(0, color="0.4", linewidth=0.6)
    ax.set_xticks([1, int(whole["layer"].max())])
    return handles
