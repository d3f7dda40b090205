"""CRATE masked autoencoders: sites of encoder and decoder, subspaces, and their construction."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from whitebox_probe.models.families._crate_mae_network import CrateMAE
from whitebox_probe.models.families._steps import PUBLISHED_STEP, resampled
from whitebox_probe.models.family import Dims, Family, Recognised, Tap


class CrateMAEFamily(Family):
    """CRATE-MAE of Pai et al. 2024 (arXiv:2404.02446).

    Layers 1 to L are the encoder's and hold what a CRATE's do. The layers after them are the
    decoder's, which run the other way round, H = LN(Z) W^T and then Z^+ = H - MSSA(LN(H)):

    - `z_in`, `z_out`: the tokens that enter and leave the layer, as everywhere;
    - `mlp_in`: LN(Z), in front of the linear step, which comes first here;
    - `z_half`: H, between the two steps, hence before attention;
    - `attn_in`: LN(H); `heads`: its projections;
    - `attn_out`: -MSSA(LN(H)), with its sign, so that z_half + attn_out is z_out.

    Between the last layer of the encoder and the first of the decoder stands a layer norm: the
    z_out of the one is not the z_in of the other.
    """

    name = "crate_mae"
    default_basis = "native"
    absent = {
        "mlp_hidden": "neither an ISTA step nor the decoder's linear step has a hidden activation",
        "heads_q": "queries, keys and values are one projection, recorded as 'heads'",
        "heads_k": "queries, keys and values are one projection, recorded as 'heads'",
        "heads_v": "queries, keys and values are one projection, recorded as 'heads'",
    }

    positions = ("pos_embed", "decoder_pos_embed")
    fingerprints = (
        {
            "blocks.0.layers.0.0.fn.qkv.weight": 2,
            "decoder_blocks.0.layers.0.1.fn.qkv.weight": 2,
            "patch_embed.proj.weight": 4,
            "decoder_pos_embed": 3,
        },
    )

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build an autoencoder from the arguments of `CrateMAE`."""
        return CrateMAE(**arch)

    def matches(self, module: nn.Module) -> bool:
        """Only this package's network."""
        return isinstance(module, CrateMAE)

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first layer's attention; layers of both kinds are counted."""
        assert isinstance(module, CrateMAE)
        attention = self._attention(module, 1)
        return Dims(
            layers=len(module.blocks) + len(module.decoder_blocks),
            dim=attention.qkv.in_features,
            heads=attention.heads,
            dim_head=attention.dim_head,
            tokens=module.decoder_pos_embed.shape[1],
        )

    def taps(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Sites of a layer; what each is in the decoder is said above."""
        path, decodes = self._block(module, layer)
        attention = self._attention(module, layer)
        first, second = f"{path}.layers.0.0", f"{path}.layers.0.1"
        attends, other = (second, first) if decodes else (first, second)
        return {
            "z_in": Tap(first, "input"),
            "attn_in": Tap(f"{attends}.fn", "input"),
            "heads": Tap(f"{attends}.fn.qkv", "output", attention.split),
            "attn_weights": Tap(f"{attends}.fn.qkv", "output", attention.weights),
            "attn_out": Tap(attends, "output", Tensor.neg if decodes else None),
            "z_half": Tap(second, "input"),
            "mlp_in": Tap(f"{other}.fn", "input"),
            "z_out": Tap(path, "output"),
        }

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """Its own subspaces, and no separate queries, keys and values."""
        return ("native",)

    def subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """U_k^T is rows k*p to (k+1)*p of the projection's weight."""
        return self._attention(module, layer).subspaces()

    def operators(self, module: nn.Module, layer: int) -> dict[str, Tensor | float]:
        """The encoder's ISTA steps; the decoder's linear step is no proximal one."""
        path, decodes = self._block(module, layer)
        if decodes:
            return {}
        ista: Any = module.get_submodule(f"{path}.layers.0.1.fn")
        return {"D": ista.weight.detach(), "lam": ista.lam, "eta": ista.step_size}

    def prenorm(self, module: nn.Module, layer: int) -> nn.Module:
        """The layer norm in front of MSSA; in the decoder it acts on z_half."""
        path, decodes = self._block(module, layer)
        return module.get_submodule(f"{path}.layers.0.{int(decodes)}.norm")

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The step size; the sparsity weight differs between files, and is asked for."""
        return {"eta": PUBLISHED_STEP["eta"]}

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """Blocks of an encoder and of a decoder that attends second."""
        if not self.marked(shapes):
            return None
        qkv = shapes["blocks.0.layers.0.0.fn.qkv.weight"]
        patch = shapes["patch_embed.proj.weight"]
        positions = shapes["decoder_pos_embed"]
        side = math.isqrt(max(positions[1] - 1, 0))
        arch = {
            "image_size": side * patch[2],
            "patch_size": patch[2],
            "channels": patch[1],
            "dim": qkv[1],
            "depth": _count(shapes, "blocks."),
            "decoder_depth": _count(shapes, "decoder_blocks."),
        }
        return Recognised(arch, inner=qkv[0], ask={"lam": (0.5, 5.0)})

    def official_site(self, basis: str) -> str:
        """The release hooks the output of the projection."""
        return "heads"

    def prefix_tokens(self, module: nn.Module) -> int:
        """The class token."""
        return 1

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Resample the position embeddings, only where the architecture asks for it."""
        return resampled(weights, module, self.positions)

    def _block(self, module: nn.Module, layer: int) -> tuple[str, bool]:
        """Where a layer's block is, and whether it is the decoder's."""
        assert isinstance(module, CrateMAE)
        depth = len(module.blocks)
        if layer > depth:
            return f"decoder_blocks.{layer - 1 - depth}", True
        return f"blocks.{layer - 1}", False

    def _attention(self, module: nn.Module, layer: int) -> Any:
        path, decodes = self._block(module, layer)
        return module.get_submodule(f"{path}.layers.0.{int(decodes)}.fn")


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """How many blocks of that name a state dict has."""
    return len({key.split(".")[1] for key in shapes if key.startswith(prefix)})
