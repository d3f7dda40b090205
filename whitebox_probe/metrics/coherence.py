"""Coherence of a layer's subspaces: how far they overlap, read from the weights alone."""

from functools import cache

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_finite_heads
from whitebox_probe._core.errors import ShapeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import WeightMeasure

__all__ = [
    "Coherence",
    "chordal_distance",
    "coherence",
    "frobenius_coherence",
    "mutual_coherence",
    "overlap",
    "principal_angles",
    "random_coherence",
]

_ROUNDING = 16


def coherence(U: Tensor) -> Tensor:
    """Pairwise coherence of subspaces: the spectral norm of Q_i^T Q_j, Q from QR of U.

    0 for orthogonal subspaces, 1 when they share a direction; the diagonal is 1.

    Shapes: U (K, d, p) -> (K, K), float64.
    Raises: ShapeError, NonFiniteError.
    References: Yu et al. 2023, arXiv:2306.01129, section 2 ("incoherent").
    """
    return _spectral(principal_angles(U))


def principal_angles(U: Tensor) -> Tensor:
    """Principal angles between subspaces, in radians, ascending.

    Vectors that depend on each other span fewer directions: the angles beyond them are NaN.

    Shapes: U (K, d, p) -> (K, K, p), float64.
    Raises: ShapeError, NonFiniteError.
    References: Björck and Golub 1973, Mathematics of Computation 27.
    """
    _expect_bases(U)
    Q = _spanning(U)
    return _angles(Q, _ranks(Q))


def _spanning(U: Tensor) -> Tensor:
    """Orthonormal bases of the spans, zeros behind those of fewer than p directions."""
    Q = _linalg.orthonormalise(U)
    wide = _linalg.upcast(U)
    with _linalg.one_thread(U.device):
        sizes = torch.linalg.svdvals(wide)
    # What the rounding of a product of factors alone adds is no direction.
    least = _ROUNDING * torch.finfo(_linalg.wide(U).dtype).eps * sizes[:, :1]
    ranks = (sizes > least).sum(dim=1)
    for head in (ranks < U.shape[2]).nonzero()[:, 0].tolist():
        with _linalg.one_thread(U.device):
            W = torch.linalg.svd(wide[head], full_matrices=False)[0]
        Q[head] = torch.where(torch.arange(U.shape[2], device=U.device) < ranks[head], W, 0.0)
    return Q


def _ranks(Q: Tensor) -> Tensor:
    """How many directions each head spans, (K,)."""
    return (Q.abs().amax(dim=1) > 0).sum(dim=1)


def _angles(Q: Tensor, ranks: Tensor) -> Tensor:
    """The same, of bases as `_spanning` gives them; each pair is decomposed once."""
    K, _, p = Q.shape
    i, j = torch.triu_indices(K, K, offset=1)
    angles = Q.new_zeros(K, K, p)
    with _linalg.one_thread(Q.device):
        cosines = torch.linalg.svdvals(_cross(Q, Q)[i, j])  # (pairs, p), descending
    # Rounding can push a cosine past 1 by 1e-16.
    angles[i, j] = angles[j, i] = cosines.clamp(0.0, 1.0).acos()
    beyond = torch.arange(p, device=Q.device) >= torch.minimum(ranks[:, None], ranks)[..., None]
    return angles.masked_fill(beyond, torch.nan)


def _cross(Q: Tensor, P: Tensor) -> Tensor:
    """Q_i^T P_j of all pairs: (K, d, p), (M, d, p) -> (K, M, p, p), as one product."""
    K, d, p = Q.shape
    flat = [B.transpose(0, 1).reshape(d, -1) for B in (Q, P)]
    return (flat[0].mT @ flat[1]).view(K, p, len(P), P.shape[2]).transpose(1, 2)


def overlap(U: Tensor) -> Tensor:
    """|U^T U| of all heads' basis vectors, each scaled to unit norm.

    Shapes: U (K, d, p) -> (K*p, K*p), float64, entries from 0 to 1.
    Raises: ShapeError, NonFiniteError.
    References: Yu et al. 2023, arXiv:2306.01129, figure 7.
    """
    _expect_bases(U)
    vectors = _linalg.unit_tokens(_linalg.upcast(U.mT.flatten(0, 1)))  # (K*p, d)
    return (vectors @ vectors.mT).abs()


def mutual_coherence(U: Tensor) -> Tensor:
    """Largest |cosine| between basis vectors of two different heads.

    Shapes: U (K, d, p) -> (), float64; NaN for one head.
    Raises: ShapeError, NonFiniteError.
    References: Donoho and Elad 2003, PNAS 100(5).
    """
    return _mutual(overlap(U), *U.shape[::2])


def _mutual(overlaps: Tensor, K: int, p: int) -> Tensor:
    """The same, from the overlaps of all vectors, (K*p, K*p)."""
    apart = overlaps.view(K, p, K, p).amax(dim=(1, 3))
    return _off_diagonal(apart).max() if K > 1 else overlaps.new_tensor(torch.nan)


def frobenius_coherence(U: Tensor) -> Tensor:
    """Pairwise |Q_i^T Q_j|_F^2 / p: 0 for orthogonal subspaces, 1 where one holds the other.

    For subspaces drawn uniformly it is p/d on average. Equals 1 - chordal distance^2 / p. Where a
    head spans fewer directions than p, p is the smaller number of the two.

    Shapes: U (K, d, p) -> (K, K), float64.
    Raises: ShapeError, NonFiniteError.
    """
    return _frobenius(principal_angles(U))


def chordal_distance(U: Tensor) -> Tensor:
    """Pairwise chordal distance: the root of the sum of squared sines of principal angles.

    Shapes: U (K, d, p) -> (K, K), float64, from 0 to sqrt(p).
    Raises: ShapeError, NonFiniteError.
    References: Conway, Hardin and Sloane 1996, Experimental Mathematics 5(2).
    """
    return _chordal(principal_angles(U))


def _spectral(angles: Tensor) -> Tensor:
    return angles.cos()[..., 0].fill_diagonal_(1.0)


def _frobenius(angles: Tensor) -> Tensor:
    return angles.cos().square().nanmean(dim=-1).fill_diagonal_(1.0)


def _chordal(angles: Tensor) -> Tensor:
    return angles.sin().square().nansum(dim=-1).fill_diagonal_(0.0).sqrt()


@cache
def random_coherence(d: int, p: int, *, draws: int = 64, seed: int = 0) -> tuple[float, float]:
    """Mean and std of |Q_i^T Q_j|_2 of two uniformly drawn p-dimensional subspaces of R^d.

    Shapes: two numbers, by simulation.
    Raises: ShapeError when p is more than d.
    """
    top = _random_cosines(d, p, draws, seed)[:, 0]
    return float(top.mean()), float(top.std())


@cache
def random_angles(d: int, p: int, *, draws: int = 64, seed: int = 0) -> tuple[float, ...]:
    """Principal angles of two uniformly drawn p-dimensional subspaces of R^d, in degrees.

    Shapes: p numbers, ascending: each the mean over draws, by simulation.
    Raises: ShapeError when p is more than d.
    """
    cosines = _random_cosines(d, p, draws, seed).clamp(0.0, 1.0)
    return tuple(cosines.acos().rad2deg().mean(dim=0).tolist())


def _random_cosines(d: int, p: int, draws: int, seed: int) -> Tensor:
    """Cosines of principal angles of drawn pairs, descending: (draws, p)."""
    if p > d:
        raise ShapeError(
            f"subspaces of dimension {p} do not fit into {d}", "p is at most d", "Swap them"
        )
    random = torch.Generator().manual_seed(seed)
    Q = _linalg.orthonormalise(torch.randn(2, draws, d, p, generator=random, dtype=torch.float32))
    with _linalg.one_thread(Q.device):
        return torch.linalg.svdvals(Q[0].mT @ Q[1])


def _of_pairs(angles: Tensor) -> Tensor:
    """Principal angles of the pairs i < j, ascending, in degrees: (pairs, p)."""
    i, j = torch.triu_indices(len(angles), len(angles), offset=1)
    return angles[i, j].rad2deg()


def _off_diagonal(matrix: Tensor) -> Tensor:
    i, j = torch.triu_indices(len(matrix), len(matrix), offset=1)
    return matrix[i, j]


def _having(U: Tensor) -> Tensor:
    """Which heads span a subspace, (K,): those of zeros do not."""
    return U.flatten(1).abs().amax(dim=1) > 0


def _expect_bases(U: Tensor) -> None:
    if U.ndim != 3 or 0 in U.shape or U.shape[2] > U.shape[1]:
        raise ShapeError(
            f"U has shape {tuple(U.shape)}",
            "shape (K, d, p) with p at most d is needed",
            "Pass one basis a head, as model.subspaces(layer) gives them",
        )
    expect_finite_heads(U)


class Coherence(WeightMeasure):
    """How far heads' subspaces overlap: pairs of heads, against chance, and the next layer's.

    `mutual_coherence` is of the columns as they are: a rotation within a subspace changes it alone.
    """

    name = "coherence"
    invariances = frozenset({"head_order"})
    unit = "0 to 1"
    units = {
        "chordal_mean": "0 to sqrt(p)",
        "principal_angle_min": "radians",
        "principal_angle_mean": "radians",
    }
    formula = "|Q_i^T Q_j|_2 and _F over pairs of heads, Q_k from QR of U_k"
    tex = (
        r"\|Q_i^\top Q_j\|_2 \text{ and } \|Q_i^\top Q_j\|_F^2 / p \text{ over pairs } i < j, "
        r"\quad U_k = Q_k R_k"
    )
    misleads = (
        "In a narrow model random subspaces overlap a great deal, p/d on average, and the largest "
        "cosine of two 24-dimensional ones in 96 dimensions is 0.84: only the difference from "
        "coherence_random and overlap_random is evidence. coherence_mean looks at the one closest "
        "pair of directions. It is of weights: subspaces that are apart may hold tokens that lie "
        "in a shared corner of both. Heads that are zero are left out, and do not "
        "count."
    )
    source = "Yu et al. 2023, arXiv:2306.01129, section 2"
    rows = (
        "coherence_mean",
        "coherence_max",
        "coherence_random",
        "overlap_mean",
        "overlap_random",
        "mutual_coherence",
        "chordal_mean",
        "principal_angle_min",
        "principal_angle_mean",
        "next_layer_overlap",
    )
    labels = {
        "coherence_mean": r"mean of $\|Q_i^\top Q_j\|_2$, $i<j$",
        "coherence_max": r"largest $\|Q_i^\top Q_j\|_2$, $i<j$",
        "coherence_random": r"$\|Q_i^\top Q_j\|_2$ of random subspaces",
        "overlap_mean": r"mean of $\|Q_i^\top Q_j\|_F^2/p$, $i<j$",
        "overlap_random": r"$\|Q_i^\top Q_j\|_F^2/p$ of random subspaces",
        "mutual_coherence": r"mutual coherence of $U$",
        "chordal_mean": "mean chordal distance of heads",
        "principal_angle_min": "smallest principal angle [rad]",
        "principal_angle_mean": "mean principal angle [rad]",
        "next_layer_overlap": r"overlap of $U^\ell$ and $U^{\ell+1}$, best heads",
    }

    def having(self, U: Tensor) -> Tensor:
        """Those that span a subspace."""
        return _having(U)

    def prepare(self, U: Tensor) -> Tensor:
        """Orthonormal bases of the subspaces; zeros of a head that has none."""
        _expect_bases(U)
        return _spanning(U)

    def measure(
        self, U: Tensor, prepared: Tensor | None = None
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Numbers over the pairs i < j, and the matrices.

        A head of zeros (a pruned one) spans nothing: its pairs are left out, and NaN in matrices.
        """
        Q = self.prepare(U) if prepared is None else prepared
        having = _having(U)
        if not bool(having.all()):
            return self._without(U, Q, having)
        K, d, p = U.shape
        ranks = _ranks(Q)
        angles, overlaps = _angles(Q, ranks), overlap(U)
        pairwise = _spectral(angles)
        numbers = dict.fromkeys(self.rows[:-1], float("nan"))
        if K > 1:  # one head has no pair
            apart = angles[tuple(torch.triu_indices(K, K, offset=1))]
            apart = apart[~apart.isnan()]
            larger = _off_diagonal(torch.maximum(ranks[:, None], ranks).double())
            numbers |= {
                "coherence_mean": _off_diagonal(pairwise).mean().item(),
                "coherence_max": _off_diagonal(pairwise).max().item(),
                "coherence_random": random_coherence(d, p)[0],
                "overlap_mean": _off_diagonal(_frobenius(angles)).mean().item(),
                "overlap_random": larger.mean().item() / d,
                "mutual_coherence": _mutual(overlaps, K, p).item(),
                "chordal_mean": _off_diagonal(_chordal(angles)).mean().item(),
                "principal_angle_min": apart.min().item(),
                "principal_angle_mean": apart.mean().item(),
            }
        return numbers, {
            "coherence": pairwise,
            "overlap": overlaps,
            "angles": _of_pairs(angles),
        } | {"angles_random": torch.tensor(random_angles(d, p), dtype=torch.float64)}

    def _without(
        self, U: Tensor, Q: Tensor, having: Tensor
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """The same, of the heads that span a subspace."""
        K, p = len(U), U.shape[2]
        if int(having.sum()) == 0:
            nothing = torch.full((K, K), torch.nan, dtype=torch.float64)
            whole = nothing.repeat_interleave(p, 0).repeat_interleave(p, 1)
            pairs = torch.full((K * (K - 1) // 2, p), torch.nan, dtype=torch.float64)
            return dict.fromkeys(self.rows[:-1], float("nan")), {
                "coherence": nothing,
                "overlap": whole,
                "angles": pairs,
                "angles_random": torch.full((p,), torch.nan, dtype=torch.float64),
            }
        numbers, matrices = self.measure(U[having], Q[having])
        full = {}
        for name, kept in (("coherence", having), ("overlap", having.repeat_interleave(p))):
            full[name] = torch.full((len(kept),) * 2, torch.nan, dtype=matrices[name].dtype)
            full[name][kept.nonzero(), kept.nonzero()[:, 0]] = matrices[name].cpu()
        i, j = torch.triu_indices(K, K, offset=1)
        full["angles"] = torch.full((len(i), p), torch.nan, dtype=torch.float64)
        full["angles_random"] = matrices["angles_random"]
        full["angles"][having[i].cpu() & having[j].cpu()] = matrices["angles"].cpu()
        return numbers, full

    def between(self, first: Tensor, second: Tensor) -> dict[str, float]:
        """Overlap |Q_i^T P_j|_F^2/p of each head with its best one in the next layer, averaged."""
        first, second = first[_having(first)], second[_having(second)]
        if not len(first) or not len(second):
            return {"next_layer_overlap": float("nan")}
        smaller = torch.minimum(_ranks(first)[:, None], _ranks(second))
        shares = _cross(first, second).square().sum(dim=(-2, -1)) / smaller
        return {"next_layer_overlap": shares.max(dim=1).values.mean().item()}
