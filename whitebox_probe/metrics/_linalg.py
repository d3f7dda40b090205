"""Log-determinants of token Gram matrices, through Cholesky.

Never through LU: batched LU on CPU with more than one thread gives wrong values in the torch
releases we tested (pytorch issue 142815), and `logdet`, `slogdet`, `det`, `inv` and `solve` rest on
it. A test forbids them in this package.
"""

import torch
from torch import Tensor

_TOLERANCE = 1e-7


def upcast(Z: Tensor) -> Tensor:
    """Tokens in float64, the precision of every sum here.

    The Gram matrix squares the condition number: in float32 the rounding of large tokens exceeds
    the identity that is added to it, and the Cholesky factor of rank-deficient tokens is lost.
    """
    return Z.to(torch.float64)


def gram(Z: Tensor) -> Tensor:
    """The smaller of Z^T Z and Z Z^T; both give the same coding rate (Sylvester's identity).

    Shapes: Z (..., n, d) -> (..., m, m) with m = min(n, d), float64.
    """
    Z = upcast(Z)
    n, d = Z.shape[-2:]
    return Z.mT @ Z if d <= n else Z @ Z.mT


def half_logdet(Z: Tensor, G: Tensor, scale: float) -> Tensor:
    """1/2 logdet(I + scale Z^T Z) of tokens Z, from their Gram matrix G.

    Forming I + scale G loses what is below its rounding, which its trace bounds. Where that could
    show in the seventh digit (tokens of huge norm and low rank, or of hardly any norm) the singular
    values of Z are taken instead. A value that is not finite stays NaN, and never becomes a number
    from a bad matrix.

    Shapes: Z (..., n, d), G (..., m, m) -> (...), float64.
    """
    A = G * scale
    A.diagonal(dim1=-2, dim2=-1).add_(1.0)
    L, info = torch.linalg.cholesky_ex(A)
    value = L.diagonal(dim1=-2, dim2=-1).log().sum(dim=-1)
    m = G.shape[-1]
    trace = G.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    lost = (1 + scale * trace) * (m * torch.finfo(torch.float64).eps)
    # NaN compares false: such samples keep their NaN.
    inexact = trace.isfinite() & ((lost > 2 * _TOLERANCE * value) | (info != 0))
    value = value.masked_fill(info != 0, torch.nan)
    if inexact.any():
        sigma = torch.linalg.svdvals(upcast(Z[inexact]))
        value[inexact] = 0.5 * (scale * sigma.square()).log1p().sum(dim=-1)
    return value


def spectrum(G: Tensor) -> Tensor:
    """Eigenvalues of Gram matrices, ascending and not negative; NaN for those not finite.

    Shapes: G (..., m, m) -> (..., m), float64.
    """
    finite = G.isfinite().all(dim=-1).all(dim=-1)
    safe = torch.where(finite[..., None, None], G, torch.zeros_like(G))
    return torch.linalg.eigvalsh(safe).clamp_min(0.0).masked_fill(~finite[..., None], torch.nan)


def half_logdet_of_spectrum(Z: Tensor, eigenvalues: Tensor, scale: float) -> Tensor:
    """The same as `half_logdet`, from the eigenvalues of the Gram matrix.

    Shapes: Z (..., n, d), eigenvalues (..., m) -> (...), float64.
    """
    value = 0.5 * (scale * eigenvalues).log1p().sum(dim=-1)
    top = eigenvalues[..., -1]
    lost = scale * top * (eigenvalues.shape[-1] * torch.finfo(torch.float64).eps)
    inexact = top.isfinite() & (lost > _TOLERANCE * value)
    if inexact.any():
        sigma = torch.linalg.svdvals(upcast(Z[inexact]))
        value[inexact] = 0.5 * (scale * sigma.square()).log1p().sum(dim=-1)
    return value


def unit_tokens(Z: Tensor) -> Tensor:
    """Scale each token to unit norm; a zero token stays zero and contributes nothing.

    Shapes: Z (..., n, d) -> (..., n, d), float64.
    """
    Z = upcast(Z)
    norm = torch.linalg.vector_norm(Z, dim=-1, keepdim=True)
    return Z / norm.masked_fill(norm == 0, 1.0)


def orthonormalise(U: Tensor) -> Tensor:
    """Orthonormal bases of the same subspaces, by QR.

    Shapes: U (..., d, p) -> (..., d, p), float64.
    """
    return torch.linalg.qr(upcast(U)).Q
