"""What the files of models in nanoGPT's frame share: their sizes, a mask, a tied tensor."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from whitebox_probe._core.errors import CheckpointError

_EMBEDDING, _HEAD = "transformer.wte.weight", "lm_head.weight"


def frame(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any] | None:
    """The arguments of `GPT` that embeddings and blocks settle; None if they are not there."""
    positions = shapes.get("transformer.wpe.weight", ())
    words = shapes.get(_EMBEDDING, shapes.get(_HEAD, ()))
    if not len(positions) == len(words) == 2:
        return None
    return {
        "vocabulary": words[0],
        "block_size": positions[0],
        "dim": words[1],
        "depth": len({k.split(".")[2] for k in shapes if k.startswith("transformer.h.")}),
    }


def tied(weights: Mapping[str, Tensor], *, of: str) -> dict[str, Tensor]:
    """Leave out the causal mask that older files hold; fill in a tied tensor stored once.

    Args: of: whose file it should be, for the message.
    Raises: CheckpointError where embedding and head differ: the network ties them.
    """
    kept = {key: t for key, t in weights.items() if not key.endswith(".attn.bias")}
    for one, other in ((_EMBEDDING, _HEAD), (_HEAD, _EMBEDDING)):
        if one in kept:
            kept.setdefault(other, kept[one])
    if _EMBEDDING in kept and not torch.equal(kept[_EMBEDDING], kept[_HEAD]):
        raise CheckpointError(
            f"{_EMBEDDING} and {_HEAD} differ",
            "this architecture uses one tensor for both",
            f"Check that the file is a {of}'s",
        )
    return kept
