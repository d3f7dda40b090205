"""The steps of CRATE blocks and the embeddings, shared by the families of the lineage.

Rows are tokens here; the papers write tokens as columns.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError, DataError
from whitebox_probe.models.keys.positions import grid_of, resample, rule
from whitebox_probe.models.offloaded import fetched
from whitebox_probe.models.weights import affine

PUBLISHED_STEP = {"eta": 0.1, "lam": 0.1}
"""Step size and sparsity weight of every published model of the lineage but CRATE-MAE's lam."""


class PreNorm(nn.Module):
    """Layer normalisation in front of a step (`norm`, then `fn`)."""

    def __init__(self, dim: int, fn: nn.Module, *, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


def head_width(dim: int, heads: int) -> int:
    """The width p of each head, where the heads share a width of `dim`.

    Raises: ValueError if they do not share it evenly.
    """
    if dim % heads:
        raise ValueError(f"{heads} heads do not share a width of {dim} evenly")
    return dim // heads


def patches_a_side(image_size: int, patch_size: int) -> int:
    """How many patches stand side by side in an image.

    Raises: ValueError if the image's side is no multiple of the patch's.
    """
    if image_size % patch_size or image_size < patch_size:
        raise ValueError(f"an image_size of {image_size} is no multiple of patch_size {patch_size}")
    return image_size // patch_size


def patch_grid(image_size: int | Sequence[int], patch_size: int) -> tuple[int, int]:
    """The rows and columns of patches of an image: a side, or (height, width).

    Raises: ValueError if a side is no multiple of the patch's, or there are not two.
    """
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(sides) != 2:
        raise ValueError(f"an image_size of {list(sides)} is neither a side nor (height, width)")
    high, wide = (patches_a_side(side, patch_size) for side in sides)
    return high, wide


def attention_weights(q: Tensor, k: Tensor, *, causal: bool, scale: float | None = None) -> Tensor:
    """Softmax attention written out, for recording: the networks themselves use the fused form.

    Shapes: q, k (B, K, n, p) -> (B, K, n, n), rows over keys. The scale is p^-1/2 if not given.
    """
    scores = q @ k.mT * (q.shape[-1] ** -0.5 if scale is None else scale)  # (B, K, n, n)
    if causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(dim=-1)


def expect_ids(ids: Tensor, *, vocabulary: int, length: int) -> None:
    """Check token ids before they reach an embedding, whose own errors name neither.

    Raises: DataError for ids that are not (B, n) integers of the vocabulary, or too many of them.
    """
    why = None
    if ids.ndim != 2 or ids.is_floating_point() or ids.is_complex():
        why = f"integer ids (B, n) are needed, not {ids.dtype} of shape {tuple(ids.shape)}"
    elif ids.shape[1] > length:
        why = f"{ids.shape[1]} tokens are more than its {length} positions"
    elif ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
        why = f"ids {int(ids.min())} to {int(ids.max())} are not all among its {vocabulary}"
    if why is not None:
        raise DataError(
            "the model cannot take these token ids",
            why,
            "Use the tokenizer that the model was trained with, and shorter windows if need be",
        )


class OneProjection(nn.Module):
    """An attention whose queries, keys and values are one projection, with a head for each U_k.

    Rows k*p to (k+1)*p of the projection's weight are U_k^T.
    """

    projection: ClassVar[str] = "qkv"
    """The name of the projection, a linear map from d to K*p."""

    def __init__(self, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.dim_head = dim_head

    def split(self, projected: Tensor) -> Tensor:
        """The tokens in each head's subspace: (B, n, K*p) -> (B, K, n, p)."""
        return projected.unflatten(-1, (self.heads, self.dim_head)).transpose(1, 2)

    def subspaces(self) -> Tensor:
        """U as (K, d, p); a bias of the projection is left out."""
        weight, _ = affine(self.get_submodule(self.projection))
        return weight.unflatten(0, (self.heads, self.dim_head)).mT

    def sites(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Site -> what the projection's output (B, n, K*p) is turned into there."""
        return {"heads": self.split}


class SubspaceAttention(OneProjection):
    """Softmax attention of the tokens in each subspace, between its projection and output map.

    V_k = X U_k;  softmax(V_k V_k^T / sqrt(p)) V_k. With `causal`, a token attends to itself and
    those before it.

    References: Yu et al. 2023, arXiv:2306.01129, equation 11.
    """

    def __init__(self, heads: int, dim_head: int, *, causal: bool = False) -> None:
        super().__init__(heads, dim_head)
        self.causal = causal

    def attend(self, projected: Tensor) -> Tensor:
        """The heads' tokens after attention, side by side: (B, n, K*p) -> (B, n, K*p)."""
        V = self.split(projected)  # (B, K, n, p)
        out = F.scaled_dot_product_attention(V, V, V, is_causal=self.causal)  # (B, K, n, p)
        return out.transpose(1, 2).flatten(2)

    def weights(self, projected: Tensor) -> Tensor:
        """The softmax that fused attention never forms: (B, n, K*p) -> (B, K, n, n)."""
        V = self.split(projected)
        return attention_weights(V, V, causal=self.causal)

    def sites(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """The subspaces' tokens, and the softmax."""
        return super().sites() | {"attn_weights": self.weights}


class MSSA(SubspaceAttention):
    """Multi-head subspace self-attention, with the names of the CRATE releases.

    out = concat_k softmax(V_k V_k^T / sqrt(p)) V_k W_o^T + b_o, with the free output map of the
    released code in place of U.

    Shapes: X (B, n, d) -> (B, n, d).
    """

    def __init__(
        self, dim: int, heads: int, dim_head: int, *, bias: bool = True, causal: bool = False
    ) -> None:
        super().__init__(heads, dim_head, causal=causal)
        inner = heads * dim_head
        self.qkv = nn.Linear(dim, inner, bias=False)
        identity = heads == 1 and dim_head == dim
        # A Sequential, because the released checkpoints name the map `to_out.0`.
        out = nn.Linear(inner, dim, bias=bias)
        self.to_out = nn.Identity() if identity else nn.Sequential(out)

    def forward(self, x: Tensor) -> Tensor:
        return self.to_out(self.attend(self.qkv(x)))


class ISTA(nn.Module):
    """One proximal step towards a sparse, non-negative code of the tokens.

    Y^+ = ReLU(Y + eta (Y - Y D^T) D - eta lam), with D = `weight` acting on rows.

    The release computes Y D - Y D^T D in three products; factored, it takes two.

    Shapes: Y (B, n, d) -> (B, n, d).
    References: Yu et al. 2023, arXiv:2306.01129, equation 16.
    """

    def __init__(self, dim: int, step_size: float = 0.1, lam: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, dim))
        nn.init.kaiming_uniform_(self.weight)
        self.step_size = step_size
        self.lam = lam

    def forward(self, y: Tensor) -> Tensor:
        residual = y - F.linear(y, self.weight)
        step = F.linear(residual, self.weight.mT)
        return F.relu(y + self.step_size * step - self.step_size * self.lam)

    def operators(self) -> dict[str, Tensor | float]:
        """The dictionary D (d, d), the sparsity weight, the step size."""
        return {"D": fetched(self, "weight").detach(), "lam": self.lam, "eta": self.step_size}


class Patches(nn.Module):
    """Cut images into flattened patches, channel fastest, as the release orders them."""

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        s = self.patch_size
        x = x.view(B, C, H // s, s, W // s, s)  # (B, C, rows, s, columns, s)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(B, -1, s * s * C)  # (B, N, s*s*C)


class PatchEmbed(nn.Module):
    """Patches of an image as tokens, by a convolution: (B, C, H, W) -> (B, N, d), row by row."""

    def __init__(self, channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).mT


def resize_positions(
    positions: Tensor, count: int, by: str = "default", new: tuple[int, int] | None = None
) -> Tensor:
    """Position embeddings of a grid at another resolution.

    The first row (the class token's) is kept. The others, a grid row by row, are resampled to the
    new grid by a rule of `keys/positions.py`.

    Args: new: the new grid; the square one of `count` without it.
    Shapes: positions (1, 1 + s*t, d), count = 1 + u*v -> (1, 1 + u*v, d).
    Raises: CheckpointError when the old grid is neither square nor of the shape of the new one.
    """
    new = new or grid_of(count - 1)
    old = grid_of(positions.shape[1] - 1, new)
    if old is None or new is None:
        raise CheckpointError(
            f"{positions.shape[1] - 1} position embeddings cannot be resampled to {count - 1}",
            "only square grids are, behind one row for the class token",
            "Choose an image_size that gives a square grid of patches",
        )
    return resample(positions, old=old, new=new, prefix=1, by=by)


def resampled(
    weights: dict[str, Tensor], module: nn.Module, names: tuple[str, ...]
) -> dict[str, Tensor]:
    """A file's weights, with its position embeddings at the network's own resolution.

    Unchanged unless the network was built with `interpolate_positions=`; a mismatch is then found,
    and refused, with every other key that does not fit.
    """
    by = rule(module.interpolate_positions)
    if by is None:
        return weights
    changed = dict(weights)
    for name in names:
        if name in weights and weights[name].ndim == 3:
            count = module.get_parameter(name).shape[1]
            grid = getattr(module, "patch_grid", None)
            changed[name] = resize_positions(weights[name], count, by, grid)
    return changed
