"""What the files of models in nanoGPT's frame share: their sizes, a mask, a tied tensor."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from whitebox_probe._core.errors import CheckpointError
from whitebox_probe.models.keys.counts import numbered

_EMBEDDING, _HEAD = "transformer.wte.weight", "lm_head.weight"
_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def marks(inside: Mapping[str, int]) -> tuple[dict[str, int], ...]:
    """Fingerprints of the files of a model in this frame, with either name of the tied tensor.

    Args: inside: what stands in each block -> its number of dimensions.
    """
    first = {f"transformer.h.0.{name}": rank for name, rank in inside.items()}
    return tuple(first | {"transformer.wpe.weight": 2, words: 2} for words in (_EMBEDDING, _HEAD))


def frame(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The arguments of `GPT` that embeddings and blocks settle, where `marks` are there."""
    words = next(s for s in (shapes.get(_EMBEDDING, ()), shapes.get(_HEAD, ())) if len(s) == 2)
    return {
        "vocabulary": words[0],
        "block_size": shapes["transformer.wpe.weight"][0],
        "dim": words[1],
        "depth": numbered(shapes, "transformer.h."),
    }


_STATED = {"n_layer": "depth", "n_embd": "dim", "bias": "bias"}


def stated(arguments: Mapping[str, Any], *, bias: bool) -> dict[str, Any]:
    """What nanoGPT's `model_args` say that the tensors tell as well, in the words of `GPT`.

    Args: bias: whether the network has an argument of that name.
    """
    kinds = {"depth": int, "dim": int} | ({"bias": bool} if bias else {})
    told = {_STATED[key]: value for key, value in arguments.items() if key in _STATED}
    return {name: value for name, value in told.items() if type(value) is kinds.get(name)}


def tied(weights: Mapping[str, Tensor], *, of: str) -> dict[str, Tensor]:
    """Leave out the causal mask that older files hold; fill in a tied tensor stored once.

    Args: of: whose file it should be, for the message.
    Raises: CheckpointError where embedding and head differ: the network ties them.
    """
    kept = {key: t for key, t in weights.items() if not key.endswith(".attn.bias")}
    for one, other in ((_EMBEDDING, _HEAD), (_HEAD, _EMBEDDING)):
        if one in kept:
            kept.setdefault(other, kept[one])
    # Tensors of other types cannot all be compared; they are refused by name afterwards.
    known = all(kept[key].dtype in _FLOATING for key in (_EMBEDDING, _HEAD) if key in kept)
    if _EMBEDDING in kept and known and not torch.equal(kept[_EMBEDDING], kept[_HEAD]):
        raise CheckpointError(
            f"{_EMBEDDING} and {_HEAD} differ",
            "this architecture uses one tensor for both",
            f"Check that the file is a {of}'s",
        )
    return kept
