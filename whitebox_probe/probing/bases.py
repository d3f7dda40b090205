"""Bases of subspaces by name: those in a model's weights, and those that no weights hold.

`native`, `qkv:q`, `qkv:k` and `qkv:v` are projections of the model, as its family tells. Beside
them, for every family:

    qk             right singular vectors of W_Q^T W_K of each query head and the key head that it
                   reads, orthonormal, strongest first
    pca            the K*p leading principal directions of the layer's tokens, p a head, in order
    pca:clusters   K subspaces of dimension p fitted to the tokens by K-subspaces clustering
    random         K independent uniformly drawn subspaces: the null

The two of tokens are fitted after the layer's attention norm, on samples that are not measured.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import torch
from torch import Tensor

from whitebox_probe._core.errors import BasisError
from whitebox_probe.metrics._linalg import orthonormalise, rounding, upcast
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.null import null_named
from whitebox_probe.probing.plan import FITTED as FITTED
from whitebox_probe.probing.plan import FREE as FREE
from whitebox_probe.probing.plan import BasisKey, expect_basis

CLUSTER_TOKENS = 4096
_EXACT = 1e-12  # of the points' energy outside of their subspaces: no restart does better
_FIRST_STEPS = 8  # of every restart; the best _FINISHED of them go on
_FINISHED = 3
_GROWN = 3  # times that a subspace's first neighbours are chosen anew

Tokens = Callable[[str], Generator[tuple[int, Tensor], None, None]]
"""Gives (layer, tokens (B, n, d)) of a site over the samples that a basis is fitted on."""


Bases = dict[BasisKey, dict[int, Tensor]]
"""Subspaces -> layer -> U (K, d, p)."""


def bases_of(
    model: ProbeModel, keys: Sequence[BasisKey], *, seed: int = 0, tokens: Tokens | None = None
) -> Bases:
    """U of every layer, (K, d, p) each, for each of the subspaces that are named.

    Fitted ones share one pass over the samples that they are fitted on.

    Args: seed: of what is drawn, and of the clustering. tokens: for the fitted bases.
    Raises: BasisError for a basis that the model cannot have.
    """
    names = list(dict.fromkeys(key.name for key in keys))
    fitted = [name for name in names if name in FITTED]
    raw = _fitted(model, fitted, tokens, seed) if fitted else {}
    raw |= {name: basis_of(model, name, seed=seed) for name in names if name not in raw}
    return {key: _as_keyed(raw[key.name], key, seed) for key in keys}


def _as_keyed(raw: dict[int, Tensor], key: BasisKey, seed: int) -> dict[int, Tensor]:
    if key.null is not None:
        random = torch.Generator().manual_seed(seed)  # one for all layers: each draws on from it
        null = null_named(key.null)
        return {n: null.subspaces(U, random) for n, U in raw.items()}
    return {n: orthonormalise(U) for n, U in raw.items()} if key.orthonormal else raw


def basis_of(model: ProbeModel, basis: str, *, seed: int = 0) -> dict[int, Tensor]:
    """U of every layer, (K, d, p) each, in a basis that is not fitted; not orthonormalised.

    Raises: BasisError for a basis that the model cannot have.
    """
    layers = range(1, model.layers + 1)
    if basis == "random":
        return random_bases(model, seed=seed)
    if basis == "qk" and {"qkv:q", "qkv:k"} <= set(model.bases):
        return {n: _qk(model.subspaces(n, "qkv:q"), model.subspaces(n, "qkv:k")) for n in layers}
    expect_basis(model, basis)
    return {n: model.subspaces(n, basis) for n in layers}


def random_bases(model: ProbeModel, *, seed: int = 0) -> dict[int, Tensor]:
    """Orthonormal bases of subspaces drawn uniformly, of the sizes of the model's own."""
    random = torch.Generator().manual_seed(seed)
    K, d, p = sizes(model)
    return {
        n: orthonormalise(torch.randn(K, d, p, generator=random, dtype=torch.float32))
        for n in range(1, model.layers + 1)
    }


def sizes(model: ProbeModel) -> tuple[int, int, int]:
    """K, d and p of the model's own subspaces, from which those that no weights hold are made."""
    if not model.bases:
        s = model.dims
        return s.heads, s.dim, s.dim_head
    K, d, p = model.subspaces(1, model.default_basis).shape
    return K, d, p


def _qk(Q: Tensor, K: Tensor) -> Tensor:
    """Right singular vectors of (W_Q^T W_K) a head: how keys are read, strongest first.

    With Q = Q_o R_Q and K = K_o R_K the product is Q_o (R_Q R_K^T) K_o^T: a p x p problem. Each
    query head has a product of its own; where queries are grouped, those of a group share a key
    head, and stand next to each other.

    Raises: BasisError when query heads are no multiple of key heads.
    """
    if len(Q) % len(K):
        raise BasisError(
            "basis 'qk' cannot be made",
            f"{len(Q)} query heads are no multiple of {len(K)} key heads",
            "Use 'qkv:q' or 'qkv:k'",
        )
    K = K.repeat_interleave(len(Q) // len(K), dim=0)
    left, right = torch.linalg.qr(upcast(Q)), torch.linalg.qr(upcast(K))
    _, _, V = torch.linalg.svd(left.R @ right.R.mT)
    return right.Q @ V.mT


def _fitted(
    model: ProbeModel, names: Sequence[str], tokens: Tokens | None, seed: int
) -> dict[str, dict[int, Tensor]]:
    """The bases that are fitted to tokens, in one pass over them."""
    K, d, p = sizes(model)
    if tokens is None:
        raise BasisError(
            f"basis '{names[0]}' needs tokens",
            "it is fitted to samples that are not measured",
            "Use it in probe(), which takes them from the data",
        )
    if K * p > d and "pca" in names:
        raise BasisError(
            f"basis 'pca' does not fit {model.name}",
            f"K p = {K * p} directions are more than d = {d}",
            "Use 'pca:clusters' or 'random'",
        )
    moments: dict[int, Tensor] = {}
    kept: dict[int, list[Tensor]] = {}
    share = 0.0
    with closing(tokens("attn_in")) as given:
        for layer, Z in given:
            share = rounding(Z)
            flat = upcast(Z.flatten(0, 1))
            if "pca" in names:
                moments[layer] = moments.get(layer, 0) + flat.mT @ flat
            if "pca:clusters" in names:
                kept.setdefault(layer, []).append(flat.cpu())
    found: dict[str, dict[int, Tensor]] = {}
    if "pca" in names:
        found["pca"] = {n: _leading(moment, K, p, share) for n, moment in moments.items()}
    if "pca:clusters" in names:
        found["pca:clusters"] = {
            n: k_subspaces(_thinned(torch.cat(parts)), K, p, seed=seed + n, share=share)
            for n, parts in kept.items()
        }
    return found


def _leading(moment: Tensor, heads: int, dim_head: int, share: float) -> Tensor:
    """The leading directions; of those below `share` of the largest singular value, zeros."""
    vectors = _settled(moment, heads * dim_head, share)
    return vectors.unflatten(1, (heads, dim_head)).transpose(0, 1).contiguous()  # (K, d, p)


def _settled(moment: Tensor, count: int, share: float) -> Tensor:
    """Leading eigenvectors of a second moment, (d, count); zeros where it has no direction left.

    Below the tokens' rounding an eigenvector is drawn by chance, and others' tokens seen in it too.
    """
    values, vectors = torch.linalg.eigh(moment)
    values, vectors = values.flip(-1)[:count], vectors.flip(-1)[:, :count]
    return vectors.masked_fill(values <= share**2 * values[:1], 0.0)


def _thinned(X: Tensor) -> Tensor:
    """Evenly spread rows, so that clustering costs the same for any number of samples."""
    count = min(len(X), CLUSTER_TOKENS)
    return X[torch.linspace(0, len(X) - 1, count, dtype=torch.float32).long()]


def k_subspaces(
    X: Tensor,
    count: int,
    dim: int,
    *,
    seed: int = 0,
    restarts: int = 12,
    steps: int = 50,
    share: float | None = None,
) -> Tensor:
    """Fit `count` subspaces of dimension `dim`, each point to the subspace that it is nearest to.

    Alternates assignment and principal directions, as k-means does, and keeps the best restart.
    Three in four start at directions of neighbours: around a point that is drawn, then around one
    that the subspaces so far leave far away, and so on, which finds subspaces that are apart. The
    others start at drawn subspaces, which at times does better where tokens lie in no few
    subspaces. One whose points span fewer directions than `dim` has columns of zeros for the rest.

    Shapes: X (N, d) -> (count, d, dim), orthonormal, float64.
    Args: share: of a subspace's largest singular value that is the points' rounding.
    Raises: BasisError when there are fewer points than directions.
    References: Bradley and Mangasarian 2000, Journal of Global Optimization 16.
    """
    share = rounding(X) if share is None else share
    X = upcast(X)
    X = X / torch.linalg.vector_norm(X, dim=1, keepdim=True).clamp_min(torch.finfo(X.dtype).tiny)
    if len(X) < count * dim:
        raise BasisError(
            f"{len(X)} tokens cannot settle {count} subspaces of dimension {dim}",
            "there are fewer tokens than directions",
            "Fit on more samples with fit_limit=",
        )
    random = torch.Generator().manual_seed(seed)
    begun: list[tuple[float, Tensor]] = []
    for start in range(restarts):
        if start % 4 < 3:
            U = _seeded(X, count, dim, share, random)
        else:
            U = orthonormalise(
                torch.randn(count, X.shape[1], dim, generator=random, dtype=torch.float32)
            )
        begun.append(_alternated(X, U, share, _FIRST_STEPS))
        if begun[-1][0] >= len(X) * (1 - _EXACT):
            return begun[-1][1]  # every point lies in its subspace
    begun.sort(key=lambda each: -each[0])
    ended = [_alternated(X, U, share, steps - _FIRST_STEPS) for _, U in begun[:_FINISHED]]
    return max(ended, key=lambda each: each[0])[1]


def _alternated(X: Tensor, U: Tensor, share: float, steps: int) -> tuple[float, Tensor]:
    """Assignment and principal directions in turn: the energy within, and the subspaces."""
    count, _, dim = U.shape
    U, before = U.clone(), None
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
            U[k] = _settled(mine.mT @ mine, dim, share)
    return float((X @ U).square().sum(dim=-1).max(dim=0).values.sum()), U


def _seeded(X: Tensor, count: int, dim: int, share: float, random: torch.Generator) -> Tensor:
    """Where a restart begins, (count, d, dim): directions of neighbours, far from each other.

    Neighbours are first those of the least angle to one point, then those that are nearest to the
    subspace of these. References: Arthur and Vassilvitskii 2007, k-means++, for the drawing.
    """
    near = min(len(X), 2 * dim)
    far = torch.ones(len(X), dtype=X.dtype)
    found = []
    for _ in range(count):
        chance = far if bool(far.sum() > 0) else torch.ones_like(far)
        point = X[torch.multinomial(chance, 1, generator=random)[0]]
        close = (X @ point).abs()
        for _ in range(_GROWN):
            mine = X[close.topk(near).indices]
            Q = _settled(mine.mT @ mine, dim, share)
            close = (X @ Q).square().sum(dim=-1)
        found.append(Q)
        far = far.minimum((1 - close).clamp_min(0.0))
    return torch.stack(found)
