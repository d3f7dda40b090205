"""R^c against depth: whether the tokens compress towards the subspaces."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from whitebox_probe.plots import style
from whitebox_probe.plots._curves import Band, Normalise, draw
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["compression"]


def compression(
    *results: Result,
    site: str | None = None,
    band: Band = "ci",
    relative_depth: bool = False,
    normalise: Normalise = None,
    width: style.Width = "column",
    title: str | None = None,
    legend: bool = True,
    nulls: Sequence[Result] = (),
    bounds: bool = False,
) -> "Figure":
    """R^c of each layer, one curve a model; the lower, the more compressed.

    Args:
        site: which one, if the metric was measured at several.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: how nats are brought to a common size (`results.FORMS`), such as `per_token`.
        width: of a paper's column or of its text. legend: under the axes.
        nulls: results of `wp.nulls`, drawn under the curve of their model.
        bounds: dotted lines at the smallest and largest value that the official convention can
            take.

    Raises: ResultError.
    """
    return draw(
        results,
        metric="compression",
        site=site,
        band=band,
        relative_depth=relative_depth,
        normalise=normalise,
        width=width,
        title=title,
        legend=legend,
        nulls=nulls,
        bounds=bounds,
    )
