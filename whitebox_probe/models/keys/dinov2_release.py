"""From the names of DINOv2's own training code, and of its relatives, to those of timm."""

import re
from collections.abc import Mapping

from torch import Tensor

from whitebox_probe.models.keys.twice import Renamed

_CHUNK = re.compile(r"^blocks\.\d+\.(?=\d+\.)")
_MLP = re.compile(r"(?<=\.mlp\.)w(12|3)(?=\.(weight|bias)$)")
_PARTS = {"w12": "fc1", "w3": "fc2"}


def is_release(weights: Mapping[str, Tensor]) -> bool:
    """Whether a vision transformer's keys are of that code; beside them it keeps a mask token."""
    return "blocks.0.ls1.gamma" in map(_unchunked, weights)


def in_timms_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a release as timm names and places them; their shapes stay the file's.

    Registers stand apart from the positions, whose first row is then the class token's; a gated MLP
    has its halves together. timm's own filter does the same, and resamples positions and patches
    that do not fit without a word.

    Raises: CheckpointError where two tensors have one name.
    """
    found = Renamed()
    for key, tensor in weights.items():
        name = _MLP.sub(lambda part: _PARTS[part[0]], _unchunked(key))
        name = "reg_token" if name == "register_tokens" else name
        found.put(name, key, tensor)
    if "register_tokens" in weights and {"pos_embed", "cls_token"} <= set(found):
        first, places = found["cls_token"], found["pos_embed"]
        if places.ndim == first.ndim == 3 and places.shape[-1] == first.shape[-1]:
            return found | {"cls_token": first + places[:, :1], "pos_embed": places[:, 1:]}
    return found


def _unchunked(key: str) -> str:
    """A key with its block under its own number.

    To share a network between machines, training puts its blocks in chunks and keeps their
    numbers: the 23rd block is `blocks.3.22`, and `blocks.22` here.
    """
    return _CHUNK.sub("blocks.", key)
