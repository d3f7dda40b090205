"""From the names of Hugging Face's `Dinov2Model` to those of timm's VisionTransformer."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models.keys.twice import Renamed

BACKBONE = "backbone."
MARK = "embeddings.patch_embeddings.projection.weight"
MARKS = {
    MARK: 4,
    "encoder.layer.0.attention.attention.query.weight": 2,
    "encoder.layer.0.layer_scale1.lambda1": 1,
    "encoder.layer.0.mlp.fc1.weight": 2,
}
_CLASS, _TABLE = "embeddings.cls_token", "embeddings.position_embeddings"
_PARTS = (
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("encoder.layer.", "blocks."),
    ("attention.output.dense.", "attn.proj."),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
    ("layernorm.", "norm."),
)


def is_dinov2(weights: Mapping[str, object]) -> bool:
    """Whether the keys are those of a `Dinov2Model`, by itself or as a `backbone`."""
    return MARK in weights or f"{BACKBONE}{MARK}" in weights


def beside(weights: Mapping[str, object]) -> list[str]:
    """The keys of a decoder or a head that a file holds beside the `backbone`."""
    return [] if MARK in weights else [key for key in weights if not key.startswith(BACKBONE)]


def renamed(weights: Mapping[str, Tensor], tokens: int | None) -> dict[str, Tensor]:
    """A Dinov2Model's tensors under timm's names.

    Queries, keys and values are joined in this order, and the position table is resized to that of
    the network. What stands beside a `backbone.` (a decoder, a head) is left out, and so is the
    mask token, which only training uses.

    Args: tokens: 1 + n, the rows of the network's own position table; None leaves the file's.
    Shapes: a position table (1, 1 + m, d), m square -> (1, 1 + n, d)
    Raises: CheckpointError when a query, key, value or position table is missing, or where two
        tensors have one name.
    """
    if MARK not in weights:
        inside = (key for key in weights if key.startswith(BACKBONE))
        weights = {key.removeprefix(BACKBONE): weights[key] for key in inside}
    parts = dict(weights)
    parts.pop("embeddings.mask_token", None)
    out = Renamed()
    out.put("cls_token", _CLASS, _take(parts, _CLASS))
    table = _positions(parts)
    out.put("pos_embed", _TABLE, table if tokens is None else resized(table, tokens))
    for key in [key for key in parts if ".attention.attention.query." in key]:
        joined = [_take(parts, key.replace("query", each)) for each in ("query", "key", "value")]
        name = key.replace("encoder.layer", "blocks").replace(
            "attention.attention.query", "attn.qkv"
        )
        out.put(name, key, torch.cat(joined))
    for key, tensor in parts.items():
        name = key
        for old, new in _PARTS:
            name = name.replace(old, new)
        out.put(name, key, tensor)
    return out


def resized(table: Tensor, tokens: int) -> Tensor:
    """A position table for another number of tokens: a class row, then a square grid of patches.

    Bicubic, without antialiasing, corners not aligned, as Dinov2Model does it. timm resizes with
    antialiasing, which changes a pretrained model's tokens visibly.

    Shapes: table (1, 1 + m, d) -> (1, tokens, d)
    """
    if table.shape[1] == tokens:
        return table
    old, new = round((table.shape[1] - 1) ** 0.5), round((tokens - 1) ** 0.5)
    grid = table[:, 1:].unflatten(1, (old, old)).permute(0, 3, 1, 2)  # (1, d, old, old)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat([table[:, :1], grid.flatten(2).mT], dim=1)


def _positions(parts: dict[str, Tensor]) -> Tensor:
    """The position table: whole, or as an exporter left it, a class row apart from the grid."""
    whole = parts.pop(_TABLE, None)
    if whole is not None:
        return whole
    apart = [key for key in parts if key.startswith("embeddings.") and key.count(".") == 1]
    apart = [key for key in apart if key != _CLASS and parts[key].ndim == 3]
    rows = sorted((parts.pop(key) for key in apart), key=lambda tensor: tensor.shape[1])
    if len(rows) != 2 or rows[0].shape[1] != 1:
        raise _missing("the position table, or its class row and its grid")
    return torch.cat(rows, dim=1)


def _take(parts: dict[str, Tensor], key: str) -> Tensor:
    if key not in parts:
        raise _missing(key)
    return parts.pop(key)


def _missing(what: str) -> CheckpointError:
    return CheckpointError(
        "the file has the keys of a Dinov2Model, but not all of them",
        f"{what} is missing",
        "Get the file again",
    )
