"""Rates of the whole data set: of the second moment pooled over all tokens of all samples."""

from dataclasses import dataclass

import torch
from torch import Tensor

from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import DatasetMeasure
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = ["PooledRate"]


@dataclass(frozen=True, kw_only=True)
class PooledRate(DatasetMeasure):
    """R, R^c and R - R^c with all tokens of the data set as one Z.

    Larger than the mean over samples by what samples differ in (R is concave in the moment).
    """

    name = "pooled_rate"
    heavy = True
    unit = "nats"
    formula = "R and R^c with Z^T Z / n of all tokens of the data set as one Z"
    tex = (
        r"R, R^c \text{ and } R - R^c \text{ of } \frac{1}{\sum_{s=1}^{N} n_s} "
        r"\sum_{s=1}^{N} Z_s^\top Z_s"
    )
    misleads = (
        "It is of all samples at once and larger than the mean of their own rates: a rise may "
        "come from samples that differ more, with every one of them compressed. It grows with the "
        "number of samples until their directions are exhausted, and has no interval; compare "
        "runs of as many samples of the same data."
    )
    source = "Yu et al. 2020, arXiv:2006.08558, equation 3; Yu et al. 2023, equation 8"
    site = {"paper": "z_out"}
    rows = ("pooled_coding_rate", "pooled_compression", "pooled_rate_reduction")
    labels = {
        "pooled_coding_rate": r"$R$ of the pooled moment of $<Z>$",
        "pooled_compression": r"$R^c$ of the pooled moment of $<Z>$",
        "pooled_rate_reduction": r"$\Delta R$ of the pooled moment of $<Z>$",
    }
    group = "rate"
    cost = "O(n d^2 + n d K p)"
    needs_basis = True
    uses_norm = True
    invariances = frozenset(
        {"token_order", "repeated_tokens", "head_order", "rotation_in_subspace"}
    )

    eps: float = 0.1

    def add(self, sums: Sums, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Add the moments of the batch's normed tokens, whole and in each subspace."""
        Z = _linalg.upcast(layer.normed(site)).flatten(0, 1)
        V = _linalg.upcast(layer.heads(site)).transpose(0, 1).flatten(1, 2)  # (K, B n, p)
        sums.total("whole", Z.mT @ Z)
        sums.total("parts", V.mT @ V)
        sums.total("tokens", torch.tensor(float(len(Z)), dtype=torch.float64))

    def numbers(self, sums: Sums) -> dict[str, float]:
        """The three rates of the samples so far."""
        whole, parts = sums["whole"], sums["parts"]
        tokens = sums["tokens"].item()
        R = self._rate(whole, tokens)
        Rc = self._rate(parts, tokens)
        return {
            "pooled_coding_rate": R,
            "pooled_compression": Rc,
            "pooled_rate_reduction": R - Rc,
        }

    def _rate(self, moment: Tensor, tokens: float) -> float:
        scale = moment.shape[-1] / (tokens * self.eps**2)
        return float(0.5 * (scale * _linalg.spectrum(moment)).log1p().sum())
