"""Whether a number of heads that no file states fits the weights.

Rows of a trained projection that belong to one head resemble each other, or avoid each other, more
than rows of two heads that lie as far apart. Where another number of heads stands out and nothing
is seen of the one that was given, the weights contradict it. They do not always tell: nothing is
seen in weights that were not trained, and a multiple or a divisor of the right number may pass.
"""

import math

import numpy as np
from numpy.typing import NDArray

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models.model import ProbeModel

_SEEN, _UNSEEN = 5.0, 2.0
_LAYERS = 8
_NARROWEST = 4

Array = NDArray[np.float64]


def expect_heads(model: ProbeModel) -> None:
    """Check that the weights do not contradict the number of heads.

    Raises: CheckpointError with the number that stands out.
    """
    seen = evidence(model)
    mine = model.dims.heads
    if mine not in seen:
        return
    best = max(seen, key=lambda heads: seen[heads])
    if seen[best] >= _SEEN and seen[mine] < _UNSEEN:
        raise CheckpointError(
            f"{model.name} cannot have {mine} heads",
            f"the rows of its projections fall into {best} groups (z = {seen[best]:.1f}), "
            f"and not into {mine} (z = {seen[mine]:.1f})",
            "Give the number of heads that it was trained with",
        )


def evidence(model: ProbeModel) -> dict[int, float]:
    """For each number of heads K that shares the projections' width evenly, how much of it is seen.

    A standard score, over up to eight layers: of the log squared cosines between the rows of a
    projection (with queries and keys also between theirs), less the mean of all pairs as far apart,
    the sum over pairs within a head. Near 0 where K is no structure of the rows. Heads narrower
    than 4 and a single one are not judged.
    """
    heads, width = model.dims.heads, model.dims.heads * model.dims.dim_head
    candidates = [K for K in range(2, width // _NARROWEST + 1) if width % K == 0]
    total, count = dict.fromkeys(candidates, 0.0), 0
    several = min(model.layers, _LAYERS)
    for layer in np.linspace(1, model.layers, several).round().astype(int):
        rows = {}
        for basis in ("native", "qkv:q", "qkv:k"):
            if basis in model.bases:
                U = model.subspaces(int(layer), basis).detach().cpu().double().numpy()
                if len(U) == heads:
                    rows[basis] = _unit(U.transpose(0, 2, 1).reshape(-1, U.shape[1]))
        pairs = [(mine, mine) for mine in rows.values()]
        if {"qkv:q", "qkv:k"} <= rows.keys():
            pairs.append((rows["qkv:q"], rows["qkv:k"]))
        for one, other in pairs:
            cosines = _less_mean_of_lag(np.log((one @ other.T) ** 2 + 1e-8))
            # Of a matrix with itself each pair stands twice: half as many are independent.
            spread = float(cosines.std()) * (math.sqrt(2) if one is other else 1.0)
            if spread == 0 or not math.isfinite(spread):
                continue
            count += 1
            for K in candidates:
                total[K] += _within(cosines, K) / spread
    return {K: value / math.sqrt(count) for K, value in total.items()} if count else {}


def _unit(rows: Array) -> Array:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)


def _less_mean_of_lag(matrix: Array) -> Array:
    """Each entry less the mean of its diagonal: rows may change slowly, whatever the heads."""
    at = np.arange(len(matrix))
    lag = (at[:, None] - at[None, :] + len(matrix)).ravel()
    count = np.maximum(np.bincount(lag), 1)
    means = np.bincount(lag, matrix.ravel()) / count
    return matrix - means[lag].reshape(matrix.shape)


def _within(matrix: Array, heads: int) -> float:
    """The sum over pairs within a head, of a spread of 1 where entries are independent with one."""
    width = len(matrix) // heads
    blocks = matrix.reshape(heads, width, heads, width)
    within = float(np.einsum("kikj->", blocks))
    return within / math.sqrt(heads * width**2 * (1 - 1 / heads))
