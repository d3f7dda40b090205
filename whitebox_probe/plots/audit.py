"""Verdicts on a page: one row a claim, one column a model."""

import re
import textwrap
from typing import TYPE_CHECKING, Any

import pandas as pd

from whitebox_probe._core.digits import number
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.plots import _fit, style
from whitebox_probe.plots._names import verbatim, words
from whitebox_probe.plots._palette import Palette
from whitebox_probe.plots.kind import figure
from whitebox_probe.plots.page import Page, Size, extent, page, refuse_size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from whitebox_probe.auditing.verdicts import Audit

TALL = 9.4  # inches: the height of a page's text block
CLAIM = 1.35  # inches that the claims' words may take
# Colour and word both say it: no verdict rests on colour alone.
LOOKS = {
    "supported": "#009E73",
    "not supported": "#7F7F7F",
    "contradicted": "#D55E00",
    "depends on": "#B07A00",
    "not applicable": "#7F7F7F",
}


# What an axis says already needs no words above it.
_UNITS = {"-1 orthogonal, 0 chance, 1 identical": "(0 is chance)"}


@figure(takes="audit")
def audit(
    found: "Audit",
    *,
    labels: style.Labels = None,
    palette: Palette = None,
    axes: Any = None,
    size: Size = None,
    width: style.Width | None = None,
    title: str | None = None,
) -> "Figure":
    """The measure behind each claim against depth, for each model, with its verdict.

    Above each curve stand the verdict and the effect with its unit. The grey line and band are the
    mean and range of draws of random weights; coloured bands are 95% intervals over samples.

    Args:
        found: from `wp.audit`.
        labels: what models are called: a mapping from their names, or a list in their order.
        palette: colours of models: a list, a mapping from their names, or a colour map's name.
        axes: draw in these axes, one a claim and model, row by row, and return their figure.
        size: (width, height) in inches.
        width: `column` or `text` of a paper; as your figure.figsize, or `text` (wider for more
            than four models), if not given.
        title: above the page.

    Raises: ProbeError.
    """
    refuse_size(axes, size, width, "axes")
    frame = found.frame
    models = list(dict.fromkeys(frame["model"]))
    claims = list(dict.fromkeys(frame["claim"]))
    if not models:
        raise ProbeError("there is nothing to draw", "the audit is empty", "Audit a model")
    results = list(found.results.values())
    looks = style.looks(models, initial=style.initial(results), labels=labels, palette=palette)
    starting = _starting(found)
    across, _, fixed = extent(size, width, usual="text", height=TALL)
    if not fixed and width is None:
        across *= max(1, len(models) / 4)
    tall = size[1] if size else TALL * len(claims) / 8 if len(claims) < 8 else TALL
    with page(
        axes,
        inches=(across, tall, fixed),
        shape=(len(claims), len(models)),
        panels=f"{len(claims)} claims x {len(models)} models",
        sharex="col",
        type_=max(0.4, min(1, across / (0.8 + 0.95 * len(models)))),
    ) as sheet:
        for row, claim in enumerate(claims):
            for column, model in enumerate(models):
                of = (frame["claim"] == claim) & (frame["model"] == model)
                curve = found.curves.query("claim == @claim and model == @model")
                cell = sheet.axes[row, column]
                _cell(sheet, cell, frame[of].iloc[0], curve, looks[model])
                if claim in starting and not curve.empty:
                    cell.axvline(starting[claim], color="0.6", linewidth=0.6, linestyle=":")
            _claim(sheet, row, _words(found, claim))
        for column, model in enumerate(models):
            sheet.axes[-1, column].set_xlabel(r"layer $\ell$", fontsize=sheet.points(7))
            _model(sheet, column, looks[model])
        if sheet.own:
            sheet.figure.align_ylabels(sheet.axes[:, 0])
            drawn = not found.curves["null_mean"].isna().all()
            _around(sheet, grey=drawn, dotted=bool(starting))
            sheet.head(title)
        elif title:
            sheet.ax.set_title(words(title), loc="left")
    return sheet.figure


def _around(sheet: Page, *, grey: bool, dotted: bool) -> None:
    told = {
        "grey: draws of random weights, mean and range": grey,
        "coloured band: 95% interval": True,
        "dotted: where the effect begins": dotted,
    }
    note = "    ".join(each for each, is_drawn in told.items() if is_drawn)
    sheet.figure.supxlabel(words(note), fontsize=sheet.points(6.5), color="0.3")


def _starting(found: "Audit") -> dict[str, int]:
    """Claim -> the layer from which its effect is read, where that is not the first."""
    first = int(found.settings.get("first_layer", 1))
    with_it = [name for name, rule in found.rules.items() if "`first_layer`" in rule["statistic"]]
    return dict.fromkeys(with_it, first) if first > 1 else {}


def _words(found: "Audit", claim: str) -> str:
    """A claim's words, with the unit of what is drawn."""
    text = str(found.frame[found.frame["claim"] == claim]["text"].iloc[0])
    units = found.curves[found.curves["claim"] == claim]["unit"]
    return text if units.empty else f"{text} [{units.iloc[0]}]"


def _claim(sheet: Page, row: int, text: str) -> None:
    """The claim's words, before its row."""
    ax = sheet.axes[row, 0]
    ax.set_ylabel(
        words(_symbols(text)), rotation=0, ha="right", va="center", fontsize=sheet.points(7, ax=ax)
    )
    room = min(CLAIM, sheet.figure.get_figwidth() / 4) * sheet.figure.dpi
    _fit.fit(ax.yaxis.label, room, across=ax.get_window_extent().height)


def _model(sheet: Page, column: int, look: style.Look) -> None:
    """The model's name, above its column."""
    ax = sheet.axes[0, column]
    name = ax.annotate(
        look.label.replace(", at", ",\nat"), (0.5, 1), (0, sheet.points(22)),
        xycoords="axes fraction", textcoords="offset points", ha="center", va="bottom",
        fontsize=sheet.points(7), color=look.colour,
    )  # fmt: skip
    _fit.fit(name, _room(sheet, ax))


def _cell(sheet: Page, ax: "Axes", row: Any, curve: pd.DataFrame, look: style.Look) -> None:
    size = sheet.points
    ax.tick_params(labelsize=size(6, ax=ax), length=2)
    ax.grid(visible=False)
    verdict = str(row["verdict"])
    if curve.empty:
        # The ticks stay, which the column shares, and the room that their labels take.
        ax.tick_params(left=False, bottom=False, labelleft=False, labelcolor="none")
        ax.spines[:].set_visible(False)
        reason = "\n".join(textwrap.wrap(_symbols(f"{verdict}: {row['reason']}"), 22))
        said = ax.text(
            0.5, 0.5, words(reason), transform=ax.transAxes, ha="center", va="center",
            fontsize=size(6, ax=ax), color="0.35",
        )  # fmt: skip
        _fit.fit(said, _room(sheet, ax))
        return
    ax.ticklabel_format(axis="y", useOffset=False)
    if not curve["null_mean"].isna().all():
        ax.plot(curve["layer"], curve["null_mean"], color="0.65", linewidth=0.8, marker="")
        ax.fill_between(
            curve["layer"], curve["null_least"], curve["null_most"], color="0.65", alpha=0.3,
            linewidth=0,
        )  # fmt: skip
    ax.plot(curve["layer"], curve["mean"], color=look.colour, marker=look.marker, markersize=2)
    if not curve["ci_low"].isna().all():
        ax.fill_between(
            curve["layer"], curve["ci_low"], curve["ci_high"],
            color=look.colour, alpha=0.25, linewidth=0,
        )  # fmt: skip
    ax.set_xticks([1, int(curve["layer"].max())])
    colour = next((c for word, c in LOOKS.items() if verdict.startswith(word)), "#7F7F7F")
    title = ax.set_title(
        verbatim(verdict.replace("_", " ")), fontsize=size(6.5, ax=ax), color=colour,
        pad=size(10.5, ax=ax), fontweight="bold",
    )  # fmt: skip
    title.set_in_layout(False)
    _fit.fit(title, 1.15 * _room(sheet, ax), most=1)
    told = number(row["value"], low=row["ci_low"], high=row["ci_high"]).replace("-", "−")
    unit = _symbols(_UNITS.get(row["unit"], row["unit"]))
    said = ax.text(
        0.5, 1.02, words(f"{told} {unit}"),
        transform=ax.transAxes, ha="center", va="bottom", fontsize=size(6, ax=ax), color="0.35",
    )  # fmt: skip
    said.set_in_layout(False)  # axes are not made narrower than their column for it
    whole = _fit.points(said)
    if _fit.fit(said, 1.15 * _room(sheet, ax), most=1) and _fit.points(said) < 0.8 * whole:
        said.set(text=words(told), fontsize=whole)  # its unit is in the rules too
        _fit.fit(said, 1.15 * _room(sheet, ax), most=1)


def _room(sheet: Page, ax: "Axes") -> float:
    """The width of a column, in pixels; on our page, before it is laid out."""
    if not sheet.own:
        return ax.get_window_extent().width
    free = sheet.figure.get_figwidth() - CLAIM - 0.3
    return 0.77 * free * sheet.figure.dpi / sheet.axes.shape[1]


def _symbols(text: str) -> str:
    """Words of a claim with its formulas set as such."""
    signs = {"-grad R^c": r"$-\nabla R^c$", "R^c": "$R^c$", "lam|Z|_0": r"$\lambda\|Z\|_0$"}
    for plain, symbol in signs.items():
        text = " ".join(
            word if "$" in word else word.replace(plain, symbol)
            for word in text.replace(plain, symbol if " " in plain else plain).split(" ")
        )
    return re.sub(r"(?<![\w$])R(?![\w^$])", "$R$", text).replace(" - ", " − ")
