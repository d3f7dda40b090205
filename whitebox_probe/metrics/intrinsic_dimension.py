"""Intrinsic dimension of a data set's pooled tokens, by scikit-dimension."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whitebox_probe._core.errors import MissingDependency, ShapeError
from whitebox_probe.metrics.measure import DatasetMeasure
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = ["IntrinsicDimension", "intrinsic_dimension"]

MOST = 2000
INSTALL = "pip install 'whitebox-probe[dimension]'"
FEWEST = 20
_NEIGHBOURS = 20


def intrinsic_dimension(X: Tensor) -> dict[str, float]:
    """TwoNN and maximum-likelihood estimates of the dimension of the points X.

    Points that are there twice are counted once: a distance of zero breaks both estimates.

    Shapes: X (N, d), at least 20 different points.
    Raises: ShapeError for fewer points; MissingDependency.
    References: Facco et al. 2017, Scientific Reports 7 (TwoNN); Levina and Bickel 2004, NIPS 17
        (MLE, 20 neighbours, MacKay's averaging); through scikit-dimension.
    """
    points = np.unique(X.double().numpy(force=True), axis=0)
    if len(points) < FEWEST:
        raise ShapeError(
            f"{len(points)} different points have no measurable dimension",
            f"at least {FEWEST} are needed",
            "Use more samples",
        )
    return _estimate(points)


def _estimate(points: NDArray[np.float64]) -> dict[str, float]:
    try:
        import skdim
    except ImportError as error:
        raise MissingDependency(
            "scikit-dimension is missing",
            "it estimates intrinsic dimensions",
            f"Run: {INSTALL}",
        ) from error
    mle: Any = skdim.id.MLE()
    mle.fit(points, n_neighbors=min(_NEIGHBOURS, len(points) - 1))
    return {
        "dimension_twonn": float(skdim.id.TwoNN().fit(points).dimension_),
        "dimension_mle": float(mle.dimension_),
    }


class IntrinsicDimension(DatasetMeasure):
    """TwoNN and MLE dimension of the samples' mean tokens: of at most 2,000 samples.

    Which ones are kept goes by a hash of their numbers, so that order does not show.
    """

    name = "intrinsic_dimension"
    heavy = True
    needs_packages = {"skdim": INSTALL}
    unit = "dimensions"
    formula = "TwoNN and maximum likelihood over nearest neighbours of mean tokens"
    tex = (
        r"\hat{m}(x) = \left(\frac{1}{k-1} \sum_{j=1}^{k-1} "
        r"\log \frac{T_k(x)}{T_j(x)}\right)^{-1}, "
        r"\quad T_j(x): \text{ distance to the } j \text{th nearest mean token}"
    )
    misleads = (
        "Both estimates fall short for few points and many dimensions: 2,000 points cannot show "
        "more than some tens of dimensions, whatever the truth. They assume that density hardly "
        "varies between neighbours, which clusters by class break. Duplicates are left out; "
        "near-duplicates (frames, crops) are not, and make it small."
    )
    source = "Facco et al. 2017; Levina and Bickel 2004; scikit-dimension"
    site = {"paper": "z_out", "official": "z_out"}
    rows = ("dimension_twonn", "dimension_mle")
    labels = {
        "dimension_twonn": "intrinsic dimension (TwoNN)",
        "dimension_mle": "intrinsic dimension (MLE)",
    }
    group = "geometry"
    invariances = frozenset({"rotation", "scale", "token_order", "repeated_tokens"})
    cost = "O(N^2 d) once at the end, N at most 2,000"

    def add(self, sums: Sums, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Keep the batch's mean tokens, and of all so far those with the smallest keys."""
        X = layer.pooled(site, "mean").float().cpu()
        seen = int(sums["seen"]) if "seen" in sums else 0
        sums.total("seen", torch.tensor(float(len(X)), dtype=torch.float64))
        keys = _scatter(torch.arange(seen, seen + len(X)) if layer.ids is None else layer.ids.cpu())
        if "keys" in sums:
            X, keys = torch.cat([sums["points"], X]), torch.cat([sums["keys"], keys])
        points, keys = _smallest(X, keys)
        sums.rows("points", points)
        sums.rows("keys", keys)

    def numbers(self, sums: Sums) -> dict[str, float]:
        """The two estimates; NaN for fewer than 20 different points."""
        points = _different(sums)
        if len(points) < FEWEST:
            return dict.fromkeys(self.rows, float("nan"))
        return _estimate(points)

    def notes(self, sums: Sums) -> dict[str, str]:
        """How many points, and why there is no value."""
        count = len(_different(sums))
        why = f"; none, as {FEWEST} are needed" if count < FEWEST else ""
        return dict.fromkeys(self.rows, f"{count} different points{why}")


def _different(sums: Sums) -> NDArray[np.float64]:
    kept = _smallest(sums["points"], sums["keys"])[0]
    return np.unique(kept.double().numpy(), axis=0)


def _scatter(ids: Tensor) -> Tensor:
    """A fixed scattering of the numbers (the mixing step of splitmix64, in 63 bits)."""
    x = ids.to(torch.int64) * 0x1E3779B97F4A7C15
    x = (x ^ (x >> 30)) * 0x3F58476D1CE4E5B9
    return (x ^ (x >> 27)) & (2**63 - 1)


def _smallest(points: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    order = keys.argsort(stable=True)[:MOST]
    return points[order], keys[order]
