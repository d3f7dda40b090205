"""Log-determinants of token Gram matrices, through Cholesky.

Never through LU: batched LU on CPU with more than one thread gives wrong values in the torch
releases we tested (pytorch issue 142815), and `logdet`, `slogdet`, `det`, `inv` and `solve` rest on
it. A test forbids them in this package.

Tokens are projected in their own precision, float32 at least; Gram matrices and everything after
them are in float64. A Gram matrix in float32 squares what rounding does to tokens of nearly low
rank: it moved rates of the shipped models by up to 3e-4 of their value.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from threading import get_ident

import torch
from torch import Tensor

_TOLERANCE = 1e-7
_guarded = ContextVar("guarded", default=True)
_limited: dict[int, int] = {}
"""The threads that are limited to one of the processor's, and how many each had before."""


@contextmanager
def unguarded() -> Iterator[None]:
    """Leave NaN where a guard would have to look closer, and ask the device for nothing.

    On an accelerator each question makes the host wait for everything before it. One look at a
    whole batch finds the NaN; its samples are then measured again, with the guards.
    """
    before = _guarded.set(False)
    try:
        yield
    finally:
        _guarded.reset(before)


def upcast(Z: Tensor) -> Tensor:
    """Tokens in float64."""
    return Z.to(torch.float64)


def wide(Z: Tensor) -> Tensor:
    """Tokens in float32 at least: as they are, unless they are in half precision."""
    return Z if Z.dtype in (torch.float32, torch.float64) else Z.to(torch.float32)


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Factorise small matrices on the CPU with one thread.

    LAPACK is called for one matrix of the batch after the other, and its threads cost more than
    they do: 16 matrices of 197 x 197 took 136 ms with two threads and 2.5 ms with one.
    """
    before, me = torch.get_num_threads(), get_ident()
    if before == 1 and me not in _limited:
        # A thread that asks for the first time while another one is here is told 1.
        before = max(_limited.copy().values(), default=1)
    if device.type != "cpu" or before == 1 or me in _limited:
        yield
        return
    _limited[me] = before
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        del _limited[me]


def gram(Z: Tensor) -> Tensor:
    """The smaller of Z^T Z and Z Z^T; both give the same coding rate (Sylvester's identity).

    Shapes: Z (..., n, d) -> (..., m, m) with m = min(n, d), float64.
    """
    Z = upcast(Z)
    n, d = Z.shape[-2:]
    X = Z.mT if d <= n else Z  # (..., m, r)
    m = min(n, d)
    parts = 1 if X.requires_grad or m < 32 else 2 if m < 128 else 4
    if parts == 1:
        return X @ X.mT
    # Only the blocks on and below the diagonal are multiplied out.
    G = X.new_empty(*X.shape[:-1], m)
    for start, stop in pairwise(m * i // parts for i in range(parts + 1)):
        block = X[..., start:stop, :] @ X[..., :stop, :].mT
        G[..., start:stop, :stop] = block
        G[..., :start, start:stop] = block[..., :start].mT
    return G


def half_logdet(Z: Tensor, G: Tensor, scale: float) -> Tensor:
    """1/2 logdet(I + scale Z^T Z) of tokens Z, from their Gram matrix G.

    Forming A = I + scale G loses what is below its rounding, which its trace bounds: where that
    could show in the seventh digit (tokens of huge norm and low rank, or of hardly any norm) the
    singular values of Z are taken instead. A value that is not finite stays NaN, and never becomes
    a number from a bad matrix.

    Shapes: Z (..., n, d), G (..., m, m) of `gram` -> (...), float64.
    """
    A = G * scale
    A.diagonal(dim1=-2, dim2=-1).add_(1.0)
    trace = A.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    pivots, info = _pivots(A)
    value = pivots.log().sum(dim=-1)
    lost = trace * (A.shape[-1] * torch.finfo(A.dtype).eps)
    sure = (lost <= 2 * _TOLERANCE * value) & (info == 0)
    if value.requires_grad and _guarded.get() and not bool(sure.all()):
        # Even of a value that is not used, the factor of a matrix that has none would put NaN into
        # the gradient.
        plain = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        value = _pivots(torch.where(sure[..., None, None], A, plain))[0].log().sum(dim=-1)
    return _closer(Z, value, sure, trace.isfinite(), scale)


def _pivots(A: Tensor) -> tuple[Tensor, Tensor]:
    """The diagonals of Cholesky factors, and LAPACK's word on each matrix.

    Shapes: A (..., m, m) -> (..., m), (...).
    """
    with one_thread(A.device):
        # Transposed, a symmetric matrix lies as LAPACK wants it.
        L, info = torch.linalg.cholesky_ex(A.mT)
    return L.diagonal(dim1=-2, dim2=-1), info


def _of_singular_values(Z: Tensor, scale: float) -> Tensor:
    Z = upcast(Z)
    with one_thread(Z.device):
        sigma = torch.linalg.svdvals(Z)
    if sigma.requires_grad:
        # Below the rounding of the decomposition there is no direction to follow.
        least = max(Z.shape[-2:]) * torch.finfo(Z.dtype).eps * sigma[..., :1]
        sigma = torch.where(sigma > least, sigma, sigma.detach())
    return 0.5 * (scale * sigma.square()).log1p().sum(dim=-1)


def spectrum(G: Tensor) -> Tensor:
    """Eigenvalues of Gram matrices, ascending and not negative; NaN for those not finite.

    Shapes: G (..., m, m) -> (..., m), float64.
    """
    finite = G.isfinite().all(dim=-1).all(dim=-1)
    safe = torch.where(finite[..., None, None], G, torch.zeros_like(G))
    with one_thread(G.device):
        values = torch.linalg.eigvalsh(safe)
    return values.clamp_min(0.0).masked_fill(~finite[..., None], torch.nan)


def half_logdet_of_spectrum(Z: Tensor, eigenvalues: Tensor, scale: float) -> Tensor:
    """The same as `half_logdet`, from the eigenvalues of the Gram matrix.

    Shapes: Z (..., n, d), eigenvalues (..., m) of a Gram matrix formed in float64 -> (...).
    """
    value = 0.5 * (scale * eigenvalues).log1p().sum(dim=-1)
    top = eigenvalues[..., -1]
    lost = scale * top * (eigenvalues.shape[-1] * torch.finfo(torch.float64).eps)
    return _closer(Z, value, lost <= _TOLERANCE * value, top.isfinite(), scale)


def guarded() -> bool:
    """Whether guards may ask for values now."""
    return _guarded.get()


def _closer(Z: Tensor, value: Tensor, sure: Tensor, finite: Tensor, scale: float) -> Tensor:
    """Values that are sure as they are, and the others from singular values; NaN is never sure."""
    if not _guarded.get():
        return value.masked_fill(~sure, torch.nan)
    if bool(sure.all()):
        return value
    value = value.masked_fill(~sure, torch.nan)
    unsure = ~sure & finite
    value[unsure] = _of_singular_values(Z[unsure], scale)
    return value


def token_norms(Z: Tensor) -> Tensor:
    """The l2 norm of each token: (..., n, d) -> (..., n), float64, whose range squares need."""
    return torch.linalg.vector_norm(wide(Z), dim=-1, dtype=torch.float64)


def rounding(Z: Tensor, *, width: int | None = None, within: int = 0) -> float:
    """What is rounding of products of such tokens, as a share of |z| |u|: eps sqrt(d).

    Each entry of a product is off by about eps |z| |u| or less; the root of d stands off from that.
    Tokens in half precision are themselves off by eps |z|, of which sqrt(p/d) falls within a head.

    Args: width: d, where it is not that of Z. within: p of a head, if Z is seen in heads.
    """
    d = width or Z.shape[-1]
    share = torch.finfo(wide(Z).dtype).eps * math.sqrt(d)
    if within and Z.dtype in (torch.float16, torch.bfloat16):
        share += torch.finfo(Z.dtype).eps * math.sqrt(within / d)
    return float(share)


def unit_tokens(Z: Tensor, floor: Tensor | None = None) -> Tensor:
    """Scale each token to unit norm; a zero token stays zero and contributes nothing.

    Rounding scaled to unit norm would weigh as much as any signal: tokens whose norm is not above
    `floor` (as rounding of what they were computed from) are made zero.

    Shapes: Z (..., n, d), floor (..., n) or what broadcasts -> (..., n, d), in the precision of Z,
        float32 at least.
    """
    Z = wide(Z)
    norm = token_norms(Z)[..., None]
    nothing = norm == 0 if floor is None else norm <= floor[..., None]
    unit = Z / norm.masked_fill(nothing, 1.0).to(Z.dtype)
    return unit if floor is None else unit.masked_fill(nothing, 0.0)


def token_floor(Z: Tensor) -> Tensor:
    """The norm up to which a token is rounding beside the largest of its sample.

    Shapes: Z (B, ..., n, d) -> (B, ..., 1) with ones, float64.
    """
    norms = token_norms(Z)
    largest = norms.flatten(1).amax(dim=1) if norms.numel() else norms.new_zeros(len(norms))
    return rounding(Z) * _if_finite(largest).view(-1, *[1] * (norms.ndim - 1))


def _if_finite(norms: Tensor) -> Tensor:
    """NaN for infinity, beside which every token would be rounding, the infinite one as well."""
    return norms.masked_fill(norms.isinf(), torch.nan)


def unit_in_heads(V: Tensor, Z: Tensor | None = None, U: Tensor | None = None) -> Tensor:
    """Per-head tokens V_k = Z U_k, each of unit norm, without what is rounding of that product.

    A token within a head, or a direction of a head over all tokens, is zero where its norm is at
    most eps sqrt(d) |z| |u|. Where only V is known, |z| is that of the sample's largest token in
    the head where it is largest, against the lengths of that head's vectors if U is known.

    Shapes: V (B, K, n, p), Z (B, n, d), U (K, d, p) -> (B, K, n, p), float32 at least.
    """
    K, n, p = V.shape[-3:]
    share = rounding(V, width=K * p if U is None else U.shape[1], within=p)
    V = wide(V)
    norms = token_norms(V)  # (B, K, n)
    if U is None:
        columns = longest = V.new_ones((1, 1), dtype=torch.float64)
    else:
        columns = torch.linalg.vector_norm(U, dim=1, dtype=torch.float64)  # (K, p)
        longest = columns.amax(dim=-1, keepdim=True)  # (K, 1)
    if Z is not None:
        size = _if_finite(token_norms(Z)[:, None])  # (B, 1, n)
        whole = torch.linalg.vector_norm(size, dim=-1, keepdim=True)  # (B, 1, 1)
    else:
        told = norms / longest.masked_fill(longest == 0, torch.inf)
        size = _if_finite(told.flatten(1).amax(dim=1)[:, None, None])
        whole = size * math.sqrt(n)
    across = torch.linalg.vector_norm(V, dim=-2, keepdim=True, dtype=torch.float64)  # (B, K, 1, p)
    V = V.masked_fill(across <= share * whole[..., None] * columns[:, None], 0.0)
    return unit_tokens(V, share * size * longest)


def orthonormalise(U: Tensor) -> Tensor:
    """Orthonormal bases of the same subspaces, by QR.

    Of vectors that depend on each other the subspace has fewer directions than p: those that are
    missing would be drawn by rounding, and are columns of zeros instead.

    Shapes: U (..., d, p) -> (..., d, p), float64.
    """
    share = rounding(U.mT)
    U = upcast(U)
    with one_thread(U.device):
        Q, R = torch.linalg.qr(U)
        pivots = R.diagonal(dim1=-2, dim2=-1).abs()
        longest = torch.linalg.vector_norm(U, dim=-2).amax(dim=-1, keepdim=True)
        short = (pivots <= share * longest).any(dim=-1)
        if bool(short.any()):
            left, sigma, _ = torch.linalg.svd(U[short], full_matrices=False)
            kept = sigma > share * sigma[..., :1]
            Q[short] = torch.where(kept[..., None, :], left, 0.0)
    return Q


def noise(Z: Tensor, U: Tensor, scale: float) -> Tensor:
    """What rounding of float32 products adds to the eigenvalues of scale (Z U_k)^T (Z U_k).

    Each entry of Z U_k is off by about eps |z| |u|, in every direction of the subspace.

    Shapes: Z (B, n, d), U (K, d, p) -> (B,), float64.
    """
    eps = torch.finfo(torch.float32).eps
    longest = torch.linalg.vector_norm(U, dim=1, dtype=torch.float64).max()
    return scale * (eps * longest) ** 2 * token_norms(Z).square().sum(dim=-1)


def count_positive(A: Tensor) -> Tensor:
    """How many entries of each token are above zero; A is not negative.

    A sum of signs: exact up to 2^24 entries, and several times faster than a comparison.

    Shapes: A (..., n, d), float32 at least -> (..., n), float64.
    """
    return A.sign().sum(dim=-1).double()
