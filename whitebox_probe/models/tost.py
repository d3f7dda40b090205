"""Token Statistics Transformers for images: sites, subspaces, and their construction."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from whitebox_probe.models._tost_network import ToST
from whitebox_probe.models.base import Dims, Family, Recognised, Tap


class ToSTFamily(Family):
    """ToST of Wu et al. 2025 (arXiv:2412.17810): token statistics attention, then an MLP.

    Layers are the main blocks, which the class token has not joined yet: all tokens are patches.
    `heads` holds the projections w, bias included; `memberships` how the heads share each token;
    `attn_out` is the update scaled by gamma1.
    """

    name = "tost"
    default_basis = "native"
    absent = {
        "attn_weights": "its attention makes no n x n weights; record 'memberships'",
        "heads_q": "queries, keys and values are one projection, recorded as 'heads'",
        "heads_k": "queries, keys and values are one projection, recorded as 'heads'",
        "heads_v": "queries, keys and values are one projection, recorded as 'heads'",
        "code": "its MLP makes no sparse code; record 'mlp_hidden'",
    }

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build a network from the arguments of `ToST`."""
        return ToST(**arch)

    def matches(self, module: nn.Module) -> bool:
        """Only this package's network."""
        return isinstance(module, ToST)

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first block; any image size fits, so n is not fixed."""
        assert isinstance(module, ToST)
        attention: Any = module.get_submodule("blocks.0.attn")
        return Dims(
            layers=len(module.blocks),
            dim=attention.qkv.in_features,
            heads=attention.heads,
            dim_head=attention.dim_head,
            tokens=None,
        )

    def taps(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Sites of a main block."""
        path = f"blocks.{layer - 1}"
        block: Any = module.get_submodule(path)
        attention = block.attn

        def scaled(update: Tensor) -> Tensor:
            return block.gamma1 * update

        return {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.attn", "input"),
            "heads": Tap(f"{path}.attn.qkv", "output", attention.split),
            "memberships": Tap(f"{path}.attn.qkv", "output", attention.memberships),
            "attn_out": Tap(f"{path}.attn", "output", scaled),
            "z_half": Tap(f"{path}.norm2", "input"),
            "mlp_in": Tap(f"{path}.mlp", "input"),
            "mlp_hidden": Tap(f"{path}.mlp.fc2", "input"),
            "z_out": Tap(path, "output"),
        }

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """Its own subspaces, and no separate queries, keys and values."""
        return ("native",)

    def subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """U_k^T is rows k*p to (k+1)*p of the projection's weight; its bias is left out."""
        attention: Any = module.get_submodule(f"blocks.{layer - 1}.attn")
        return attention.qkv.weight.unflatten(0, (attention.heads, attention.dim_head)).mT

    def prenorm(self, module: nn.Module, layer: int) -> nn.Module:
        """The layer norm in front of the attention."""
        return module.get_submodule(f"blocks.{layer - 1}.norm1")

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """A temperature for each head, which also tells their number."""
        temp = shapes.get("blocks.0.attn.temp", ())
        qkv = shapes.get("blocks.0.attn.qkv.weight", ())
        first = shapes.get("patch_embed.proj.0.0.weight", ())
        hidden = shapes.get("blocks.0.mlp.fc1.weight", ())
        head = shapes.get("head.weight", ())
        if [len(s) for s in (temp, qkv, first, hidden, head)] != [2, 2, 4, 2, 2]:
            return None
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

    def official_site(self, basis: str) -> str:
        """The output of the projection."""
        return "heads"

    def prefix_tokens(self, module: nn.Module) -> int:
        """None: the class token joins after the measured layers."""
        return 0
