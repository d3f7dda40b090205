"""The three file formats of CRATE-alpha, brought to the names of the torch release."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models.keys.counts import grid_side, numbered
from whitebox_probe.models.keys.twice import Renamed

_ATTENTION = "MultiHeadDotProductSubspaceAttention_0"
_STEP = "OvercompleteISTABlock_0"
_JAX_LAYER = "params/Transformer/encoderblock_"
_TOWER = "visual.transformer.resblocks."
# The text tower of a CLIPA file, which has no sparse code and is left out.
_TEXT = ("transformer.resblocks.", "token_embedding.", "ln_final.")
_TEXT_NAMES = {"positional_embedding", "text_projection", "logit_scale"}

Change = Callable[[Tensor], Tensor]


def _same(tensor: Tensor) -> Tensor:
    return tensor


# Flax keeps kernels as (in, out), and an attention's split into heads.
_JAX: dict[str, tuple[str, Change]] = {
    "params/cls": ("cls_token", _same),
    "params/pos_embedding": ("pos_embedding", _same),
    "params/embedding/kernel": ("conv1.weight", lambda x: x.permute(3, 2, 0, 1)),
    "params/embedding/bias": ("conv1.bias", _same),
    "params/encoder_norm/scale": ("mlp_head.0.weight", _same),
    "params/encoder_norm/bias": ("mlp_head.0.bias", _same),
    "params/head/kernel": ("mlp_head.1.weight", lambda x: x.mT),
    "params/head/bias": ("mlp_head.1.bias", _same),
}
_JAX_IN_LAYER: dict[str, tuple[str, Change]] = {
    "LayerNorm_0/scale": ("0.norm.weight", _same),
    "LayerNorm_0/bias": ("0.norm.bias", _same),
    f"{_ATTENTION}/proj/kernel": ("0.fn.qkv.weight", lambda x: x.flatten(1).mT),
    f"{_ATTENTION}/out/kernel": ("0.fn.to_out.0.weight", lambda x: x.flatten(0, 1).mT),
    "LayerNorm_1/scale": ("1.norm.weight", _same),
    "LayerNorm_1/bias": ("1.norm.bias", _same),
    f"{_STEP}/D": ("1.fn.D", _same),
    f"{_STEP}/D1": ("1.fn.D1", _same),
}
_CLIPA: dict[str, tuple[str, Change]] = {
    "visual.conv1.weight": ("conv1.weight", _same),
    "visual.class_embedding": ("cls_token", lambda x: x[None, None]),
    "visual.positional_embedding": ("pos_embedding", lambda x: x[None]),
    "visual.ln_post.weight": ("mlp_head.0.weight", _same),
    "visual.ln_post.bias": ("mlp_head.0.bias", _same),
    "visual.proj": ("mlp_head.1.weight", lambda x: x.mT),
}
_CLIPA_IN_LAYER: dict[str, tuple[str, Change]] = {
    "ln_1.weight": ("0.norm.weight", _same),
    "ln_1.bias": ("0.norm.bias", _same),
    "attn.in_proj_weight": ("0.fn.qkv.weight", lambda x: x[: len(x) // 3]),
    "attn.out_proj.weight": ("0.fn.to_out.0.weight", _same),
    "ln_2.weight": ("1.norm.weight", _same),
    "ln_2.bias": ("1.norm.bias", _same),
    "mlp.c_fc": ("1.fn.D", _same),
    "mlp.c_proj": ("1.fn.D1", _same),
}


def to_torch_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of any of the three formats under the names of the torch release.

    A key that no table has, or whose tensor has too few dimensions for its table, stays as it is,
    and is then refused by name with every other key that does not fit.

    Raises: CheckpointError where two tensors have one name, or where a CLIPA tower's queries, keys
        and values are not one projection.
    """
    if f"{_JAX_LAYER}0/{_STEP}/D" in weights:
        return _renamed(weights, _JAX, _JAX_LAYER, "/", _JAX_IN_LAYER)
    if f"{_TOWER}0.mlp.c_fc" in weights:
        tower = {k: x for k, x in weights.items() if not _of_text(k)}
        _expect_one_projection(tower)
        return _renamed(tower, _CLIPA, _TOWER, ".", _CLIPA_IN_LAYER)
    return dict(weights)


def _of_text(key: str) -> bool:
    return key.startswith(_TEXT) or key in _TEXT_NAMES


def _renamed(
    weights: Mapping[str, Tensor],
    outside: Mapping[str, tuple[str, Change]],
    prefix: str,
    separator: str,
    inside: Mapping[str, tuple[str, Change]],
) -> dict[str, Tensor]:
    named = Renamed()
    for key, tensor in weights.items():
        number, _, rest = key.removeprefix(prefix).partition(separator)
        place = outside.get(key)
        if key.startswith(prefix) and rest in inside:
            name, change = inside[rest]
            place = (f"transformer.layers.{number}.{name}", change)
        if place is None:
            named.put(key, key, tensor)
            continue
        try:
            changed = place[1](tensor).contiguous()
        except (RuntimeError, IndexError, TypeError):
            named.put(key, key, tensor)
        else:
            named.put(place[0], key, changed)
    return named


def _expect_one_projection(tower: Mapping[str, Tensor]) -> None:
    for key, tensor in tower.items():
        if not key.endswith("attn.in_proj_weight"):
            continue
        thirds = tensor.chunk(3)
        if len(thirds) != 3 or not all(torch.equal(thirds[0], other) for other in thirds[1:]):
            raise CheckpointError(
                f"{key} is no subspace attention",
                "its queries, keys and values are three projections that differ",
                "Only towers whose thirds are equal can be read as CRATE-alpha",
            )


FINGERPRINTS = (
    {
        "conv1.weight": 4,
        "pos_embedding": 3,
        "mlp_head.1.weight": 2,
        "transformer.layers.0.0.fn.qkv.weight": 2,
        "transformer.layers.0.1.fn.D1": 2,
    },
    {
        "params/embedding/kernel": 4,
        "params/pos_embedding": 3,
        "params/head/kernel": 2,
        f"{_JAX_LAYER}0/{_ATTENTION}/proj/kernel": 3,
        f"{_JAX_LAYER}0/{_STEP}/D1": 2,
    },
    {
        "visual.conv1.weight": 4,
        "visual.positional_embedding": 2,
        "visual.proj": 2,
        f"{_TOWER}0.attn.in_proj_weight": 2,
        f"{_TOWER}0.mlp.c_proj": 2,
    },
)
"""Of the torch release, the JAX archives and the CLIPA files, in this order."""


def sizes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What the keys and shapes of a file of any of the formats settle.

    `inner` is among them, K*p, and `heads` only where the file has it.

    Raises: KeyError for a file of no such format.
    """
    torch_marks, jax_marks, clipa_marks = FINGERPRINTS
    if all(key in shapes for key in torch_marks):
        conv, positions, head, projection, _ = (shapes[key] for key in torch_marks)
        found: dict[str, Any] = {"classes": head[0], "inner": projection[0]}
        found |= _image(patch=conv[2], channels=conv[1], rows=positions[1])
        return found | {"dim": conv[0], "depth": numbered(shapes, "transformer.layers.")}
    if all(key in shapes for key in jax_marks):
        conv, positions, head, (_, K, p), _ = (shapes[key] for key in jax_marks)
        found = {"classes": head[1], "heads": K, "inner": K * p, "head_eps": 1e-6}
        found |= _image(patch=conv[0], channels=conv[2], rows=positions[1])
        return found | {"dim": conv[3], "depth": numbered(shapes, _JAX_LAYER)}
    conv, positions, head, projection, _ = (shapes[key] for key in clipa_marks)
    found = {"classes": head[1], "inner": projection[0] // 3, "head_eps": 1e-6, "biases": False}
    found |= _image(patch=conv[2], channels=conv[1], rows=positions[0])
    return found | {"dim": conv[0], "depth": numbered(shapes, _TOWER)}


def _image(*, patch: int, channels: int, rows: int) -> dict[str, int]:
    side = grid_side(rows)
    return {"image_size": side * patch, "patch_size": patch, "channels": channels}
