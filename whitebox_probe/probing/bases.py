"""Bases of subspaces by name: those in a model's weights, and those that no weights hold.

`native`, `qkv:q`, `qkv:k` and `qkv:v` are projections of the model, as its family tells. Beside
them, for every family:

    qk             right singular vectors of W_Q^T W_K, orthonormal, strongest first
    pca            the K*p leading principal directions of the layer's tokens, p a head, in order
    pca:clusters   K subspaces of dimension p fitted to the tokens by K-subspaces clustering
    random         K independent uniformly drawn subspaces: the null

The two of tokens are fitted after the layer's attention norm, on samples that are not measured.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from whitebox_probe._core.errors import BasisError, nearest
from whitebox_probe.metrics._linalg import orthonormalise, upcast
from whitebox_probe.models.model import ProbeModel

FITTED = ("pca", "pca:clusters")
FREE = ("qk", *FITTED, "random")
CLUSTER_TOKENS = 4096

Tokens = Callable[[str], Iterable[tuple[int, Tensor]]]
"""Gives (layer, tokens (B, n, d)) of a site over the samples that a basis is fitted on."""


def bases_of(
    model: ProbeModel, basis: str, *, seed: int = 0, tokens: Tokens | None = None
) -> dict[int, Tensor]:
    """U of every layer, (K, d, p) each, in a named basis; not orthonormalised unless it is so.

    Args: seed: of `random` and of the clustering. tokens: for the fitted bases.
    Raises: BasisError for a basis that the model cannot have.
    """
    layers = range(1, model.layers + 1)
    if basis == "random":
        return random_bases(model, seed=seed)
    if basis in FITTED:
        if tokens is None:
            raise BasisError(
                f"basis '{basis}' needs tokens",
                "it is fitted to samples that are not measured",
                "Use it in probe(), which takes them from the data",
            )
        return _fitted(model, basis, tokens, seed)
    if basis == "qk" and {"qkv:q", "qkv:k"} <= set(model.bases):
        return {n: _qk(model.subspaces(n, "qkv:q"), model.subspaces(n, "qkv:k")) for n in layers}
    if basis not in model.bases:
        known = [*model.bases, *(b for b in FREE if b != "qk" or "qkv:q" in model.bases)]
        raise BasisError(
            f"basis '{basis}' is not in family '{model.anatomy.name}'",
            "its attention has no such projection",
            nearest(basis, known),
        )
    return {n: model.subspaces(n, basis) for n in layers}


def random_bases(model: ProbeModel, *, seed: int = 0) -> dict[int, Tensor]:
    """Orthonormal bases of subspaces drawn uniformly, of the model's own sizes."""
    random = torch.Generator().manual_seed(seed)
    s = model.dims
    return {
        n: orthonormalise(torch.randn(s.heads, s.dim, s.dim_head, generator=random))
        for n in range(1, s.layers + 1)
    }


def _qk(Q: Tensor, K: Tensor) -> Tensor:
    """Right singular vectors of (W_Q^T W_K) a head: how keys are read, strongest first.

    With Q = Q_o R_Q and K = K_o R_K the product is Q_o (R_Q R_K^T) K_o^T: a p x p problem.
    """
    left, right = torch.linalg.qr(upcast(Q)), torch.linalg.qr(upcast(K))
    _, _, V = torch.linalg.svd(left.R @ right.R.mT)
    return right.Q @ V.mT


def _fitted(model: ProbeModel, basis: str, tokens: Tokens, seed: int) -> dict[int, Tensor]:
    s = model.dims
    if s.heads * s.dim_head > s.dim and basis == "pca":
        raise BasisError(
            f"basis 'pca' does not fit {model.name}",
            f"K p = {s.heads * s.dim_head} directions are more than d = {s.dim}",
            "Use 'pca:clusters' or 'random'",
        )
    if basis == "pca":
        moments: dict[int, Tensor] = {}
        for layer, Z in tokens("attn_in"):
            flat = upcast(Z.flatten(0, 1))
            moments[layer] = moments.get(layer, 0) + flat.mT @ flat
        return {n: _leading(moments[n], s.heads, s.dim_head) for n in moments}
    kept: dict[int, list[Tensor]] = {}
    for layer, Z in tokens("attn_in"):
        kept.setdefault(layer, []).append(upcast(Z.flatten(0, 1)).cpu())
    return {
        n: k_subspaces(_thinned(torch.cat(parts)), s.heads, s.dim_head, seed=seed + n)
        for n, parts in kept.items()
    }


def _leading(moment: Tensor, heads: int, dim_head: int) -> Tensor:
    vectors = torch.linalg.eigh(moment).eigenvectors.flip(-1)[:, : heads * dim_head]
    return vectors.unflatten(1, (heads, dim_head)).transpose(0, 1).contiguous()  # (K, d, p)


def _thinned(X: Tensor) -> Tensor:
    """Evenly spread rows, so that clustering costs the same for any number of samples."""
    return X[torch.linspace(0, len(X) - 1, min(len(X), CLUSTER_TOKENS)).long()]


def k_subspaces(
    X: Tensor, count: int, dim: int, *, seed: int = 0, restarts: int = 3, steps: int = 50
) -> Tensor:
    """Fit `count` subspaces of dimension `dim`, each point to the subspace that it is nearest to.

    Alternates assignment and principal directions, as k-means does, and keeps the best restart.

    Shapes: X (N, d) -> (count, d, dim), orthonormal, float64.
    Raises: BasisError when there are fewer points than directions.
    References: Bradley and Mangasarian 2000, Journal of Global Optimization 16.
    """
    X = upcast(X)
    X = X / torch.linalg.vector_norm(X, dim=1, keepdim=True).clamp_min(torch.finfo(X.dtype).tiny)
    if len(X) < count * dim:
        raise BasisError(
            f"{len(X)} tokens cannot settle {count} subspaces of dimension {dim}",
            "there are fewer tokens than directions",
            "Fit on more samples with fit_limit=",
        )
    random = torch.Generator().manual_seed(seed)
    best, best_kept = None, -1.0
    for _ in range(restarts):
        U = orthonormalise(torch.randn(count, X.shape[1], dim, generator=random))
        before = None
        for _ in range(steps):
            within = (X @ U).square().sum(dim=-1)  # (count, N): share of each point's energy
            nearest_one = within.argmax(dim=0)
            if before is not None and torch.equal(nearest_one, before):
                break
            before = nearest_one
            for k in range(count):
                mine = X[nearest_one == k]
                if len(mine) < dim:  # an empty or starved subspace starts again at the worst points
                    mine = X[within.max(dim=0).values.argsort()[: 2 * dim]]
                U[k] = torch.linalg.eigh(mine.mT @ mine).eigenvectors[:, -dim:].flip(-1)
        kept = float((X @ U).square().sum(dim=-1).max(dim=0).values.sum())
        if kept > best_kept:
            best, best_kept = U, kept
    assert best is not None
    return best
