"""Textbook float64 NumPy references; imports nothing of the package."""

import math

import numpy as np
import scipy.linalg
import scipy.stats


def half_logdet(A):
    sign, value = np.linalg.slogdet(A)
    assert sign == 1
    return value / 2


def coding_rate_by_singular_values(Z, eps):
    """The same value where I + scale Z Z^T would lose digits: huge, tiny or low-rank tokens."""
    Z = np.asarray(Z, dtype=np.float64)
    n, d = Z.shape
    return 0.5 * np.log1p(d / (n * eps**2) * np.linalg.svd(Z, compute_uv=False) ** 2).sum()


def compression_by_singular_values(Z, U, eps):
    Z = np.asarray(Z, dtype=np.float64)
    return sum(coding_rate_by_singular_values(Z @ np.asarray(basis), eps) for basis in U)


def coding_rate(Z, eps):
    """One sample, (n, d), through the n x n form."""
    Z = np.asarray(Z, dtype=np.float64)
    n, d = Z.shape
    return half_logdet(np.eye(n) + d / (n * eps**2) * Z @ Z.T)


def compression(Z, U, eps):
    """One sample, (n, d), and U (K, d, p), through the p x p form, head by head."""
    Z, U = np.asarray(Z, dtype=np.float64), np.asarray(U, dtype=np.float64)
    n, p = len(Z), U.shape[2]
    total = 0.0
    for basis in U:
        V = Z @ basis
        total += half_logdet(np.eye(p) + p / (n * eps**2) * V.T @ V)
    return total


def official_compression(V, eps_squared=0.01):
    """One sample, (K, n, p), as the release computes it: n x n for each head."""
    total = 0.0
    for head in np.asarray(V, dtype=np.float64):
        n, p = head.shape
        unit = head / np.linalg.norm(head, axis=1, keepdims=True)
        total += half_logdet(np.eye(n) + p / (n * eps_squared) * unit @ unit.T)
    return total


def l0(Z):
    return np.mean([[1.0 if z != 0 else 0.0 for z in row] for row in np.asarray(Z)])


def hoyer(Z):
    values = []
    for row in np.asarray(Z, dtype=np.float64):
        root, two = np.sqrt(len(row)), np.sqrt((row**2).sum())
        if two > 0:
            values.append((root - np.abs(row).sum() / two) / (root - 1))
    return np.mean(values) if values else math.nan


def thresholded(Z, tau=0.1):
    shares = []
    for z in np.asarray(Z, dtype=np.float64):
        rms = np.sqrt(np.mean(z**2))
        if rms > 0:
            shares.append(np.mean(np.abs(z) > tau * rms))
    return np.mean(shares) if shares else math.nan


def l1_l2(Z):
    Z = np.abs(np.asarray(Z, dtype=np.float64))
    return np.mean([z.sum() / np.sqrt((z**2).sum()) for z in Z]) / np.sqrt(Z.shape[1])


def gini(Z):
    """Mean absolute difference over twice the mean: the definition, not the sorted form."""
    Z = np.abs(np.asarray(Z, dtype=np.float64))
    return np.mean([np.abs(z[:, None] - z[None]).mean() / (2 * z.mean()) for z in Z])


def excess_kurtosis(Z):
    return scipy.stats.kurtosis(np.asarray(Z, dtype=np.float64).ravel())


def treves_rolls(Z):
    Z = np.asarray(Z, dtype=np.float64)
    return np.mean([np.abs(z).mean() ** 2 / (z**2).mean() for z in Z])


def singular_values(Z):
    return np.linalg.svd(np.asarray(Z, dtype=np.float64), compute_uv=False)


def effective_rank(Z):
    sigma = singular_values(Z)
    return np.exp(scipy.stats.entropy(sigma / sigma.sum()))


def stable_rank(Z):
    sigma = singular_values(Z)
    return (sigma**2).sum() / sigma[0] ** 2


def participation_ratio(Z):
    power = singular_values(Z) ** 2
    return power.sum() ** 2 / (power**2).sum()


def spectral_decay(Z):
    power = singular_values(Z) ** 2
    rank = np.arange(1, len(power) + 1)
    return -scipy.stats.linregress(np.log(rank), np.log(power)).slope


def rank_me(X):
    sigma = singular_values(X)
    p = sigma / sigma.sum() + 1e-7
    return np.exp(-(p * np.log(p)).sum())


def mean_cosine(Z):
    Z = np.asarray(Z, dtype=np.float64)
    unit = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    return (unit @ unit.T)[~np.eye(len(Z), dtype=bool)].mean()


def token_norm(Z):
    return np.mean([np.sqrt((z**2).sum()) for z in np.asarray(Z, dtype=np.float64)])


def attention_entropy(A):
    """One head, (n, n)."""
    return scipy.stats.entropy(np.asarray(A, dtype=np.float64), axis=-1).mean()


def attention_distance(A, side):
    """One head of patches alone, (side^2, side^2)."""
    places = [(row, column) for row in range(side) for column in range(side)]
    rows = []
    for row, here in zip(np.asarray(A, dtype=np.float64), places, strict=True):
        far = [math.dist(here, there) for there in places]
        rows.append(np.dot(row, far) / row.sum())
    return np.mean(rows)


def mutual_coherence(U):
    U = np.asarray(U, dtype=np.float64)
    U = U / np.linalg.norm(U, axis=1, keepdims=True)
    K, _, p = U.shape
    return max(
        abs(U[i, :, a] @ U[j, :, b])
        for i in range(K)
        for j in range(K)
        for a in range(p)
        for b in range(p)
        if i != j
    )


def rate_gradient(Z, scale, rank=None):
    """Of 1/2 logdet(I + scale Z^T Z), (n, d), along the leading directions if a rank is known."""
    left, sigma, right = np.linalg.svd(np.asarray(Z, dtype=np.float64), full_matrices=False)
    slope = scale * sigma / (1 + scale * sigma**2)
    slope[len(slope) if rank is None else rank :] = 0
    return (left * slope) @ right


def principal_angles(U):
    U = np.asarray(U, dtype=np.float64)
    return np.array([[np.sort(scipy.linalg.subspace_angles(A, B)) for B in U] for A in U])


def layer_norm(X, weight, bias, eps=1e-5):
    mean = X.mean(-1, keepdims=True)
    var = ((X - mean) ** 2).mean(-1, keepdims=True)
    return (X - mean) / np.sqrt(var + eps) * weight + bias


def softmax(X):
    E = np.exp(X - X.max(-1, keepdims=True))
    return E / E.sum(-1, keepdims=True)


def crate(state, image, *, patch, heads, eta=0.1, lam=0.1):
    """The published CRATE, one image (C, H, W): three products in ISTA, explicit attention."""
    w = {key: np.asarray(value, dtype=np.float64) for key, value in state.items()}
    C, H, W = image.shape
    patches = []
    for row in range(H // patch):
        for column in range(W // patch):
            block = image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            patches.append(
                [block[c, i, j] for i in range(patch) for j in range(patch) for c in range(C)]
            )
    X = np.array(patches, dtype=np.float64)
    e = "to_patch_embedding"
    X = layer_norm(X, w[f"{e}.1.weight"], w[f"{e}.1.bias"])
    X = X @ w[f"{e}.2.weight"].T + w[f"{e}.2.bias"]
    X = layer_norm(X, w[f"{e}.3.weight"], w[f"{e}.3.bias"])
    X = np.concatenate([w["cls_token"][0], X]) + w["pos_embedding"][0]
    layer = 0
    while f"transformer.layers.{layer}.1.fn.weight" in w:
        t = f"transformer.layers.{layer}"
        Y = layer_norm(X, w[f"{t}.0.norm.weight"], w[f"{t}.0.norm.bias"])
        projected = Y @ w[f"{t}.0.fn.qkv.weight"].T
        p = projected.shape[1] // heads
        out = []
        for k in range(heads):
            V = projected[:, k * p : (k + 1) * p]
            out.append(softmax(V @ V.T / np.sqrt(p)) @ V)
        update = np.concatenate(out, axis=1)
        if f"{t}.0.fn.to_out.0.weight" in w:
            update = update @ w[f"{t}.0.fn.to_out.0.weight"].T + w[f"{t}.0.fn.to_out.0.bias"]
        X = X + update
        Y = layer_norm(X, w[f"{t}.1.norm.weight"], w[f"{t}.1.norm.bias"])
        D = w[f"{t}.1.fn.weight"]
        X = np.maximum(Y + eta * (Y @ D - Y @ D.T @ D) - eta * lam, 0)
        layer += 1
    head = layer_norm(X[0], w["mlp_head.0.weight"], w["mlp_head.0.bias"])
    return head @ w["mlp_head.1.weight"].T + w["mlp_head.1.bias"]
