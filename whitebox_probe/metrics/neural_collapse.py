"""Neural collapse of pooled tokens: within-class spread, and the geometry of class means."""

from dataclasses import dataclass

import torch
from torch import Tensor

from whitebox_probe._core.errors import ShapeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import DatasetMeasure
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = ["NeuralCollapse", "neural_collapse"]

_RANK = 1e-10  # eigenvalues of the between-class scatter below this share count as zero


def neural_collapse(X: Tensor, labels: Tensor) -> dict[str, float]:
    """NC1 and NC2 of a data set's features.

    `nc1` = tr(S_W S_B^+) / C, the within-class spread against the between-class one; `nc2_norms`,
    the coefficient of variation of the class means' norms; `nc2_angles`, the mean distance of their
    cosines from -1/(C-1). All are 0 at collapse. Means are taken from the global mean.

    Shapes: X (N, d), labels (N,), at least two classes.
    Raises: ShapeError.
    References: Papyan, Han and Donoho 2020, arXiv:2008.08186.
    """
    classes = labels.unique()
    X = _linalg.upcast(X)
    sums = torch.stack([X[labels == c].sum(dim=0) for c in classes])
    counts = torch.stack([(labels == c).sum() for c in classes]).double()
    return _of_sums(X.mT @ X, sums, counts)


def _of_sums(moment: Tensor, sums: Tensor, counts: Tensor) -> dict[str, float]:
    C = len(counts)
    if C < 2:
        raise ShapeError(
            f"{C} class has no geometry", "class means are compared", "Use data of several classes"
        )
    means = sums / counts[:, None]
    within = moment - means.mT @ (counts[:, None] * means)
    within = within / counts.sum()
    centred = means - means.mean(dim=0)  # the global mean of means: classes weigh the same
    between = centred.mT @ centred / C
    values, vectors = torch.linalg.eigh(between)
    used = values > _RANK * values[-1]
    spread = ((within @ vectors[:, used]) * vectors[:, used]).sum(dim=0)
    norms = torch.linalg.vector_norm(centred, dim=1)
    unit = _linalg.unit_tokens(centred)
    cosines = (unit @ unit.mT)[~torch.eye(C, dtype=torch.bool)]
    return {
        "nc1": float((spread / values[used]).sum() / C),
        "nc2_norms": float(norms.std(correction=0) / norms.mean()),
        "nc2_angles": float((cosines + 1 / (C - 1)).abs().mean()),
    }


@dataclass(frozen=True, kw_only=True)
class NeuralCollapse(DatasetMeasure):
    """Neural-collapse measures of the samples' pooled tokens, at every layer."""

    name = "neural_collapse"
    heavy = True
    unit = "1"
    formula = "tr(S_W S_B^+)/C; std/mean of |m_c|; mean |cos(m_c, m_c') + 1/(C-1)|"
    source = "Papyan, Han and Donoho 2020, arXiv:2008.08186"
    site = {"paper": "z_out", "official": "z_out"}
    rows = ("nc1", "nc2_norms", "nc2_angles")
    labels = {
        "nc1": r"NC1: $\mathrm{tr}(\Sigma_W\Sigma_B^+)/C$",
        "nc2_norms": "NC2: spread of class means' norms",
        "nc2_angles": "NC2: distance from equal angles",
    }
    group = "class"
    cost = "O(n d) and O(d^2 + C d) memory"
    needs_labels = True

    pool: str = "mean"

    def add(self, sums: Sums, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Add the second moment, and each class's sum."""
        assert labels is not None
        X = layer.pooled(site, self.pool)
        sums.total("moment", X.mT @ X)
        for c in labels.unique().tolist():
            mine = X[(labels == c).to(X.device)]
            sums.total(f"sum_{c}", mine.sum(dim=0))
            sums.total(f"count_{c}", torch.tensor(float(len(mine)), dtype=torch.float64))

    def numbers(self, sums: Sums) -> dict[str, float]:
        """The measures of the samples so far."""
        classes = sums.names("count_")
        parts = torch.stack([sums[f"sum_{c}"].cpu() for c in classes])
        counts = torch.stack([sums[f"count_{c}"].cpu() for c in classes])
        return _of_sums(sums["moment"].cpu(), parts, counts)
