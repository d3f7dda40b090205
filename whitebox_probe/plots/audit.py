"""Verdicts on a page: one row a claim, one column a model."""

from typing import TYPE_CHECKING, Any

import pandas as pd

from whitebox_probe.plots import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from whitebox_probe.auditing.verdicts import Audit

__all__ = ["audit"]

PAGE = (6.8, 9.4)  # inches: the text block of a page
# Colour and word both say it: no verdict rests on colour alone.
LOOKS = {
    "supported": "#009E73",
    "not supported": "#7F7F7F",
    "contradicted": "#D55E00",
    "not applicable": "#BBBBBB",
    "not judged": "#7F7F7F",
}


def audit(found: "Audit", *, title: str | None = None) -> "Figure":
    """The measure behind each claim against depth, for each model, with its verdict.

    The grey line is the same architecture with random weights; bands are 95% bootstrap intervals.

    Args: found: from `wp.audit`.
    """
    frame = found.frame
    models = list(dict.fromkeys(frame["model"]))
    claims = list(dict.fromkeys(frame["claim"]))
    looks = style.looks(models)
    with style.styled():
        from whitebox_probe.plots._figure import StyledFigure

        width = PAGE[0] if len(models) <= 4 else PAGE[0] * len(models) / 4
        figure = StyledFigure(figsize=(width, PAGE[1]), layout="constrained")
        axes = figure.subplots(len(claims), len(models), squeeze=False, sharex="col")
        for row, claim in enumerate(claims):
            for column, model in enumerate(models):
                here = frame[(frame["claim"] == claim) & (frame["model"] == model)].iloc[0]
                ax = axes[row, column]
                curve = found.curves.query("claim == @claim and model == @model")
                _cell(ax, here, curve, looks[model])
                if row == 0:
                    name = looks[model].label.replace(", at", ",\nat")
                    ax.annotate(
                        name, (0.5, 1), (0, 20), xycoords="axes fraction",
                        textcoords="offset points", ha="center", va="bottom", fontsize=7,
                        color=looks[model].colour,
                    )  # fmt: skip
                if row == len(claims) - 1:
                    ax.set_xlabel(r"layer $\ell$", fontsize=7)
                if column == 0:
                    text = "\n".join(_wrapped(str(here["text"])))
                    ax.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=6.5)
        note = "grey: random weights    band: 95% bootstrap interval"
        figure.supxlabel(note, fontsize=6.5, color="0.3")
        if title:
            figure.suptitle(title)
    return figure


def _cell(ax: "Axes", row: Any, curve: pd.DataFrame, look: style.Look) -> None:
    ax.tick_params(labelsize=5.5, length=2)
    ax.grid(visible=False)
    ax.ticklabel_format(axis="y", useOffset=False)
    verdict = str(row["verdict"])
    if curve.empty:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        words = "\n".join(_wrapped(f"{verdict}: {row['reason']}", 22))
        ax.text(
            0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center",
            fontsize=6, color="0.35",
        )  # fmt: skip
        return
    if not curve["null_mean"].isna().all():
        ax.plot(curve["layer"], curve["null_mean"], color="0.65", linewidth=0.8, marker="")
    ax.plot(curve["layer"], curve["mean"], color=look.colour, marker=look.marker, markersize=2)
    if not curve["ci_low"].isna().all():
        ax.fill_between(
            curve["layer"], curve["ci_low"], curve["ci_high"],
            color=look.colour, alpha=0.25, linewidth=0,
        )  # fmt: skip
    ax.set_xticks([1, int(curve["layer"].max())])
    ax.set_title(verdict, fontsize=6, color=LOOKS[verdict], pad=8, fontweight="bold")
    ax.text(
        0.5, 1.02, f"{row['value']:.2g} [{row['ci_low']:.2g}, {row['ci_high']:.2g}]",
        transform=ax.transAxes, ha="center", va="bottom", fontsize=5, color="0.35",
    )  # fmt: skip


def _wrapped(text: str, width: int = 20) -> list[str]:
    import textwrap

    signs = {"-grad R^c": r"$-\nabla R^c$", "R^c": "$R^c$", "lam|Z|_0": r"$\lambda\|Z\|_0$"}
    for plain, symbol in signs.items():
        text = " ".join(
            word if "$" in word else word.replace(plain, symbol)
            for word in text.replace(plain, symbol if " " in plain else plain).split(" ")
        )
    return textwrap.wrap(text, width)
