"""Token Statistics Transformers for images: their names, construction and recognition."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from whitebox_probe.models.families._statistics import TokenStatisticsFamily
from whitebox_probe.models.families._tost_network import ToST
from whitebox_probe.models.family import Recognised


class ToSTFamily(TokenStatisticsFamily):
    """ToST of Wu et al. 2025 (arXiv:2412.17810): token statistics attention, then an MLP.

    Layers are the main blocks, which the class token has not joined yet: all tokens are patches.
    """

    name = "tost"
    assumed_from = "the published sizes are built on XCiT's, which have it"
    blocks = "blocks"
    projection = "qkv"
    norms = ("norm1", "norm2")
    down = "fc2"

    fingerprints = (
        {
            "blocks.0.attn.temp": 2,
            "blocks.0.attn.qkv.weight": 2,
            "patch_embed.proj.0.0.weight": 4,
            "blocks.0.mlp.fc1.weight": 2,
            "head.weight": 2,
        },
    )

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build a network from the arguments of `ToST`."""
        return ToST(**arch)

    def matches(self, module: nn.Module) -> bool:
        """Only this package's network."""
        return isinstance(module, ToST)

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """How the last norm of a class-attention block is applied, which no site sees."""
        return {"tokens_norm": True}

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """A temperature for each head, which also tells their number."""
        if not self.marked(shapes):
            return None
        temp, qkv, first, hidden, head = (shapes[key] for key in self.fingerprints[0])
        names = [key.split(".") for key in shapes]
        steps = sum(n[:2] == ["patch_embed", "proj"] and n[3:] == ["0", "weight"] for n in names)
        arch = {
            "patch_size": 2**steps,
            "channels": first[1],
            "classes": head[0],
            "dim": qkv[1],
            "depth": len({n[1] for n in names if n[0] == "blocks"}),
            "heads": temp[0],
            "mlp_ratio": hidden[0] / qkv[1],
            "class_depth": len({n[1] for n in names if n[0] == "cls_attn_blocks"}),
            "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        }
        return Recognised(arch)

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the whole width."""
        return {"heads": heads}
