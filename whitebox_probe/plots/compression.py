"""R^c against depth: whether the tokens compress towards the subspaces."""

from typing import TYPE_CHECKING, Literal

from whitebox_probe.plots import style
from whitebox_probe.plots._curves import Band, draw
from whitebox_probe.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["compression"]

LABELS = {
    "paper": r"$R^c(Z^{\ell+1/2};\, U^\ell)$ [nats]",
    "official": r"$R^c$, official convention [nats]",
}


def compression(
    *results: Result,
    site: str | None = None,
    band: Band = "ci",
    relative_depth: bool = False,
    normalise: Literal["per_token"] | None = None,
    width: style.Width = "column",
    title: str | None = None,
) -> "Figure":
    """R^c of each layer, one curve a model; the lower, the more compressed.

    Args:
        site: which one, if the metric was measured at several.
        band: what is shaded: 95% interval of the mean, std over samples, or standard error.
        relative_depth: draw against layer / number of layers.
        normalise: `per_token` divides by the number of tokens.
        width: of a paper's column or of its text.

    Raises: ResultError.
    """
    return draw(
        results,
        metric="compression",
        site=site,
        label=LABELS.get(results[0].run["convention"], "") if results else "",
        band=band,
        relative_depth=relative_depth,
        normalise=normalise,
        width=width,
        title=title,
    )
