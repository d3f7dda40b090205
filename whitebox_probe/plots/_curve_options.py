"""The keywords of every figure of a measure against depth."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from whitebox_probe.plots import _ends, _nulls, style
from whitebox_probe.plots._palette import Palette
from whitebox_probe.plots._where import Where
from whitebox_probe.plots.page import Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Band = Literal["ci", "std", "sem"] | None
Normalise = Literal["per_token", "per_entry", "position", "null_share"] | None


@dataclass(frozen=True, kw_only=True)
class Options(Where):
    """Keywords of every figure of a measure against depth.

    Args:
        site: which one, if the measure was taken at several.
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
        title: above the axes; if not given, which of several settings was picked, if one was.
        legend: under the axes (true), or inside those that are given; none (false); names at the
            `end` of each line, where they fit; `auto`: at the ends on a wide page of few curves.
    """

    site: str | None = None
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
    legend: _ends.Legend = "auto"
