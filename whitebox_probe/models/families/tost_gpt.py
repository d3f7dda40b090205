"""Token Statistics Transformers for text: their names, construction and recognition."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from whitebox_probe.models.families._statistics import TokenStatisticsFamily
from whitebox_probe.models.families._tost_gpt_network import ToSTGPT
from whitebox_probe.models.family import Recognised
from whitebox_probe.models.keys.gpt import frame, marks, tied

_BIASES = ("c_attn.bias", "c_fc.bias", "c_proj.bias", "ln_1.bias", "ln_2.bias", "ln_f.bias")


class ToSTGptFamily(TokenStatisticsFamily):
    """The language ToST of Wu et al. 2025 (arXiv:2412.17810): causal statistics, then an MLP.

    Input is token ids (B, n). `memberships` are causal: those of a token are taken from it and the
    tokens before it alone, and do not change when the text goes on. What of the network was read
    in code and what is described stands in `_tost_gpt_network.py` beside it.
    """

    name = "tost_gpt"
    blocks = "transformer.h"
    projection = "c_attn"
    norms = ("ln_1", "ln_2")
    down = "c_proj"

    fingerprints = marks(
        {"attn.denom_bias": 3, "attn.c_attn.weight": 2, "attn.temp": 2, "gamma1": 1, "gamma2": 1}
    )

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build a network from the arguments of `ToSTGPT`."""
        return ToSTGPT(**arch)

    def matches(self, module: nn.Module) -> bool:
        """Only this package's network."""
        return isinstance(module, ToSTGPT)

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """The bias of the energy's share, (K, block_size, 1), which no other GPT has."""
        if not self.marked(shapes):
            return None
        heads = shapes["transformer.h.0.attn.denom_bias"][0]
        biased = any(key.endswith(_BIASES) for key in shapes)
        return Recognised(frame(shapes) | {"heads": heads, "bias": biased})

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """As of every model in nanoGPT's frame.

        Raises: CheckpointError where embedding and head differ: the network ties them.
        """
        return tied(weights, of="ToST language model")
