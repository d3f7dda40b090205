"""Class-wise rates: the maximal coding rate reduction measure over a data set."""

from dataclasses import dataclass

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_finite
from whitebox_probe._core.errors import ShapeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics._classes import (
    classes_of,
    counts_of,
    in_words,
    labelled,
    lacking,
    notes,
    rounding_of,
)
from whitebox_probe.metrics.measure import DatasetMeasure
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = ["ClassRate", "class_rates"]


def class_rates(X: Tensor, labels: Tensor, *, eps: float) -> tuple[Tensor, Tensor]:
    """Rate of a data set's features, and the mean rate within its classes, in nats.

    R = 1/2 logdet(I + d/(N eps^2) X^T X);  R_c = sum_j N_j/(2N) logdet(I + d/(N_j eps^2) X_j^T X_j)

    Each feature is scaled to unit norm first, as the measure asks for. R - R_c is the maximal
    coding rate reduction objective. R_c is NaN where there is one class, or one of a single sample,
    be it there several times, which would count as a direction found. Samples with a label below 0
    have no class, and are left out of both.

    Shapes: X (N, d), labels (N,) of whole numbers -> (), (), float64.
    Raises: ShapeError, NonFiniteError.
    References: Yu et al. 2020, arXiv:2006.08558, equations 3 to 5.
    """
    labels = labelled(X, labels)
    unit, sums = _linalg.unit_tokens(_linalg.upcast(expect_finite(X, name="X"))), Sums()
    found = classes_of(sums, labels, X, rounding_of(X))
    if not found:
        raise ShapeError(
            f"none of {len(labels)} samples has a class",
            "all labels are below 0",
            "Pass the samples' classes, from 0 on",
        )
    moments = torch.stack([unit[mine].mT @ unit[mine] for mine in found.values()])
    counts = torch.stack([mine.sum() for mine in found.values()]).double()
    whole, within = _of_moments(moments, counts, eps)
    return whole, torch.full_like(within, torch.nan) if lacking(sums) else within


def _of_moments(moments: Tensor, counts: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    d = moments.shape[-1]
    whole = _rate(moments.sum(dim=0), d / (counts.sum() * eps**2))
    used = counts > 0
    scale = d / (counts[used] * eps**2)
    within = (counts[used] / counts.sum() * _rate(moments[used], scale)).sum()
    return whole, within


def _rate(moment: Tensor, scale: Tensor) -> Tensor:
    return 0.5 * (_linalg.spectrum(moment) * scale[..., None]).log1p().sum(dim=-1)


@dataclass(frozen=True, kw_only=True)
class ClassRate(DatasetMeasure):
    """Rates of the samples' pooled tokens over the data set: all, within classes, difference.

    A sample's feature is its mean token, or its class token with `pool="class"`, of unit norm.
    """

    name = "class_rate"
    heavy = True
    unit = "nats"
    formula = "R - sum_j N_j/(2N) logdet(I + d/(N_j eps^2) X_j^T X_j), X: pooled tokens"
    tex = (
        r"R(X) - \sum_{j} \frac{N_j}{2N} \log\det\left(I + \frac{d}{N_j \varepsilon^2} X_j^\top "
        r"X_j\right)"
    )
    misleads = (
        "With fewer samples a class than dimensions the part within classes is small because "
        "samples are few: random labels give a reduction above zero too. Shuffle the labels and "
        "measure again for the level of chance. Features are scaled to unit norm, and mean tokens "
        "are dominated by background."
    )
    source = "Yu et al. 2020, arXiv:2006.08558, equation 5"
    site = {"paper": "z_out", "official": "z_out"}
    rows = ("class_rate_whole", "class_rate_within", "class_rate_reduction")
    labels = {
        "class_rate_whole": r"$R(X)$ of pooled tokens",
        "class_rate_within": r"$R_c(X\mid\Pi)$ within classes",
        "class_rate_reduction": r"$R(X) - R_c(X\mid\Pi)$ over classes",
    }
    group = "class"
    cost = "O(n d) and O(C d^2) memory"
    needs_labels = True
    invariances = frozenset({"rotation", "scale", "token_order", "repeated_tokens"})

    eps: float = 0.1
    pool: str = "mean"

    def add(self, sums: Sums, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Add each class's second moment of pooled tokens."""
        assert labels is not None
        # Tokens may cancel in their mean, and leave what rounding makes of it.
        floor = _linalg.rounding(layer.at(site)) * layer.norms(site).mean(dim=-1)
        pooled = layer.pooled(site, self.pool)
        X = _linalg.unit_tokens(pooled, floor)
        for c, mine in classes_of(sums, labels, pooled, floor).items():
            sums.total(f"moment_{c}", X[mine].mT @ X[mine])

    def numbers(self, sums: Sums) -> dict[str, float]:
        """The three rates of the samples so far; NaN within classes that do not suffice."""
        counts = counts_of(sums)
        if not len(counts):
            return dict.fromkeys(self.rows, float("nan"))
        moments = torch.stack([sums[f"moment_{c}"].cpu() for c in sums.names("count_")])
        whole, within = _of_moments(moments, counts, self.eps)
        if lacking(sums):
            within = torch.full_like(within, torch.nan)
        return {
            "class_rate_whole": whole.item(),
            "class_rate_within": within.item(),
            "class_rate_reduction": (whole - within).item(),
        }

    def counts(self, sums: Sums) -> dict[str, int]:
        """The samples that have a class."""
        return dict.fromkeys(self.rows, int(counts_of(sums).sum()))

    def notes(self, sums: Sums) -> dict[str, str]:
        """How many classes of how many samples, and why there is no value."""
        told = dict.fromkeys(self.rows, notes(sums, lacking(sums)))
        whole = in_words(sums) if len(counts_of(sums)) else notes(sums, lacking(sums))
        return told | {"class_rate_whole": whole}
