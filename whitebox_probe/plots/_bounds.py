"""The smallest and the largest value that a measure can have, as lines."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.results.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Limits = set[tuple[float, ...]]


def of_curve(
    run: Run, metric: str, rows: pd.DataFrame, form: Callable[[pd.DataFrame], pd.DataFrame]
) -> Limits:
    """The smallest and the largest value possible, at the settings and in the form of a curve.

    One pair, or several where what the curve is divided by differs from layer to layer.

    Raises: ResultError for a curve that has none.
    """
    pairs = [run.bound(metric, row) for row in rows.to_dict("records")]
    known = [pair for pair in pairs if pair is not None]
    if len(known) < len(pairs) or not known:
        raise ResultError(
            f"this curve of {run.model} has no bounds of '{metric}'",
            "only compression in the official convention has them",
            "Probe with convention='official', or leave out bounds=",
        )
    ends = [form(rows.assign(mean=[pair[end] for pair in known]))["mean"] for end in (0, 1)]
    return set(zip(*ends, strict=True))


def together(limits: Sequence[Limits]) -> tuple[float, ...]:
    """The pair that all curves share; empty where none are wanted.

    Raises: ResultError when there are several.
    """
    found: Limits = set().union(*limits)
    if len(found) > 1:
        raise ResultError(
            "the curves have different bounds",
            "their models or settings differ in size, or their layers in what they are divided by",
            "Draw them in separate figures, or leave out bounds=",
        )
    return next(iter(found), ())


def draw(ax: "Axes", limits: Sequence[float]) -> list[Any]:
    """Of which the first stands for both in the legend."""
    label = "smallest and largest value possible"
    return [
        ax.axhline(value, color="0.35", linestyle=":", linewidth=1, label=label, zorder=1.5)
        for value in limits
    ][:1]
