"""From the names of the original vision transformers' archives (JAX) to those of timm."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models.keys.twice import Renamed

_LAYER = "Transformer/encoderblock_"
_ATTENTION = "MultiHeadDotProductAttention_1"
_THIRDS = ("query", "key", "value")
_QUERIES = f"{_LAYER}0/{_ATTENTION}/query/kernel"
MARKS = {
    "embedding/kernel": 4,
    "Transformer/posembed_input/pos_embedding": 3,
    f"{_LAYER}0/LayerNorm_0/scale": 1,
    _QUERIES: 3,
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
_WITH_QUERIES = tuple(
    f"{_ATTENTION}/{third}/{part}" for third in ("key", "value") for part in ("kernel", "bias")
)
_KERNELS = (*(f"{_ATTENTION}/{part}/kernel" for part in (*_THIRDS, "out")), *_LINEAR)
_TRAINING = ("pre_logits/kernel", "pre_logits/bias")


def is_jax(weights: Mapping[str, object]) -> bool:
    """Whether the keys are those of such an archive."""
    return all(key in weights for key in MARKS)


def heads(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of heads, which these archives tell: kernels are (d, K, p)."""
    return shapes[_QUERIES][1]


def expect_heads(weights: Mapping[str, Tensor], count: int) -> None:
    """Refuse an archive of other heads than the architecture has: flattened they would fit.

    Raises: CheckpointError.
    """
    there = heads({key: tuple(tensor.shape) for key, tensor in weights.items()})
    if there != count:
        raise CheckpointError(
            f"the archive is of {there} heads",
            f"the architecture has {count}, and its attention would be another",
            f"Pass num_heads={there}, or leave it out",
        )


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under timm's names, in torch's order of axes; unknown keys stay as they are.

    `pre_logits`, a layer of their training, is left out as timm leaves it out.

    Raises: CheckpointError where a kernel, or a bias that others have, is missing, where shapes are
        not all of the same heads, or where two tensors would have one name.
    """
    _expect_whole(weights)
    _expect_shapes(weights)
    out = Renamed()
    for key, tensor in weights.items():
        number, _, rest = key.removeprefix(_LAYER).partition("/")
        rest = rest if key.startswith(_LAYER) else ""
        if key in _TRAINING or rest in _WITH_QUERIES:  # the latter are joined to their queries
            continue
        if key in _OUTSIDE:
            name, value = _OUTSIDE[key], tensor
        elif key == "embedding/kernel":
            name, value = "patch_embed.proj.weight", tensor.permute(3, 2, 0, 1)
        elif key == "head/kernel":
            name, value = "head.weight", tensor.mT
        elif (inside := _in_layer(weights, key, rest)) is not None:
            name, value = f"blocks.{number}.{inside[0]}", inside[1]
        else:
            name, value = key, tensor
        out.put(name, key, value.contiguous())
    return out


def _in_layer(weights: Mapping[str, Tensor], key: str, rest: str) -> tuple[str, Tensor] | None:
    """The name within a block, and the tensor; None for a key that no layer has."""
    tensor = weights[key]
    if rest in _IN_LAYER:
        return _IN_LAYER[rest], tensor
    if rest in _LINEAR:
        return _LINEAR[rest], tensor.mT
    if rest == f"{_ATTENTION}/out/kernel":
        return "attn.proj.weight", tensor.flatten(0, 1).mT  # (K, p, d) -> (d, K*p)
    thirds = [key.replace("/query/", f"/{third}/") for third in _THIRDS]
    if rest == f"{_ATTENTION}/query/kernel":  # (d, K, p) -> (K*p, d)
        return "attn.qkv.weight", torch.cat([weights[third].flatten(1).mT for third in thirds])
    if rest == f"{_ATTENTION}/query/bias":
        return "attn.qkv.bias", torch.cat([weights[third].flatten() for third in thirds])
    return None


def _layers(keys: Iterable[str]) -> list[str]:
    """What the names of each layer begin with."""
    numbers = (key.removeprefix(_LAYER).partition("/")[0] for key in keys if key.startswith(_LAYER))
    return [f"{_LAYER}{number}/" for number in dict.fromkeys(numbers)]


def _expect_whole(weights: Mapping[str, Tensor]) -> None:
    """Raise where a layer lacks a kernel, or a bias that another query, key or value has.

    Raises: CheckpointError.
    """
    layers = _layers(weights)
    needed = [f"{layer}{part}" for layer in layers for part in _KERNELS]
    biases = [f"{layer}{_ATTENTION}/{third}/bias" for layer in layers for third in _THIRDS]
    if any(key in weights for key in biases):  # a network has all of them or none
        needed += biases
    absent = [key for key in needed if key not in weights]
    if absent:
        raise CheckpointError(
            "the archive has the names of a vision transformer's, but not all of them",
            f"{absent[0]} is missing",
            "Get the file again",
        )


def _expect_shapes(weights: Mapping[str, Tensor]) -> None:
    """Raise for shapes that cannot be reordered, or that are not of the first queries' heads.

    Once they are flattened, kernels of other heads have the same shape, and no check finds them.

    Raises: CheckpointError.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    layers = _layers(weights)
    ranks = {"embedding/kernel": 4, "head/kernel": 2, _QUERIES: 3}
    ranks |= {f"{layer}{part}": 2 for layer in layers for part in _LINEAR}
    wrong = [
        f"{key} is {shapes[key]} where {rank} dimensions are expected"
        for key, rank in ranks.items()
        if key in shapes and len(shapes[key]) != rank
    ]
    if not wrong:
        d, K, p = shapes[_QUERIES]
        due: dict[str, tuple[int, ...]] = {f"{third}/kernel": (d, K, p) for third in _THIRDS}
        due |= {f"{third}/bias": (K, p) for third in _THIRDS}
        due |= {"out/kernel": (K, p, d), "out/bias": (d,)}
        wrong = [
            f"{key} is {shapes[key]} where {shape} goes with {_QUERIES} {(d, K, p)}"
            for layer in layers
            for part, shape in due.items()
            if shapes.get(key := f"{layer}{_ATTENTION}/{part}", shape) != shape
        ]
    if wrong:
        more = f", and {len(wrong) - 1} more are wrongly shaped" if len(wrong) > 1 else ""
        raise CheckpointError(
            "the archive's shapes are not those of one vision transformer",
            f"{wrong[0]}{more}",
            "Get the file again",
        )
