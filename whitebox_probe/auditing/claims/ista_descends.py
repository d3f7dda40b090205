"""The sparsifying step, by what it does to its LASSO objective."""

from whitebox_probe.auditing.claim import Claim, Statistic, below_zero, mean_over_layers
from whitebox_probe.auditing.verdicts import Thresholds
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.plan import Request
from whitebox_probe.results.result import Result


class IstaDescends(Claim):
    """The ISTA step lowers its LASSO objective."""

    name = "ista_descends"
    text = "the ISTA step lowers its LASSO objective"
    statistic = (
        "relative change of 1/2|Y - AD^T|^2 + lam|A|_1, mean over the layers with such a step"
    )
    rule = "the interval is below 0"
    metric = "ista_objective_change"
    where = {"convention": "paper"}
    wants = "low"
    place = 7
    revised = (
        "the rule is under revision: A = Y, where a CRATE's step is taken to start, has negative "
        "entries, which the objective of a step that ends in a ReLU does not allow"
    )

    def requests(self, model: ProbeModel) -> list[Request]:
        """Of models whose layers have such a step."""
        layers = (model.layer(n) for n in range(1, model.layers + 1))
        having = any({"D", "lam"} <= set(layer.operators) for layer in layers)
        return [Request(metric=self.metric)] if having else []

    def take(self, result: Result, thresholds: Thresholds) -> Statistic:
        """Over layers and samples."""
        return mean_over_layers(self, result)

    def judge(self, found: Statistic, thresholds: Thresholds) -> str:
        """By the interval."""
        return below_zero(found)
