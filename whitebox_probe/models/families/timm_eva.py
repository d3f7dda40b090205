"""timm's Eva class (EVA, EVA-02, DINOv3, PE, ViTs with rotary positions): sites and bases."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.families._timm import create, stated_preprocess
from whitebox_probe.models.family import Dims, Family, Preprocess, Recognised, Tap
from whitebox_probe.models.keys.vit import EVA_MARKS, by_name


class TimmEvaFamily(Family):
    """timm's Eva: pre-norm blocks with rotary positions, gated MLPs, split or fused projections.

    The blocks are x + gamma_1 * attn(norm1(x)), then x + gamma_2 * mlp(norm2(x)). `attn_out` is the
    scaled update. `heads_q`, `heads_k` and `heads_v` are the linear projections with their bias,
    before any query-key norm and before the rotation; `attn_weights` has both. `mlp_hidden` is the
    activation, times its linear half where the MLP is gated, before the norm inside the MLP.

    References: Fang et al. 2022, arXiv:2211.07636; Fang et al. 2023, arXiv:2303.11331; Siméoni et
        al. 2025, arXiv:2508.10104.
    """

    name = "timm_eva"
    default_basis = "qkv:k"
    absent = {"heads": "queries, keys and values differ; record 'heads_q', 'heads_k' or 'heads_v'"}
    timm_modules = ("eva",)

    fingerprints = EVA_MARKS

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build by a timm name (`model`), or an Eva from its own arguments."""
        from timm.models.eva import Eva

        return create(arch, Eva)

    def matches(self, module: nn.Module) -> bool:
        """An Eva; whether its blocks are pre-norm is looked at when sizes are read."""
        from timm.models.eva import Eva

        return isinstance(module, Eva)

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first block's attention.

        Raises: SiteError for post-norm blocks, and for heads that share keys and values.
        """
        blocks: Any = module.get_submodule("blocks")
        for block in blocks:
            if type(block).__name__ != "EvaBlock":
                raise SiteError(
                    f"blocks of type {type(block).__name__} are not understood",
                    "a pre-norm EvaBlock is expected",
                    "Use a model of timm's Eva class without use_post_norm",
                )
            if getattr(block.attn, "num_kv_groups", 1) != 1:
                raise SiteError(
                    "heads that share keys and values are not understood",
                    f"{block.attn.num_kv_groups} heads read each key here",
                    "Use a model without num_kv_heads",
                )
        attention = blocks[0].attn
        patches: Any = module.get_submodule("patch_embed")
        fixed = not getattr(module, "dynamic_img_size", False)
        return Dims(
            layers=len(blocks),
            dim=attention.proj.out_features,
            heads=attention.num_heads,
            dim_head=_width(attention),
            tokens=patches.num_patches + self.prefix_tokens(module) if fixed else None,
        )

    def taps(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Sites of a block, all on modules that fused attention still calls."""
        path = f"blocks.{layer - 1}"
        attention: Any = module.get_submodule(f"{path}.attn")

        def project(x: Tensor, third: str) -> Tensor:  # (B, n, d) -> (B, K, n, p)
            return _heads(attention, F.linear(x, *_projection(attention, third)))

        def weights(x: Tensor, **given: Any) -> Tensor:  # (B, n, d) -> (B, K, n, n)
            return _attention_weights(attention, project(x, "q"), project(x, "k"), **given)

        # The fused projection's module is not called when its bias is kept apart, and is added to
        # in place in one variant; the same product is taken here from the attention's own input.
        inside = f"{path}.attn"
        return {
            "z_in": Tap(f"{path}.norm1", "input"),
            "attn_in": Tap(inside, "input"),
            "heads_q": Tap(inside, "input", lambda x: project(x, "q")),
            "heads_k": Tap(inside, "input", lambda x: project(x, "k")),
            "heads_v": Tap(inside, "input", lambda x: project(x, "v")),
            "attn_weights": Tap(inside, "input", weights, ("rope", "attn_mask", "is_causal")),
            "attn_out": Tap(f"{path}.drop_path1", "output"),
            "z_half": Tap(f"{path}.norm2", "input"),
            "mlp_in": Tap(f"{path}.mlp", "input"),
            "mlp_hidden": Tap(f"{path}.mlp.norm", "input"),
            "z_out": Tap(path, "output"),
        }

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """The three projections; there are no native subspaces."""
        return ("qkv:k", "qkv:q", "qkv:v")

    def subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """Rows k*p to (k+1)*p of the named projection's weight, before any rotation."""
        attention: Any = module.get_submodule(f"blocks.{layer - 1}.attn")
        weight, _ = _projection(attention, basis[-1])
        return weight.unflatten(0, (attention.num_heads, _width(attention))).mT  # (K, d, p)

    def prenorm(self, module: nn.Module, layer: int) -> nn.Module:
        """The block's first normalisation."""
        return module.get_submodule(f"blocks.{layer - 1}.norm1")

    def official_site(self, basis: str) -> str:
        """The projection's own output, its bias included."""
        return f"heads_{basis[-1]}"

    def prefix_tokens(self, module: nn.Module) -> int:
        """Class token and registers, as the model itself counts them."""
        return int(module.num_prefix_tokens)  # type: ignore[arg-type]

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """No file: rotary positions, and much else of an Eva, leave no trace in its keys.

        Raises: CheckpointError that asks for the name in timm.
        """
        if not self.marked(shapes):
            return None
        parts = [key for key in shapes if key.startswith("blocks.0.")]
        raise by_name(
            "the file is of timm's Eva class or its kin", f"it has {', '.join(parts[:10])}"
        )

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Convert timm's own weights as timm does; a user's file is taken as it is."""
        if source.get("kind") != "timm":
            return weights
        from timm.models.eva import checkpoint_filter_fn

        return dict(checkpoint_filter_fn(weights, module))

    def preprocess(self, module: nn.Module) -> Preprocess | None:
        """What timm's configuration of this model states."""
        return stated_preprocess(module)


def _projection(attention: Any, third: str) -> tuple[Tensor, Tensor | None]:
    """Weight (K*p, d) and bias (K*p) of the queries, keys or values, split or fused."""
    if attention.qkv is None:
        linear = getattr(attention, f"{third}_proj")
        return linear.weight, linear.bias
    place = "qkv".index(third)
    bias = attention.qkv.bias if attention.qkv.bias is None else attention.qkv.bias.chunk(3)[place]
    if getattr(attention, "q_bias", None) is not None:
        bias = getattr(attention, f"{third}_bias")
    return attention.qkv.weight.chunk(3)[place], bias


def _width(attention: Any) -> int:
    """p, from a weight: older releases of timm do not keep it."""
    weight, _ = _projection(attention, "q")
    return int(weight.shape[0]) // int(attention.num_heads)


def _heads(attention: Any, projected: Tensor) -> Tensor:  # (B, n, K*p) -> (B, K, n, p)
    return projected.unflatten(-1, (attention.num_heads, _width(attention))).transpose(1, 2)


def _attention_weights(
    attention: Any,
    q: Tensor,
    k: Tensor,
    rope: Tensor | None = None,
    attn_mask: Tensor | None = None,
    is_causal: bool | None = False,
) -> Tensor:
    """Softmax over the keys, after the norms and the rotation that the block was called with.

    Shapes: q, k (B, K, n, p); rope (patches, 2p) or one of each head -> (B, K, n, n)
    """
    from timm.layers import apply_rot_embed_cat

    if attn_mask is not None or is_causal:
        raise SiteError(
            "masked attention is not recorded as 'attn_weights'",
            "the model was called with a mask",
            "Call it without one, or leave the site out",
        )
    q, k = attention.q_norm(q), attention.k_norm(k)
    if rope is not None:
        prefix = attention.num_prefix_tokens
        half = getattr(attention, "rotate_half", False)

        def turned(x: Tensor) -> Tensor:
            patches = apply_rot_embed_cat(x[:, :, prefix:], rope, half=half)
            return torch.cat([x[:, :, :prefix], patches], dim=2).to(x.dtype)

        q, k = turned(q), turned(k)
    return (q * attention.scale @ k.mT).softmax(dim=-1)
