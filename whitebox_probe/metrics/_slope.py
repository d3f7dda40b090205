"""The gradient of a log-determinant, with the same guard as the value has."""

import torch
from torch import Tensor

from whitebox_probe.metrics._linalg import guarded, one_thread, upcast

_TOLERANCE = 1e-6
_UNIT = torch.finfo(torch.float64).eps


def slope(Z: Tensor, G: Tensor, scale: float, least: Tensor) -> Tensor:
    """Z (I + scale Z^T Z)^-1 of tokens Z: the gradient of `half_logdet`, over the scale.

    Forming I + scale G loses what is below its rounding, which its trace bounds: where a millionth
    could be lost, the tokens are turned into their principal axes, in which it is the identity but
    for scales, and axes along which tokens are rounding have no part. Of a value that is not finite
    all is NaN.

    Shapes: Z (..., n, d), G (..., m, m) of `gram`, least (...) -> (..., n, d), float64.
    Args: least: the singular value up to which a direction of Z is rounding.
    """
    A = G * scale
    A.diagonal(dim1=-2, dim2=-1).add_(1.0)
    trace = A.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    with one_thread(A.device):
        L, info = torch.linalg.cholesky_ex(A)
        sure = (trace * (A.shape[-1] * torch.finfo(A.dtype).eps) <= _TOLERANCE) & (info == 0)
        # What has no factor is no matrix to invert, nor to follow backwards.
        plain = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
        if A.requires_grad:
            L = torch.linalg.cholesky_ex(torch.where(sure[..., None, None], A, plain))[0]
        else:
            L = torch.where(sure[..., None, None], L, plain)
        # Of a matrix whose eigenvalues are 1 at least, the inverse is as exact as a solution.
        inverse = torch.cholesky_inverse(L)
    Z = upcast(Z)
    value = Z @ inverse if Z.shape[-1] <= Z.shape[-2] else inverse @ Z
    if guarded() and bool(sure.all()):
        return value
    value = value.masked_fill(~sure[..., None, None], torch.nan)
    unsure = ~sure & trace.isfinite()
    if guarded() and bool(unsure.any()):
        value[unsure] = _slope_in_axes(Z[unsure], scale, least[unsure])
    return value


def _slope_in_axes(Z: Tensor, scale: float, least: Tensor) -> Tensor:
    """The same as `slope`, by the right singular vectors of Z: (b, n, d) -> (b, n, d)."""
    with one_thread(Z.device):
        _, sigma, axes = torch.linalg.svd(Z.detach(), full_matrices=False)
        least = torch.maximum(least[:, None], sigma[:, :1] * (max(Z.shape[-2:]) * _UNIT))
        sigma = sigma.masked_fill(sigma <= least, 0.0)
        shrink = (1 + scale * sigma.square()).rsqrt()  # (b, m)
        turned = ((Z @ axes.mT) * shrink[:, None]).masked_fill(sigma[:, None] == 0, 0.0)
        B = scale * (turned.mT @ turned) + torch.diag_embed(shrink.square())
        L = torch.linalg.cholesky(B)
        return (turned @ torch.cholesky_inverse(L) * shrink[:, None]) @ axes
