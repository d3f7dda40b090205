"""Attention-only transformers (AoT): sites, native subspaces, construction."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from whitebox_probe.models.families._aot_network import AoT
from whitebox_probe.models.families._steps import attention_weights
from whitebox_probe.models.family import Dims, Family, Recognised, Tap

_NO_SECOND_STEP = "its layers are attention and a skip connection, with no second step"
_ONE_PROJECTION = "queries, keys and values are one projection, recorded as 'heads'"


class AotFamily(Family):
    """AoT of Wang et al. 2025 (arXiv:2506.03790): Z + MSSA(LN Z) in each layer, and no MLP.

    No code and no weights of the authors were found. The block follows the paper's formula, with
    the free output map of the released CRATE code in place of U; the embedding, the head and all
    key names are our own, so a file can only come from this package's network.

    With no second step, `z_half` and `z_out` are the same tokens.
    """

    name = "aot"
    default_basis = "native"
    absent = {
        "mlp_in": _NO_SECOND_STEP,
        "mlp_hidden": _NO_SECOND_STEP,
        "code": _NO_SECOND_STEP,
        "heads_q": _ONE_PROJECTION,
        "heads_k": _ONE_PROJECTION,
        "heads_v": _ONE_PROJECTION,
    }

    fingerprints = tuple(
        {"layers.0.fn.qkv.weight": 2, "head.1.weight": 2} | positions
        for positions in ({"input.positions": 3}, {"input.positions.weight": 2})
    )

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build a network from the arguments of `AoT`."""
        return AoT(**arch)

    def matches(self, module: nn.Module) -> bool:
        """Only this package's network."""
        return isinstance(module, AoT)

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first layer's attention."""
        assert isinstance(module, AoT)
        attention: Any = module.get_submodule("layers.0.fn")
        return Dims(
            layers=len(module.layers),
            dim=attention.qkv.in_features,
            heads=attention.heads,
            dim_head=attention.dim_head,
            tokens=None if module.causal else module.input.positions.shape[1],
        )

    def taps(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Sites of a layer; those of a second step are absent."""
        path = f"layers.{layer - 1}"
        attention: Any = module.get_submodule(f"{path}.fn")

        def heads(projected: Tensor) -> Tensor:  # (B, n, K*p) -> (B, K, n, p)
            return projected.unflatten(-1, (attention.heads, attention.dim_head)).transpose(1, 2)

        def weights(projected: Tensor) -> Tensor:  # (B, n, K*p) -> (B, K, n, n)
            V = heads(projected)
            return attention_weights(V, V, causal=attention.causal)

        return {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.norm", "output"),
            "heads": Tap(f"{path}.fn.qkv", "output", heads),
            "attn_weights": Tap(f"{path}.fn.qkv", "output", weights),
            "attn_out": Tap(f"{path}.fn", "output"),
            "z_half": Tap(path, "output"),
            "z_out": Tap(path, "output"),
        }

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """Its own subspaces, and no separate queries, keys and values."""
        return ("native",)

    def subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """U_k^T is rows k*p to (k+1)*p of the projection's weight."""
        attention: Any = module.get_submodule(f"layers.{layer - 1}.fn")
        weight = attention.qkv.weight  # (K*p, d)
        return weight.unflatten(0, (attention.heads, attention.dim_head)).mT  # (K, d, p)

    def prenorm(self, module: nn.Module, layer: int) -> nn.Module:
        """The layer norm in front of MSSA."""
        return module.get_submodule(f"layers.{layer - 1}.norm")

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """Our own names; the input says whether it is for images or text."""
        if not self.marked(shapes):
            return None
        qkv = shapes["layers.0.fn.qkv.weight"]
        head = shapes["head.1.weight"]
        positions = shapes.get("input.positions") or shapes["input.positions.weight"]
        layers = {key.split(".")[1] for key in shapes if key.startswith("layers.")}
        arch: dict[str, Any] = {"dim": qkv[1], "depth": len(layers)}
        patch = shapes.get("input.projection.weight", ())
        if len(patch) != 2:
            arch |= {"vocabulary": head[0], "block_size": positions[0]}
            return Recognised(arch, inner=qkv[0])
        channels = next((c for c in (3, 1) if math.isqrt(patch[1] // c) ** 2 * c == patch[1]), 1)
        patch_size = math.isqrt(patch[1] // channels)
        arch |= {
            "image_size": math.isqrt(positions[1] - 1) * patch_size,
            "patch_size": patch_size,
            "channels": channels,
            "classes": head[0],
        }
        return Recognised(arch, inner=qkv[0])

    def official_site(self, basis: str) -> str:
        """The projection's output, as the CRATE release hooks it."""
        return "heads"

    def prefix_tokens(self, module: nn.Module) -> int:
        """The class token of the image model; none for text."""
        assert isinstance(module, AoT)
        return 0 if module.causal else 1
