"""CRATE-alpha classifiers and CLIPA image towers: sites, subspaces, and their construction."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from whitebox_probe.models.families._crate_alpha_network import CrateAlpha
from whitebox_probe.models.families._steps import PUBLISHED_STEP, resampled
from whitebox_probe.models.family import Dims, Family, Recognised, Tap
from whitebox_probe.models.keys.crate_alpha import FINGERPRINTS, sizes, to_torch_names


class CrateAlphaFamily(Family):
    """CRATE-alpha of Yang et al. 2024 (arXiv:2405.20299): MSSA, then a decoupled dictionary.

    Both steps have a skip connection, so z_out is dense: the sparse object is `code`, the (n, 4d)
    code inside the second step, and `sites={"l0": "code"}` measures it. Torch files, JAX archives
    and CLIPA files are read; of a CLIPA file, the image tower.

    The second step is two proximal steps with a d x 4d dictionary, and another one decodes: the
    `operators` are of the first, and know nothing of the second.
    """

    name = "crate_alpha"
    default_basis = "native"
    absent = {
        "mlp_hidden": "the activation inside its second step is a sparse code, recorded as 'code'",
        "heads_q": "queries, keys and values are one projection, recorded as 'heads'",
        "heads_k": "queries, keys and values are one projection, recorded as 'heads'",
        "heads_v": "queries, keys and values are one projection, recorded as 'heads'",
    }

    positions = ("pos_embedding",)
    fingerprints = FINGERPRINTS

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build a network from the arguments of `CrateAlpha`."""
        return CrateAlpha(**arch)

    def matches(self, module: nn.Module) -> bool:
        """Only this package's network."""
        return isinstance(module, CrateAlpha)

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first layer's attention."""
        assert isinstance(module, CrateAlpha)
        attention: Any = module.get_submodule("transformer.layers.0.0.fn")
        return Dims(
            layers=len(module.get_submodule("transformer.layers")),  # type: ignore[arg-type]
            dim=attention.qkv.in_features,
            heads=attention.heads,
            dim_head=attention.dim_head,
            tokens=module.pos_embedding.shape[1],
        )

    def taps(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Sites of a layer."""
        path = f"transformer.layers.{layer - 1}"
        attention: Any = module.get_submodule(f"{path}.0.fn")
        return {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.0.fn", "input"),
            "heads": Tap(f"{path}.0.fn.qkv", "output", attention.split),
            "attn_weights": Tap(f"{path}.0.fn.qkv", "output", attention.weights),
            "attn_out": Tap(f"{path}.0", "output"),
            "z_half": Tap(f"{path}.1", "input"),
            "mlp_in": Tap(f"{path}.1.fn", "input"),
            "code": Tap(f"{path}.1.fn.code", "output"),
            "z_out": Tap(path, "output"),
        }

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """Its own subspaces, and no separate queries, keys and values."""
        return ("native",)

    def subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """U_k^T is rows k*p to (k+1)*p of the projection's weight."""
        attention: Any = module.get_submodule(f"transformer.layers.{layer - 1}.0.fn")
        return attention.subspaces()

    def operators(self, module: nn.Module, layer: int) -> dict[str, Tensor | float]:
        """The dictionary that the code is sought in, (d, 4d); not the one that decodes it."""
        odl: Any = module.get_submodule(f"transformer.layers.{layer - 1}.1.fn")
        return {"D": odl.D.detach(), "lam": odl.lam, "eta": odl.eta}

    def prenorm(self, module: nn.Module, layer: int) -> nn.Module:
        """The layer norm in front of MSSA."""
        return module.get_submodule(f"transformer.layers.{layer - 1}.0.norm")

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The published steps; the last norm's eps is that of the torch release.

        JAX archives and CLIPA files are recognised with their own.
        """
        return PUBLISHED_STEP | {"head_eps": 1e-5}

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """Two dictionaries a layer, in any of the three formats; JAX alone tells the heads."""
        if not self.marked(shapes):
            return None
        found = sizes(shapes)
        inner = found.pop("inner")
        if "heads" in found:
            return Recognised(found | self.head_arguments(found["heads"], inner))
        return Recognised(found, inner=inner)

    def official_site(self, basis: str) -> str:
        """The output of the projection, as the release of CRATE hooks it."""
        return "heads"

    def prefix_tokens(self, module: nn.Module) -> int:
        """The class token."""
        return 1

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Bring JAX and CLIPA names to torch ones; resample positions only where asked for."""
        return resampled(to_torch_names(weights), module, self.positions)
