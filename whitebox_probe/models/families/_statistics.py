"""What the families of Token Statistics Transformers share: their sites and subspaces."""

from typing import Any, ClassVar

from torch import Tensor, nn

from whitebox_probe.models.family import Dims, Family, Tap

_ONE_PROJECTION = "queries, keys and values are one projection, recorded as 'heads'"


class TokenStatisticsFamily(Family):
    """Token statistics attention, then an MLP; a subclass says how its release names the parts.

    `heads` holds the projections w, bias included; `memberships` how the heads share each token;
    `attn_out` is the update scaled by gamma1.
    """

    default_basis = "native"
    absent = {
        "attn_weights": "its attention makes no n x n weights; record 'memberships'",
        "heads_q": _ONE_PROJECTION,
        "heads_k": _ONE_PROJECTION,
        "heads_v": _ONE_PROJECTION,
        "code": "its MLP makes no sparse code; record 'mlp_hidden'",
    }
    blocks: ClassVar[str]
    """Path of the list of blocks."""
    projection: ClassVar[str]
    """The attention's projection, whose weight holds U."""
    norms: ClassVar[tuple[str, str]]
    """The norms in front of the attention and of the MLP."""
    down: ClassVar[str]
    """The MLP's last linear map."""

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first block; n is not fixed."""
        blocks: Any = module.get_submodule(self.blocks)
        K, p = blocks[0].attn.heads, blocks[0].attn.dim_head
        return Dims(layers=len(blocks), dim=K * p, heads=K, dim_head=p, tokens=None)

    def taps(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Sites of a block."""
        path = f"{self.blocks}.{layer - 1}"
        block: Any = module.get_submodule(path)
        projected = f"{path}.attn.{self.projection}"

        def scaled(update: Tensor) -> Tensor:
            return block.gamma1 * update

        return {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.attn", "input"),
            "heads": Tap(projected, "output", block.attn.split),
            "memberships": Tap(projected, "output", block.attn.memberships),
            "attn_out": Tap(f"{path}.attn", "output", scaled),
            "z_half": Tap(f"{path}.{self.norms[1]}", "input"),
            "mlp_in": Tap(f"{path}.mlp", "input"),
            "mlp_hidden": Tap(f"{path}.mlp.{self.down}", "input"),
            "z_out": Tap(path, "output"),
        }

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """Its own subspaces, and no separate queries, keys and values."""
        return ("native",)

    def subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """U_k^T is rows k*p to (k+1)*p of the projection's weight; its bias is left out."""
        attention: Any = module.get_submodule(f"{self.blocks}.{layer - 1}.attn")
        weight = attention.get_submodule(self.projection).weight  # (K*p, d)
        return weight.unflatten(0, (attention.heads, attention.dim_head)).mT  # (K, d, p)

    def prenorm(self, module: nn.Module, layer: int) -> nn.Module:
        """The layer norm in front of the attention."""
        return module.get_submodule(f"{self.blocks}.{layer - 1}.{self.norms[0]}")

    def official_site(self, basis: str) -> str:
        """The output of the projection."""
        return "heads"

    def prefix_tokens(self, module: nn.Module) -> int:
        """None: an image's class token joins after the measured layers, a window is all text."""
        return 0
