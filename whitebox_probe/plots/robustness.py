"""The audit's other settings: which of them overturn which verdict."""

from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots import _fit, style
from whitebox_probe.plots._names import verbatim, words
from whitebox_probe.plots._palette import Palette
from whitebox_probe.plots.kind import figure
from whitebox_probe.plots.page import Size, extent, page, refuse_size

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from whitebox_probe.auditing.verdicts import Audit

AGREES, FLIPS, NEITHER = "agrees", "flips", "does not count"
COLOURS = {AGREES: "#A6D8C6", FLIPS: "#D55E00", NEITHER: "#D9D9D9"}
SIGNS = {AGREES: "", FLIPS: "×", NEITHER: "·"}


@figure(takes="audit")
def robustness(
    found: "Audit",
    *,
    labels: style.Labels = None,
    palette: Palette = None,
    axes: Any = None,
    size: Size = None,
    width: style.Width | None = None,
    title: str | None = None,
) -> "Figure":
    """Whether the verdict on each claim stands under each other setting, one panel a model.

    Green agrees with the usual setting, orange with a cross overturns it; grey with a dot takes the
    claim its meaning, or has nothing to judge. Empty: the claim does not depend on the setting.

    Args:
        found: from `wp.audit`, with other settings.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of the models' names: a list, a mapping, or a colour map's name.
        axes: draw in these axes, one a model, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text`, if not given.
        title: above the panels.

    Raises: ResultError for an audit without other settings.
    """
    refuse_size(axes, size, width, "axes")
    table = found.robustness
    if table.empty:
        raise ResultError(
            "there is nothing to draw",
            "the audit looked at no other settings",
            "Audit with robustness=True",
        )
    models = list(dict.fromkeys(table["model"]))
    claims = [c for c in dict.fromkeys(found.frame["claim"]) if c in set(table["claim"])]
    results = list(found.results.values())
    looks = style.looks(models, initial=style.initial(results), labels=labels, palette=palette)
    settings = {m: list(dict.fromkeys(table[table["model"] == m]["setting"])) for m in models}
    across, _, fixed = extent(size, width, usual="text", height=1)
    tall = size[1] if size else sum(0.19 * len(claims) + 0.95 for _ in models)
    with page(
        axes, inches=(across, tall, fixed), shape=(len(models), 1), panels=f"{len(models)} models"
    ) as sheet:
        for ax, model in zip(sheet.axes[:, 0], models, strict=True):
            of = table[table["model"] == model]
            _panel(ax, of, claims, settings[model], sheet)
            ax.set_title(looks[model].label, color=looks[model].colour, fontsize=sheet.points(7))
        sheet.head(title)
        if sheet.own:
            note = "green: agrees    × overturns the verdict    · does not count    "
            note += "empty: no part of the claim"
            sheet.figure.supxlabel(words(note), fontsize=sheet.points(6.5), color="0.3")
            _fit.lay_out(sheet.figure)
        for ax in sheet.axes[:, 0]:
            _fit.fit(ax.title, ax.get_window_extent().width)
    return sheet.figure


def _panel(ax: Any, of: Any, claims: list[str], settings: list[str], sheet: Any) -> None:
    from matplotlib.colors import to_rgb

    grid = np.ones((len(claims), len(settings), 3))
    for row in of.to_dict("records"):
        i, j = claims.index(row["claim"]), settings.index(row["setting"])
        word = NEITHER if not row["counts"] else AGREES if row["agrees"] else FLIPS
        grid[i, j] = to_rgb(COLOURS[word])
        ax.text(
            j, i, verbatim(SIGNS[word]), ha="center", va="center", fontsize=sheet.points(7, ax=ax)
        )
    ax.imshow(grid, aspect="auto", interpolation="nearest")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    small = sheet.points(6, ax=ax)
    ax.set_xticks(
        range(len(settings)), map(verbatim, settings), rotation=35, ha="right", fontsize=small
    )
    ax.set_yticks(range(len(claims)), map(verbatim, claims), fontsize=small)
    ax.tick_params(length=0)
