"""Log-determinants of token Gram matrices, through Cholesky.

Never through LU: batched LU on CPU with more than one thread gives wrong values in the torch
releases we tested (pytorch issue 142815), and `logdet`, `slogdet`, `det`, `inv` and `solve` rest on
it. A test forbids them in this package.

Products of tokens are taken in the tokens' own precision, float32 at least, and everything after
them in float64; where float32 would show in the sixth digit they are taken again in float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_TOLERANCE = 1e-7
_TOLERANCE_SINGLE = 8e-6  # the bound exceeds the error two- to fourfold


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
    they do: 16 matrices of 197 x 197 took 132 ms with two threads and 1.7 ms with one.
    """
    before = torch.get_num_threads()
    if device.type != "cpu" or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def gram(Z: Tensor) -> Tensor:
    """The smaller of Z^T Z and Z Z^T; both give the same coding rate (Sylvester's identity).

    Shapes: Z (..., n, d) -> (..., m, m) with m = min(n, d), float64.
    """
    Z = wide(Z)
    n, d = Z.shape[-2:]
    return upcast(Z.mT @ Z if d <= n else Z @ Z.mT)


def half_logdet(Z: Tensor, G: Tensor, scale: float) -> Tensor:
    """1/2 logdet(I + scale Z^T Z) of tokens Z, from their Gram matrix G.

    Two guards. Where G was formed in float32, its rounding moves the value by at most about
    eps sum_i scale G_ii / L_ii^2, and G is formed again if that could show in the sixth digit.
    Forming I + scale G loses what is below its rounding, which its trace bounds: where that could
    show in the seventh digit (tokens of huge norm and low rank, or of hardly any norm) the
    singular values of Z are taken instead. A value that is not finite stays NaN, and never becomes
    a number from a bad matrix.

    Shapes: Z (..., n, d), G (..., m, m) -> (...), float64.
    """
    value, pivots, info = _of_cholesky(G, scale)
    if Z.dtype != torch.float64:
        eps = torch.finfo(torch.float32).eps
        power = G.diagonal(dim1=-2, dim2=-1)
        moved = scale * eps * (power / pivots.square()).sum(dim=-1)
        rough = power.sum(dim=-1).isfinite() & ((moved > _TOLERANCE_SINGLE * value) | (info != 0))
        if rough.any():
            G = G.clone()
            G[rough] = gram(upcast(Z[rough]))
            again = _of_cholesky(G[rough], scale)
            value[rough], info[rough] = again[0], again[2]
    m = G.shape[-1]
    trace = G.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    lost = (1 + scale * trace) * (m * torch.finfo(torch.float64).eps)
    # NaN compares false: such samples keep their NaN.
    inexact = trace.isfinite() & ((lost > 2 * _TOLERANCE * value) | (info != 0))
    value = value.masked_fill(info != 0, torch.nan)
    if inexact.any():
        value[inexact] = _of_singular_values(Z[inexact], scale)
    return value


def _of_cholesky(G: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Half the log-determinant of I + scale G, the pivots, and LAPACK's word on each matrix."""
    A = G * scale
    A.diagonal(dim1=-2, dim2=-1).add_(1.0)
    with one_thread(A.device):
        L, info = torch.linalg.cholesky_ex(A)
    pivots = L.diagonal(dim1=-2, dim2=-1)
    return pivots.log().sum(dim=-1), pivots, info


def _of_singular_values(Z: Tensor, scale: float) -> Tensor:
    with one_thread(Z.device):
        sigma = torch.linalg.svdvals(upcast(Z))
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
    inexact = top.isfinite() & (lost > _TOLERANCE * value)
    if inexact.any():
        value[inexact] = _of_singular_values(Z[inexact], scale)
    return value


def unit_tokens(Z: Tensor) -> Tensor:
    """Scale each token to unit norm; a zero token stays zero and contributes nothing.

    Shapes: Z (..., n, d) -> (..., n, d), in the precision of Z, float32 at least.
    """
    Z = wide(Z)
    norm = torch.linalg.vector_norm(Z, dim=-1, keepdim=True)
    return Z / norm.masked_fill(norm == 0, 1.0)


def orthonormalise(U: Tensor) -> Tensor:
    """Orthonormal bases of the same subspaces, by QR.

    Shapes: U (..., d, p) -> (..., d, p), float64.
    """
    with one_thread(U.device):
        return torch.linalg.qr(upcast(U)).Q
