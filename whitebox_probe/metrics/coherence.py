"""Coherence of a layer's subspaces: how far they overlap, read from the weights alone."""

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_finite
from whitebox_probe._core.errors import ShapeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.base import WeightMetric

__all__ = ["Coherence", "coherence", "overlap", "principal_angles"]


def coherence(U: Tensor) -> Tensor:
    """Pairwise coherence of subspaces: the spectral norm of Q_i^T Q_j, Q from QR of U.

    0 for orthogonal subspaces, 1 when they share a direction; the diagonal is 1.

    Shapes: U (K, d, p) -> (K, K), float64.
    Raises: ShapeError, NonFiniteError.
    References: Yu et al. 2023, arXiv:2306.01129, section 2 ("incoherent").
    """
    return principal_angles(U).cos()[..., 0].fill_diagonal_(1.0)


def principal_angles(U: Tensor) -> Tensor:
    """Principal angles between subspaces, in radians, ascending.

    Shapes: U (K, d, p) -> (K, K, p), float64.
    Raises: ShapeError, NonFiniteError.
    References: Björck and Golub 1973, Mathematics of Computation 27.
    """
    _expect_bases(U)
    Q = _linalg.orthonormalise(U)
    cosines = torch.linalg.svdvals(Q.mT.unsqueeze(1) @ Q.unsqueeze(0))  # (K, K, p), descending
    return cosines.clamp(0.0, 1.0).acos()  # rounding can push a cosine past 1 by 1e-16


def overlap(U: Tensor) -> Tensor:
    """|U^T U| of all heads' basis vectors, each scaled to unit norm.

    Shapes: U (K, d, p) -> (K*p, K*p), float64, entries from 0 to 1.
    Raises: ShapeError, NonFiniteError.
    References: Yu et al. 2023, arXiv:2306.01129, figure 7.
    """
    _expect_bases(U)
    vectors = _linalg.unit_tokens(U.mT.flatten(0, 1))  # (K*p, d)
    return (vectors @ vectors.mT).abs()


def _expect_bases(U: Tensor) -> None:
    if U.ndim != 3 or 0 in U.shape or U.shape[2] > U.shape[1]:
        raise ShapeError(
            f"U has shape {tuple(U.shape)}",
            "shape (K, d, p) with p at most d is needed",
            "Pass one basis a head, as model.subspaces(layer) gives them",
        )
    expect_finite(U, name="U")


class Coherence(WeightMetric):
    """Mean and largest coherence over pairs of heads, and their principal angles."""

    name = "coherence"
    unit = "0 to 1 (angles in radians)"
    formula = "|Q_i^T Q_j|_2 over pairs of heads, Q_k from QR of U_k"
    source = "Yu et al. 2023, arXiv:2306.01129, section 2"
    rows = ("coherence_mean", "coherence_max", "principal_angle_min", "principal_angle_mean")

    def measure(self, U: Tensor) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Numbers over the pairs i < j, and the matrices."""
        angles = principal_angles(U)
        pairwise = coherence(U)
        i, j = torch.triu_indices(len(U), len(U), offset=1)
        nan = float("nan")
        single = len(U) == 1  # one head has no pair
        numbers = {
            "coherence_mean": nan if single else pairwise[i, j].mean().item(),
            "coherence_max": nan if single else pairwise[i, j].max().item(),
            "principal_angle_min": nan if single else angles[i, j].min().item(),
            "principal_angle_mean": nan if single else angles[i, j].mean().item(),
        }
        return numbers, {"coherence": pairwise, "overlap": overlap(U)}
