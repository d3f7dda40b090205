"""Dead features: those that no token of the data set ever activates."""

from dataclasses import dataclass

from torch import Tensor

from whitebox_probe.metrics.measure import DatasetMeasure
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = ["DeadFeatures"]


@dataclass(frozen=True, kw_only=True)
class DeadFeatures(DatasetMeasure):
    """Share of features (columns) that are exactly zero, or below tau rms, in every token seen.

    Rows: `dead_features` by exact zeros; `quiet_features` by |z| <= tau rms of the token, for
    models that make no exact zeros.
    """

    name = "dead_features"
    unit = "share of features"
    formula = "share of columns j with z_ij = 0 (or |z_ij| <= tau rms(z_i)) for all tokens i"
    tex = r"\frac{1}{d} \left|\left\{j : z_{ij} = 0 \text{ for all tokens } i\right\}\right|"
    misleads = (
        "It can only fall as samples are added: a feature that is dead on 100 images may live on "
        "the next, so that shares of different numbers of samples must not be compared. It is of "
        "these data: features for what the data lack count as dead. Without exact zeros "
        "dead_features is 0, and quiet_features is the row to read."
    )
    source = "Bricken et al. 2023, Towards Monosemanticity (dead neurons); tau = 0.1"
    site = {"paper": "z_out", "official": "z_out"}
    rows = ("dead_features", "quiet_features")
    labels = {"dead_features": "dead features of $<Z>$", "quiet_features": "quiet features"}
    group = "sparsity"
    invariances = frozenset({"scale", "token_order", "repeated_tokens"})

    tau: float = 0.1

    def add(self, sums: Sums, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Count for each feature the tokens in which it is active."""
        Z = layer.at(site)
        rms = Z.double().square().mean(dim=-1, keepdim=True).sqrt()
        sums.total("active", (Z != 0).flatten(0, -2).sum(dim=0).double())
        sums.total("loud", (Z.abs() > self.tau * rms).flatten(0, -2).sum(dim=0).double())

    def numbers(self, sums: Sums) -> dict[str, float]:
        """Shares over features."""
        never = {"dead_features": "active", "quiet_features": "loud"}
        return {row: (sums[of] == 0).double().mean().item() for row, of in never.items()}
