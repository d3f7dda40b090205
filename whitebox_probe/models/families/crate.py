"""CRATE image classifiers: sites, native subspaces, and their construction."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from whitebox_probe.models.families._crate_network import CRATE
from whitebox_probe.models.families._steps import PUBLISHED_STEP, resampled
from whitebox_probe.models.family import Dims, Family, Recognised, Tap


class CrateFamily(Family):
    """CRATE of Yu et al. 2023 (arXiv:2306.01129): MSSA, then ISTA."""

    name = "crate"
    default_basis = "native"
    absent = {
        "mlp_hidden": "an ISTA block has no hidden activation",
        "heads_q": "queries, keys and values are one projection, recorded as 'heads'",
        "heads_k": "queries, keys and values are one projection, recorded as 'heads'",
        "heads_v": "queries, keys and values are one projection, recorded as 'heads'",
    }

    positions = ("pos_embedding",)
    fingerprints = (
        {
            "transformer.layers.0.0.fn.qkv.weight": 2,
            "transformer.layers.0.1.fn.weight": 2,
            "to_patch_embedding.2.weight": 2,
            "pos_embedding": 3,
            "mlp_head.1.weight": 2,
        },
    )

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build a CRATE from the arguments of `CRATE`."""
        return CRATE(**arch)

    def matches(self, module: nn.Module) -> bool:
        """Only this package's CRATE: another implementation's modules may compute other things."""
        return isinstance(module, CRATE)

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first layer's attention."""
        assert isinstance(module, CRATE)
        attention: Any = module.get_submodule("transformer.layers.0.0.fn")
        return Dims(
            layers=len(module.transformer.layers),
            dim=attention.qkv.in_features,
            heads=attention.heads,
            dim_head=attention.dim_head,
            tokens=module.pos_embedding.shape[1],
        )

    def taps(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Sites of a layer; `heads` is U_k^T of the normalised input, as the release hooks it."""
        path = f"transformer.layers.{layer - 1}"
        attention: Any = module.get_submodule(f"{path}.0.fn")
        return {
            "z_in": Tap(f"{path}.0", "input"),
            "attn_in": Tap(f"{path}.0.fn", "input"),
            "heads": Tap(f"{path}.0.fn.qkv", "output", attention.split),
            "attn_weights": Tap(f"{path}.0.fn.qkv", "output", attention.weights),
            "attn_out": Tap(f"{path}.0", "output"),
            "z_half": Tap(f"{path}.1", "input"),
            "mlp_in": Tap(f"{path}.1.fn", "input"),
            "z_out": Tap(f"{path}.1", "output"),
        }

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """CRATE has its own subspaces, and no separate queries, keys and values."""
        return ("native",)

    def subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """U_k^T is rows k*p to (k+1)*p of the projection's weight."""
        attention: Any = module.get_submodule(f"transformer.layers.{layer - 1}.0.fn")
        return attention.subspaces()

    def operators(self, module: nn.Module, layer: int) -> dict[str, Tensor | float]:
        """The ISTA step's dictionary, sparsity weight and step size."""
        ista: Any = module.get_submodule(f"transformer.layers.{layer - 1}.1.fn")
        return {"D": ista.weight.detach(), "lam": ista.lam, "eta": ista.step_size}

    def prenorm(self, module: nn.Module, layer: int) -> nn.Module:
        """The layer norm in front of MSSA."""
        return module.get_submodule(f"transformer.layers.{layer - 1}.0.norm")

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The step size and sparsity weight of the published models."""
        return dict(PUBLISHED_STEP)

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """Square ISTA weights behind an image embedding; `head` beside `mlp_head` in the demo."""
        if not self.marked(shapes):
            return None
        ista = shapes["transformer.layers.0.1.fn.weight"]
        patch = shapes["to_patch_embedding.2.weight"]
        head = shapes["mlp_head.1.weight"]
        positions = shapes["pos_embedding"]
        qkv = shapes["transformer.layers.0.0.fn.qkv.weight"]
        if ista[0] != ista[1]:
            return None
        channels = next((c for c in (3, 1) if math.isqrt(patch[1] // c) ** 2 * c == patch[1]), 1)
        patch_size = math.isqrt(patch[1] // channels)
        side = math.isqrt(max(positions[1] - 1, 0))
        layers = {key.split(".")[2] for key in shapes if key.startswith("transformer.layers.")}
        arch = {
            "image_size": side * patch_size,
            "patch_size": patch_size,
            "channels": channels,
            "classes": head[0],
            "dim": ista[0],
            "depth": len(layers),
        }
        if "head.weight" in shapes:
            arch["extra_head"] = shapes["head.weight"][0]
        return Recognised(arch, inner=qkv[0])

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Resample the position embeddings, only where the architecture asks for it."""
        return resampled(weights, module, self.positions)

    def official_site(self, basis: str) -> str:
        """The release hooks the output of the projection."""
        return "heads"

    def prefix_tokens(self, module: nn.Module) -> int:
        """The class token."""
        return 1
