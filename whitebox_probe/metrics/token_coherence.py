"""Coherence of data: angles between the subspaces that tokens actually span."""

import torch
from torch import Tensor

from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics._classes import classes_of, counts_of, lacking, notes
from whitebox_probe.metrics.measure import DatasetMeasure
from whitebox_probe.metrics.sums import Sums
from whitebox_probe.metrics.tokens import LayerTokens, project

__all__ = ["ClassCoherence", "TokenCoherence"]

ENERGY = 0.9


def leading_subspaces(moments: Tensor, *, energy: float = ENERGY) -> list[Tensor]:
    """The fewest principal directions that hold a share of each second moment's trace.

    Shapes: moments (M, d, d) -> M of (d, r_m), orthonormal, float64.
    """
    values, vectors = torch.linalg.eigh(moments)
    found = []
    for value, vector in zip(values.flip(-1), vectors.flip(-1), strict=True):
        held = value.clamp_min(0).cumsum(0)
        rank = int((held < energy * held[-1]).sum()) + 1 if held[-1] > 0 else 0
        found.append(vector[:, :rank])
    return found


def mean_dimension(bases: list[Tensor]) -> float:
    """The mean of the dimensions of those that have a direction; NaN where none has."""
    dimensions = [B.shape[1] for B in bases if B.shape[1]]
    return sum(dimensions) / len(dimensions) if dimensions else float("nan")


def mean_overlap(bases: list[Tensor]) -> float:
    """Mean over pairs of |Q_i^T Q_j|_F^2 / min(r_i, r_j): 0 for orthogonal, 1 for nested subspaces.

    Shapes: bases of (d, r_i), orthonormal. NaN for fewer than two.
    """
    shares = [
        float((A.mT @ B).square().sum() / min(A.shape[1], B.shape[1]))
        for i, A in enumerate(bases)
        for B in bases[i + 1 :]
        if A.shape[1] and B.shape[1]
    ]
    return sum(shares) / len(shares) if shares else float("nan")


def expected_overlap(bases: list[Tensor]) -> float:
    """What `mean_overlap` is on average for uniformly drawn subspaces of the same dimensions.

    E |Q_i^T Q_j|_F^2 = r_i r_j / d.
    """
    shares = [
        max(A.shape[1], B.shape[1]) / A.shape[0]
        for i, A in enumerate(bases)
        for B in bases[i + 1 :]
        if A.shape[1] and B.shape[1]
    ]
    return sum(shares) / len(shares) if shares else float("nan")


class TokenCoherence(DatasetMeasure):
    """Overlap of the subspaces that the tokens of each head actually span.

    Within head k's subspace, the fewest directions that hold 90% of its tokens' energy.
    """

    name = "token_coherence"
    heavy = True
    unit = "0 to 1"
    formula = "mean over i < j of |E_i^T E_j|_F^2 / min(r_i, r_j), E_k: 90% of Q_k Q_k^T Z"
    tex = (
        r"\frac{\|E_i^\top E_j\|_F^2}{\min(r_i, r_j)}, \text{ mean over } i < j, \quad E_k: 90\% "
        r"\text{ of the energy of } Q_k Q_k^\top Z"
    )
    misleads = (
        "A common mean of the tokens lies in the leading directions of every head and makes them "
        "overlap, without any token being in two places. The 90% is a choice: a head whose tokens "
        "fill one direction has dimension 1, and its overlap is one cosine. It has no interval; "
        "compare with token_overlap_random of the same layer. Heads whose tokens are all zero are "
        "left out."
    )
    source = "Yu et al. 2023, arXiv:2306.01129, section 2 (incoherent supports); own definition"
    site = {"paper": "z_out"}
    units = {"token_dimension": "directions"}
    rows = ("token_overlap", "token_overlap_random", "token_dimension")
    labels = {
        "token_overlap": r"overlap of the heads' tokens",
        "token_overlap_random": "overlap of random subspaces",
        "token_dimension": "directions that hold 90% of a head's tokens",
    }
    group = "coherence"
    cost = "O(n d K p + n K p^2)"
    needs_basis = True
    uses_norm = True
    invariances = frozenset(
        {"scale", "token_order", "repeated_tokens", "head_order", "rotation_in_subspace"}
    )

    def add(self, sums: Sums, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Add each head's second moment, in an orthonormal basis of its subspace."""
        Q = layer.orthonormal()
        V = project(_linalg.upcast(layer.normed(site)), Q).transpose(0, 1).flatten(1, 2)
        sums.total("moments", V.mT @ V)
        sums.constant("bases", Q)

    def numbers(self, sums: Sums) -> dict[str, float]:
        """Overlap, what is expected of random subspaces, and the mean dimension."""
        inner = leading_subspaces(sums["moments"])
        bases = [Q @ E for Q, E in zip(sums["bases"], inner, strict=True)]
        return {
            "token_overlap": mean_overlap(bases),
            "token_overlap_random": expected_overlap(bases),
            "token_dimension": mean_dimension(bases),
        }

    def notes(self, sums: Sums) -> dict[str, str]:
        """How many heads have no tokens, which are left out, and why there is no value."""
        moments = sums["moments"]
        K = len(moments)
        dead = int((moments.diagonal(dim1=-2, dim2=-1).sum(dim=-1) == 0).sum())
        zero = f"the tokens of {dead} of {K} heads are zero"
        why = zero if dead else "one head has no pair"
        told = dict.fromkeys(self.rows, f"{zero}: these are left out" if dead else "")
        if K - dead < 2:
            told |= dict.fromkeys(("token_overlap", "token_overlap_random"), f"none, as {why}")
        if dead == K:
            told["token_dimension"] = f"none, as {why}"
        return told


class ClassCoherence(DatasetMeasure):
    """Overlap of the subspaces that the tokens of each class span: 90% of their energy."""

    name = "class_coherence"
    heavy = True
    unit = "0 to 1"
    formula = "mean over classes of |E_c^T E_c'|_F^2 / min(r_c, r_c'), E_c: 90% of the tokens"
    tex = (
        r"\frac{\|E_c^\top E_{c'}\|_F^2}{\min(r_c, r_{c'})}, \text{ mean over classes}, \quad "
        r"E_c: 90\% \text{ of the tokens' energy}"
    )
    misleads = (
        "What all classes share, such as the mean token and the background patches, is in each "
        "class's leading directions, so that 90% of the energy may be common and the overlap near "
        "1 in a model that classifies well. With few samples a class its subspace is that of "
        "those samples. It has no interval."
    )
    source = "Yu et al. 2020, arXiv:2006.08558, section 2.2; own definition"
    site = {"paper": "z_out", "official": "z_out"}
    units = {"class_dimension": "directions"}
    rows = ("class_overlap", "class_overlap_random", "class_dimension")
    labels = {
        "class_overlap": "overlap of the classes' tokens",
        "class_overlap_random": "overlap of random subspaces",
        "class_dimension": "directions that hold 90% of a class",
    }
    group = "class"
    cost = "O(n d^2) and O(C d^2) memory"
    needs_labels = True
    invariances = frozenset({"rotation", "scale", "token_order", "repeated_tokens"})

    def add(self, sums: Sums, layer: LayerTokens, site: str, labels: Tensor | None) -> None:
        """Add each class's second moment of tokens."""
        assert labels is not None
        Z = _linalg.upcast(layer.at(site))
        floor = _linalg.rounding(layer.at(site)) * layer.norms(site).mean(dim=-1)
        for c, rows in classes_of(sums, labels, Z.mean(dim=1), floor).items():
            mine = Z[rows].flatten(0, 1)
            sums.total(f"moment_{c}", mine.mT @ mine)

    def numbers(self, sums: Sums) -> dict[str, float]:
        """Overlap, what is expected of random subspaces, and the mean dimension, if any."""
        if lacking(sums):
            return dict.fromkeys(self.rows, float("nan"))
        names = sums.names("moment_")
        bases = leading_subspaces(torch.stack([sums[f"moment_{c}"] for c in names]))
        return {
            "class_overlap": mean_overlap(bases),
            "class_overlap_random": expected_overlap(bases),
            "class_dimension": mean_dimension(bases),
        }

    def counts(self, sums: Sums) -> dict[str, int]:
        """The samples that have a class."""
        return dict.fromkeys(self.rows, int(counts_of(sums).sum()))

    def notes(self, sums: Sums) -> dict[str, str]:
        """How many classes of how many samples, and why there is no value."""
        return dict.fromkeys(self.rows, notes(sums, lacking(sums)))
