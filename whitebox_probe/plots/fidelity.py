"""How near each layer is to the step that it was derived as."""

from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import ResultError
from whitebox_probe.plots._comparable import check_results
from whitebox_probe.plots.kind import figure
from whitebox_probe.plots.panel import Options, draw
from whitebox_probe.results.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = ("descent_cosine", "descent_achieved", "attention_rate_change", "lasso_gap_closed")


@figure(takes="results", options=Options)
def fidelity(*results: Result, **options: Any) -> "Figure":
    """How near each layer is to the step that it was derived as, one panel a measure.

    The attention's update against the descent of R^c: their cosine, the share of the descent that
    it achieves, and its change of R^c. The ISTA block: which share of the way to the optimum of its
    LASSO it goes. Those that every result holds are drawn; a ViT has no LASSO.

    Raises: ResultError when the results share none of them.
    References: Yu et al. 2023, arXiv:2306.01129, sections 2.3 and 2.4.
    """
    check_results(results)
    held = set.intersection(*(set(result.frame["metric"]) for result in results))
    shared = [metric for metric in MEASURES if metric in held]
    if not shared:
        raise ResultError(
            f"'{MEASURES[0]}' is not in the results",
            "nor is another measure of fidelity that all of them hold",
            f"Probe with some of: {', '.join(MEASURES)}",
        )
    return draw(results, shared, Options(**options))
