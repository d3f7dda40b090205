"""Sparsity against depth: the share of non-zero entries, or a graded measure."""

from typing import TYPE_CHECKING, Literal

from whitebox_probe.plots import style
from whitebox_probe.plots._curves import Band, draw
from whitebox_probe.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["sparsity"]

LABELS = {
    "l0": r"non-zero entries $\|Z^{\ell+1}\|_0/(nd)$",
    "thresholded": r"entries with $|z| > \tau\,\mathrm{rms}$",
    "hoyer": "Hoyer sparseness",
}


def sparsity(
    *results: Result,
    metric: str = "l0",
    site: str | None = None,
    band: Band = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token"] | None = None,
    width: style.Width = "column",
    title: str | None = None,
) -> "Figure":
    """A measure of sparsity of each layer, one curve a model.

    Args:
        metric: `l0` (share of exactly non-zero entries, never its complement), `thresholded`,
            `hoyer`, or another measure of the table.
        site: which one, if the metric was measured at several.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: `per_token` divides by the number of tokens.
        width: of a paper's column or of its text.

    Raises: ResultError.
    """
    return draw(
        results,
        metric=metric,
        site=site,
        label=LABELS.get(metric, metric),
        band=band,
        relative_depth=relative_depth,
        normalise=normalise,
        width=width,
        title=title,
    )
