"""Bands about curves: where their edges are, and whether anyone can see them."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from whitebox_probe.plots import _settings
from whitebox_probe.plots._curve_options import Band

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def edges(rows: pd.DataFrame, band: Band) -> tuple[pd.Series, pd.Series]:
    """The lower and the upper edge of a band; NaN where there is none."""
    if band == "ci":
        return rows["ci_low"], rows["ci_high"]
    spread = rows[band] if band is not None else rows["mean"] * float("nan")
    return rows["mean"] - spread, rows["mean"] + spread


def shaded(ax: "Axes") -> bool:
    """Whether a band that is drawn in these axes can be seen."""
    for band in ax.collections:
        ends: dict[float, list[float]] = {}
        for x, y in np.asarray(band.get_paths()[0].vertices):
            ends.setdefault(float(x), []).append(float(y))
        pairs = pd.DataFrame([(min(each), max(each)) for each in ends.values()])
        if seen(ax, pairs[0], pairs[1]):
            return True
    return False


def seen(ax: "Axes", low: pd.Series, high: pd.Series) -> bool:
    """Whether a band is anywhere half a point wider than its line on both sides, as it is drawn."""
    ax.get_ylim()  # limits are found when they are asked for
    ends = [ax.transData.transform([(0.0, value) for value in side])[:, 1] for side in (low, high)]
    points = (ends[1] - ends[0]) / ax.figure.figure.dpi * 72
    finite = points[np.isfinite(points)]
    return bool(len(finite) and finite.max() > 1 + float(_settings.setting("lines.linewidth")))
