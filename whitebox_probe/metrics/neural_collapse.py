"""Neural collapse of pooled tokens: within-class spread, and the geometry of class means."""

from dataclasses import dataclass

import torch
from torch import Tensor

from whitebox_probe._core.errors import ShapeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics._classes import (
    classes_of,
    counts_of,
    labelled,
    lacking,
    notes,
    rounding_of,
)
from whitebox_probe.metrics.measure import DatasetMeasure
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = ["NeuralCollapse", "neural_collapse"]

_RANK = 1e-10  # eigenvalues of the between-class scatter below this share count as zero


def neural_collapse(X: Tensor, labels: Tensor) -> dict[str, float]:
    """NC1 and NC2 of a data set's features.

    `nc1` = tr(S_W S_B^+) / C, the within-class spread against the between-class one; `nc2_norms`,
    the coefficient of variation of the class means' norms; `nc2_angles`, the mean distance of their
    cosines from -1/(C-1). All are 0 at collapse where classes have one size. S_W is the covariance
    within classes over all samples, S_B that of the class means about the mean of all samples, as
    in the paper: classes of many samples draw that mean, and do not weigh more in S_B. (Others
    take the mean of means.)

    NaN where a class has one sample, or one that is there several times, which has no spread (so
    exact collapse is NaN as well: nothing tells it from that), or class means do not differ by more
    than rounding. With two classes `nc2_norms` and `nc2_angles` are NaN: two means lie on one line
    through the mean of all samples, opposite each other, and their norms are those of the class
    sizes, whatever the features are. Samples with a label below 0 have no class: they are left out.

    Shapes: X (N, d), labels (N,) of whole numbers, at least two classes.
    Raises: ShapeError.
    References: Papyan, Han and Donoho 2020, arXiv:2008.08186.
    """
    labels = labelled(X, labels)
    classes = labels[labels >= 0].unique()
    if len(classes) < 2:
        raise ShapeError(
            f"{len(classes)} class has no geometry",
            "class means are compared",
            "Use data of several classes",
        )
    sums = Sums()
    _add(sums, _linalg.upcast(X), labels, _linalg.rounding(X), rounding_of(X))
    return _of_sums(sums)


def _add(sums: Sums, X: Tensor, labels: Tensor, share: float, floor: Tensor) -> None:
    """Add the scatter of all samples that have a class, and each class's sum."""
    found = classes_of(sums, labels, X, floor)
    if not found:
        return
    sums.scatter("all", X[torch.stack(list(found.values())).any(dim=0)])
    sums.constant("share", torch.tensor(share, dtype=torch.float64))
    for c, mine in found.items():
        sums.total(f"sum_{c}", X[mine].sum(dim=0))


def _means(sums: Sums) -> Tensor:
    """Class means from the mean of all samples, (C, d)."""
    mean = sums.scattered("all")[1].cpu()
    parts = torch.stack([sums[f"sum_{c}"].cpu() for c in sums.names("count_")])
    return parts / counts_of(sums)[:, None] - mean


def _lacking(sums: Sums) -> str:
    """Why there is no value; empty where there is one."""
    if why := lacking(sums):
        return why
    scatter, mean, count = (part.cpu() for part in sums.scattered("all"))
    size = mean.square().sum() + scatter.trace() / count
    flat = _means(sums).square().sum(dim=1).mean() <= sums["share"].item() ** 2 * size
    return "class means differ by no more than rounding" if flat else ""


def _lacking_geometry(sums: Sums) -> str:
    """Why class means have no geometry; empty where they have one."""
    forced = "the means of two classes are opposite whatever the features are"
    return _lacking(sums) or (forced if len(counts_of(sums)) == 2 else "")


def _of_sums(sums: Sums) -> dict[str, float]:
    nothing = dict.fromkeys(NeuralCollapse.rows, float("nan"))
    if _lacking(sums):
        return nothing
    scatter, _, count = (part.cpu() for part in sums.scattered("all"))
    centred, counts = _means(sums), counts_of(sums)
    C = len(counts)
    within = (scatter - centred.mT @ (counts[:, None] * centred)) / count
    between = centred.mT @ centred / C
    values, vectors = torch.linalg.eigh(between)
    used = values > _RANK * values[-1]
    spread = ((within @ vectors[:, used]) * vectors[:, used]).sum(dim=0).clamp_min(0.0)
    nc1 = {"nc1": float((spread / values[used]).sum() / C)}
    if _lacking_geometry(sums):
        return nothing | nc1
    norms = torch.linalg.vector_norm(centred, dim=1)
    unit = _linalg.unit_tokens(centred)
    cosines = (unit @ unit.mT)[~torch.eye(C, dtype=torch.bool)]
    return nc1 | {
        "nc2_norms": float(norms.std(correction=0) / norms.mean()),
        "nc2_angles": float((cosines + 1 / (C - 1)).abs().mean()),
    }


@dataclass(frozen=True, kw_only=True)
class NeuralCollapse(DatasetMeasure):
    """Neural-collapse measures of the samples' pooled tokens, at every layer.

    Of two classes there is `nc1` alone: the geometry of two means is given beforehand.
    """

    name = "neural_collapse"
    heavy = True
    unit = "1"
    formula = (
        "tr(S_W S_B^+)/C; std/mean of |m_c|; mean |cos(m_c, m_c') + 1/(C-1)|, "
        "m_c: class means from the mean of all samples"
    )
    tex = (
        r"\frac{1}{C}\operatorname{tr}(\Sigma_W \Sigma_B^+); \quad "
        r"\frac{\mathrm{std}\,\|m_c\|}{\mathrm{mean}\,\|m_c\|}; \quad "
        r"\mathrm{mean}\left|\cos(m_c, m_{c'}) + \frac{1}{C-1}\right|"
    )
    misleads = (
        "It is defined for training data at the end of training: on test data nc1 stays well "
        "above zero in networks that have collapsed. With few samples a class the class means are "
        "noisy, which adds to the spread between classes, and nc1 is too small. Layers before the "
        "last are under no pressure to collapse, and a high value there is no fault."
    )
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
    invariances = frozenset({"rotation", "scale", "token_order", "repeated_tokens"})

    pool: str = "mean"

    def add(self, sums: Sums, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Add the scatter of all samples, and each class's sum."""
        assert labels is not None
        share = _linalg.rounding(layer.at(site))
        floor = share * layer.norms(site).mean(dim=-1)
        _add(sums, layer.pooled(site, self.pool), labels, share, floor)

    def numbers(self, sums: Sums) -> dict[str, float]:
        """The measures of the samples so far; NaN where classes cannot be compared."""
        return _of_sums(sums)

    def counts(self, sums: Sums) -> dict[str, int]:
        """The samples that have a class."""
        return dict.fromkeys(self.rows, int(counts_of(sums).sum()))

    def notes(self, sums: Sums) -> dict[str, str]:
        """How many classes of how many samples, and why there is no value."""
        geometry = _lacking_geometry(sums)
        why = {"nc1": _lacking(sums), "nc2_norms": geometry, "nc2_angles": geometry}
        return {row: notes(sums, why[row]) for row in self.rows}
