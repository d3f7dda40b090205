"""Vision transformers of timm: sites, the bases of their head projections, their files."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import LoadWarning
from whitebox_probe.checkpoints import listed
from whitebox_probe.models.arguments import Kind
from whitebox_probe.models.families._timm import TimmAnatomy, create
from whitebox_probe.models.families._timm_arguments import ARGUMENTS
from whitebox_probe.models.families._timm_files import (
    as_timm_names,
    fitted_positions,
    fitting,
    left_out,
    settled,
)
from whitebox_probe.models.family import Family, Recognised
from whitebox_probe.models.keys.dinov2_names import MARKS as DINOV2
from whitebox_probe.models.keys.dinov2_names import beside, is_dinov2, renamed
from whitebox_probe.models.keys.dinov2_release import in_timms_names, is_release
from whitebox_probe.models.keys.jax_vit import MARKS as JAX
from whitebox_probe.models.keys.jax_vit import expect_heads, heads, is_jax
from whitebox_probe.models.keys.jax_vit import renamed as jax_renamed
from whitebox_probe.models.keys.vit import BACKBONE, MARKS, encoder, in_training, is_eva, sizes


class TimmViTAnatomy(TimmAnatomy):
    """Blocks of any kind that timm's VisionTransformer takes: pre-norm, res-post-norm, parallel."""


class TimmViTFamily(Family):
    """timm's VisionTransformer: plain, DeiT, DINO, DINOv2, MAE, CLIP and SigLIP image towers.

    References: Dosovitskiy et al. 2021, arXiv:2010.11929.
    """

    name = "timm_vit"
    reads = TimmViTAnatomy
    example = (
        {"img_size": 12, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2},
        {
            "img_size": 12,
            "patch_size": 4,
            "embed_dim": 16,
            "depth": 2,
            "num_heads": 2,
            "qkv_bias": False,
            "qk_norm": True,
            "reg_tokens": 2,
            "init_values": 1.0,
        },
    )
    tested = (
        "every site against timm's own blocks, with random weights, for plain, DeiT, DINO, "
        "DINOv2, MAE, CLIP, SigLIP and others in small; the entries' names in timm; the shipped "
        "files' accuracy. `vit-small-imgfocus` was run: its tokens are onnxruntime's (marker "
        "`weights`). The `simdino` entries: training checkpoints of DINO's and DINOv2's code in "
        "small, with and without chunks of blocks, and the published sizes. No other pretrained "
        "file was read"
    )
    timm_modules = ("vision_transformer", "deit")
    assumed_from = "timm's VisionTransformer has them where its name says nothing else"
    positions = ("pos_embed",)
    fingerprints = (
        MARKS,
        {f"{BACKBONE}{key}": rank for key, rank in MARKS.items()},
        JAX,
        *({f"{prefix}{key}": rank for key, rank in DINOV2.items()} for prefix in ("", BACKBONE)),
    )

    def arguments(self) -> Mapping[str, Kind]:
        """Sizes, switches and parts by name, of all networks of timm alike."""
        return ARGUMENTS

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build by a timm name (`model`), or a VisionTransformer from its own arguments."""
        from timm.models.vision_transformer import VisionTransformer

        return create(arch, VisionTransformer)

    def matches(self, module: nn.Module) -> bool:
        """A VisionTransformer; whether its blocks are known is looked at when sizes are read."""
        from timm.models.vision_transformer import VisionTransformer

        return isinstance(module, VisionTransformer)

    def assumed(self, arch: Mapping[str, Any]) -> dict[str, Any]:
        """The activation and the norms' eps, unless a name of timm states them."""
        if "model" in arch:
            return {}
        # Norms in front of the blocks are CLIP's, whose eps is another.
        return {"act_layer": "gelu", "norm_eps": 1e-5 if arch.get("pre_norm") else 1e-6}

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> Recognised | None:
        """A plain encoder under timm's names, also inside DINO's training file; a Dinov2Model.

        Raises: CheckpointError for parts that a plain vision transformer does not have.
        """
        if not self.marked(shapes) or is_eva(shapes):
            return None
        if is_jax(shapes):
            on_meta = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
            seen = sizes({key: tuple(t.shape) for key, t in jax_renamed(on_meta).items()})
            return replace(seen, arch={**seen.arch, "num_heads": heads(shapes)}, inner=None)
        if is_dinov2(shapes):
            on_meta = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
            return sizes({key: tuple(t.shape) for key, t in renamed(on_meta, None).items()})
        names, _ = encoder(shapes)
        return sizes({name: shapes[key] for key, name in names.items()})

    def wrapped(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """`backbone.`, unless the head of DINO's loss stands beside it, or it is a Dinov2Model."""
        if f"{BACKBONE}{next(iter(MARKS))}" not in shapes or is_dinov2(shapes):
            return ""
        return "" if in_training(shapes) or next(iter(MARKS)) in shapes else BACKBONE

    def settled(
        self, arch: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Any]:
        """The sizes of a named model that a fine-tuned file has otherwise."""
        if is_jax(shapes):
            on_meta = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
            return settled(arch, {k: tuple(t.shape) for k, t in jax_renamed(on_meta).items()})
        if is_dinov2(shapes):
            return {}
        names, _ = encoder(shapes)
        return settled(arch, {name: shapes[key] for key, name in names.items()})

    def named(self, name: str) -> dict[str, Any] | None:
        """Sizes, heads, activation and eps of a VisionTransformer that timm has by this name."""
        import timm
        from timm.models.vision_transformer import VisionTransformer

        if not timm.is_model(name):
            return None
        with torch.device("meta"):
            network: Any = timm.create_model(name, pretrained=False)
        if not isinstance(network, VisionTransformer):
            return None
        block: Any = network.blocks[0]
        acts = {"GELU": "gelu", "QuickGELU": "quick_gelu"}
        told = {
            "embed_dim": network.embed_dim,
            "depth": len(network.blocks),
            "heads": block.attn.num_heads,
            "norm_eps": block.norm1.eps,
        }
        act = acts.get(type(block.mlp.act).__name__)
        return told | ({"act_layer": act} if act else {})

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the model's width."""
        return {"num_heads": heads}

    def fitting(
        self, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Any]:
        """Depth, width and registers, as the shapes tell them."""
        return fitting(expected, found)

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Convert timm's and DINOv2's own weights as timm does, rename those of a Dinov2Model.

        Of DINO's training file the backbone is taken, and of a masked autoencoder the encoder
        (`notes` names what is left out). Any other file is taken as it is.

        Raises: CheckpointError for an archive of other heads than the network's.
        """
        from timm.models.vision_transformer import checkpoint_filter_fn

        if is_jax(weights):
            own = jax_renamed(weights)
            expect_heads(weights, self.anatomy.dims(module).heads)
            return fitted_positions(own, module)
        if is_dinov2(weights):
            return renamed(weights, module.get_parameter("pos_embed").shape[1])
        if source.get("kind") != "timm":
            names, left = encoder(weights)
            kept = {name: weights[key] for key, name in names.items()}
            masks = [key for key in left if key.endswith("mask_token") and is_release(kept)]
            if masks:  # as timm knows DINOv2's own files
                return fitted_positions(in_timms_names(kept), module)
            by_names = partial(checkpoint_filter_fn, adapt_layer_scale=True)
            return fitted_positions(as_timm_names(kept, module, by_names), module)
        network: Any = module
        return dict(checkpoint_filter_fn(weights, network, adapt_layer_scale=True))

    def notes(
        self, weights: Mapping[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> list[LoadWarning]:
        """Which tensors are left out: those of a training, and what stands beside a CLIP's."""
        from timm.models.vision_transformer import checkpoint_filter_fn

        if is_jax(weights) or source.get("kind") == "timm":
            return []
        if is_dinov2(weights):
            told = beside(weights) if source.get("kind") == "path" else []  # else it is known
            return _beside(told, "they stand beside its backbone, as a decoder does")
        names, left = encoder(weights)
        kept = {name: weights[key] for key, name in names.items()}
        released = is_release(kept)
        told = [key for key in left if not (released and key.endswith("mask_token"))]
        why = "they belong to its training and to no encoder"
        return _beside(told, why) or left_out(kept, module, checkpoint_filter_fn)


def _beside(keys: list[str], why: str) -> list[LoadWarning]:
    """A note of what is left out, if anything is."""
    warning = LoadWarning(
        f"{len(keys)} tensors of the file were left out",
        f"{why}: {listed(keys)}",
        "Nothing needs to be done; every other tensor is loaded",
    )
    return [warning] if keys else []
