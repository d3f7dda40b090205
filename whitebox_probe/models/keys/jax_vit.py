"""From the names of the original vision transformers' archives (JAX) to those of timm."""

from collections.abc import Mapping

import torch
from torch import Tensor

from whitebox_probe._core.errors import CheckpointError

_LAYER = "Transformer/encoderblock_"
_ATTENTION = "MultiHeadDotProductAttention_1"
MARKS = {
    "embedding/kernel": 4,
    "Transformer/posembed_input/pos_embedding": 3,
    f"{_LAYER}0/LayerNorm_0/scale": 1,
    f"{_LAYER}0/{_ATTENTION}/query/kernel": 3,
}
_OUTSIDE = {
    "cls": "cls_token",
    "Transformer/posembed_input/pos_embedding": "pos_embed",
    "Transformer/encoder_norm/scale": "norm.weight",
    "Transformer/encoder_norm/bias": "norm.bias",
    "embedding/bias": "patch_embed.proj.bias",
    "head/bias": "head.bias",
}
_IN_LAYER = {
    "LayerNorm_0/scale": "norm1.weight",
    "LayerNorm_0/bias": "norm1.bias",
    "LayerNorm_2/scale": "norm2.weight",
    "LayerNorm_2/bias": "norm2.bias",
    f"{_ATTENTION}/out/bias": "attn.proj.bias",
    "MlpBlock_3/Dense_0/bias": "mlp.fc1.bias",
    "MlpBlock_3/Dense_1/bias": "mlp.fc2.bias",
}
_LINEAR = {
    "MlpBlock_3/Dense_0/kernel": "mlp.fc1.weight",
    "MlpBlock_3/Dense_1/kernel": "mlp.fc2.weight",
}


def is_jax(weights: Mapping[str, object]) -> bool:
    """Whether the keys are those of such an archive."""
    return all(key in weights for key in MARKS)


def heads(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of heads, which these archives tell: kernels are (d, K, p)."""
    return shapes[f"{_LAYER}0/{_ATTENTION}/query/kernel"][1]


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under timm's names, in torch's order of axes; unknown keys stay as they are.

    `pre_logits`, a layer of their training, is left out as timm leaves it out.

    Raises: CheckpointError where a kernel, or one of queries, keys and values, is missing.
    """
    out: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        number, _, rest = key.removeprefix(_LAYER).partition("/")
        block = f"blocks.{number}."
        if key in _OUTSIDE:
            out[_OUTSIDE[key]] = tensor
        elif key == "embedding/kernel":
            out["patch_embed.proj.weight"] = tensor.permute(3, 2, 0, 1)
        elif key == "head/kernel":
            out["head.weight"] = tensor.mT
        elif key.startswith("pre_logits/"):
            continue
        elif not key.startswith(_LAYER):
            out[key] = tensor
        elif rest in _IN_LAYER:
            out[block + _IN_LAYER[rest]] = tensor
        elif rest in _LINEAR:
            out[block + _LINEAR[rest]] = tensor.mT
        elif rest == f"{_ATTENTION}/out/kernel":
            out[f"{block}attn.proj.weight"] = tensor.flatten(0, 1).mT  # (K, p, d) -> (d, K*p)
        elif rest == f"{_ATTENTION}/query/kernel":
            joined = [part.flatten(1).mT for part in _thirds(weights, key)]  # (d, K, p) -> (K*p, d)
            out[f"{block}attn.qkv.weight"] = torch.cat(joined)
        elif rest == f"{_ATTENTION}/query/bias":
            joined = [part.flatten() for part in _thirds(weights, key)]
            out[f"{block}attn.qkv.bias"] = torch.cat(joined)
        elif rest.split("/")[:2] not in ([_ATTENTION, "key"], [_ATTENTION, "value"]):
            out[key] = tensor
    return {key: tensor.contiguous() for key, tensor in out.items()}


def _thirds(weights: Mapping[str, Tensor], query: str) -> list[Tensor]:
    names = [query.replace("/query/", f"/{third}/") for third in ("query", "key", "value")]
    absent = [name for name in names if name not in weights]
    if absent:
        raise CheckpointError(
            "the archive has the names of a vision transformer's, but not all of them",
            f"{absent[0]} is missing",
            "Get the file again",
        )
    return [weights[name] for name in names]
