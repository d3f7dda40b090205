"""timm's Eva class (EVA, EVA-02, DINOv3, PE, ViTs with rotary positions): sites and bases."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.anatomy import Dims, Tap
from whitebox_probe.models.families._timm import TimmAnatomy, create
from whitebox_probe.models.families._timm_files import as_timm_names, fitted_positions, settled
from whitebox_probe.models.family import Family, Recognised
from whitebox_probe.models.keys.vit import EVA_MARKS, by_name
from whitebox_probe.models.weights import affine


class TimmEvaAnatomy(TimmAnatomy):
    """Blocks x + gamma_1 * attn(norm1(x)), then x + gamma_2 * mlp(norm2(x)).

    `heads_q`, `heads_k` and `heads_v` are the linear projections with their bias, before any
    query-key norm and before the rotation; `attn_weights` has both.
    """

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
            dim_head=self._width(attention),
            tokens=patches.num_patches + self.prefix_tokens(module) if fixed else None,
        )

    def head_taps(self, attention: Any, path: str) -> dict[str, Tap]:
        """The products are taken here from the attention's own input.

        The fused projection's module is not called when its bias is kept apart, and is added to in
        place in one variant.
        """

        def project(third: str, x: Tensor) -> Tensor:  # (B, n, d) -> (B, K, n, p)
            projected = F.linear(x, *self.projection(attention, third))
            return projected.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)

        def weights(x: Tensor, **given: Any) -> Tensor:  # (B, n, d) -> (B, K, n, n)
            return _attention_weights(attention, project("q", x), project("k", x), **given)

        taps = {f"heads_{third}": Tap(path, "input", partial(project, third)) for third in "qkv"}
        given = ("rope", "attn_mask", "is_causal")
        return taps | {"attn_weights": Tap(path, "input", weights, given)}

    def projection(self, attention: Any, third: str) -> tuple[Tensor, Tensor | None]:
        """Of a projection of its own, or the third of a fused one."""
        if attention.qkv is None:
            return affine(getattr(attention, f"{third}_proj"))
        place = "qkv".index(third)
        weight, bias = affine(attention.qkv)
        bias = None if bias is None else bias.chunk(3)[place]
        if getattr(attention, "q_bias", None) is not None:
            bias = getattr(attention, f"{third}_bias")
        return weight.chunk(3)[place], bias

    def beside(self, module: Any, number: int) -> dict[str, Any]:
        """The rotation of four patches; each block has its own where it is learned."""
        if getattr(module, "rope", None) is None:
            return {}
        rope = module.rope.get_embed((2, 2))
        rope = rope[number] if getattr(module, "rope_mixed", False) else rope
        return {"rope": rope[..., :4, :]}  # a fixed grid is given whole, whatever was asked for

    def _width(self, attention: Any) -> int:
        """p, from a weight: older releases of timm do not keep it."""
        weight, _ = self.projection(attention, "q")
        return int(weight.shape[0]) // int(attention.num_heads)


class TimmEvaFamily(Family):
    """timm's Eva: pre-norm blocks with rotary positions, gated MLPs, split or fused projections.

    References: Fang et al. 2022, arXiv:2211.07636; Fang et al. 2023, arXiv:2303.11331; Siméoni et
        al. 2025, arXiv:2508.10104.
    """

    name = "timm_eva"
    reads = TimmEvaAnatomy
    example = tuple(
        {"img_size": 12, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2} | kind
        for kind in ({}, {"qkv_fused": False, "swiglu_mlp": True})
    )
    tested = (
        "every site against timm's own blocks, with random weights, for EVA, EVA-02 and DINOv3 "
        "in small; the entries' names and sizes in timm. No pretrained file was read"
    )
    timm_modules = ("eva",)
    positions = ("pos_embed",)
    fingerprints = EVA_MARKS

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build by a timm name (`model`), or an Eva from its own arguments."""
        from timm.models.eva import Eva

        return create(arch, Eva)

    def matches(self, module: nn.Module) -> bool:
        """An Eva; whether its blocks are pre-norm is looked at when sizes are read."""
        from timm.models.eva import Eva

        return isinstance(module, Eva)

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

    def settled(
        self, arch: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Any]:
        """The sizes of a named model that a fine-tuned file has otherwise."""
        return settled(arch, shapes)

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Convert timm's own weights as timm does, and a user's that has a release's own names."""
        from timm.models.eva import checkpoint_filter_fn

        if source.get("kind") != "timm":
            named = as_timm_names(weights, module, checkpoint_filter_fn)
            return fitted_positions(named, module)
        return dict(checkpoint_filter_fn(weights, module))


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
