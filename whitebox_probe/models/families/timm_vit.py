"""Vision transformers of timm: sites and the bases of their head projections."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import LoadWarning, SiteError
from whitebox_probe.checkpoints import listed
from whitebox_probe.models.families._timm import create, stated_preprocess
from whitebox_probe.models.family import Dims, Family, Preprocess, Recognised, Tap
from whitebox_probe.models.keys.dinov2_names import MARKS as DINOV2
from whitebox_probe.models.keys.dinov2_names import is_dinov2, renamed
from whitebox_probe.models.keys.dinov2_release import is_release, unchunked
from whitebox_probe.models.keys.vit import BACKBONE, MARKS, encoder, is_eva, sizes

_PARTS = ("norm1", "attn", "ls1", "drop_path1", "norm2", "mlp", "ls2", "drop_path2")


class TimmViTFamily(Family):
    """timm's VisionTransformer: plain, DeiT, DINO, DINOv2, MAE, CLIP and SigLIP image towers.

    Pre-norm blocks: x + attn(norm1(x)), then x + mlp(norm2(x)), each scaled by LayerScale if the
    model has it. `attn_out` is the scaled update; `heads_q`, `heads_k` and `heads_v` are the linear
    projections, before any query-key norm or rotation; `attn_weights` has the norm. `mlp_hidden` is
    the activation, times its linear half where the MLP is gated, before the norm inside the MLP.
    Attention pooling (SigLIP) is the head's and no layer.

    References: Dosovitskiy et al. 2021, arXiv:2010.11929.
    """

    name = "timm_vit"
    default_basis = "qkv:k"
    timm_modules = ("vision_transformer", "deit")
    absent = {"heads": "queries, keys and values differ; record 'heads_q', 'heads_k' or 'heads_v'"}

    assumed_from = "timm's VisionTransformer has them where its name says nothing else"
    fingerprints = (
        MARKS,
        {f"{BACKBONE}{key}": rank for key, rank in MARKS.items()},
        *({f"{prefix}{key}": rank for key, rank in DINOV2.items()} for prefix in ("", BACKBONE)),
    )

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build by a timm name (`model`), or a VisionTransformer from its own arguments."""
        from timm.models.vision_transformer import VisionTransformer

        return create(arch, VisionTransformer)

    def matches(self, module: nn.Module) -> bool:
        """A VisionTransformer with pre-norm blocks."""
        from timm.models.vision_transformer import VisionTransformer

        return isinstance(module, VisionTransformer)

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first block's attention.

        Raises: SiteError for blocks that are not pre-norm (parallel or post-norm ones), and for
            attention of another kind (differential).
        """
        blocks: Any = module.get_submodule("blocks")
        for block in blocks:
            missing = [part for part in _PARTS if not hasattr(block, part)]
            if missing or type(block).__name__ != "Block":
                raise SiteError(
                    f"blocks of type {type(block).__name__} are not understood",
                    f"a pre-norm block with {', '.join(_PARTS)} is expected",
                    "Use a timm VisionTransformer with the standard Block",
                )
            if type(block.attn).__name__ != "Attention":
                raise SiteError(
                    f"attention of type {type(block.attn).__name__} is not understood",
                    "one softmax of queries and keys is expected",
                    "Use a timm VisionTransformer with the standard Attention",
                )
        count: int | None = getattr(module.get_submodule("patch_embed"), "num_patches", None)
        if getattr(module, "dynamic_img_size", False):
            count = None
        return Dims(
            layers=len(blocks),
            dim=blocks[0].attn.qkv.in_features,
            heads=blocks[0].attn.num_heads,
            dim_head=blocks[0].attn.head_dim,
            tokens=None if count is None else count + self.prefix_tokens(module),
        )

    def taps(self, module: nn.Module, layer: int) -> dict[str, Tap]:
        """Sites of a block, all on modules that fused attention still calls."""
        path = f"blocks.{layer - 1}"
        attention: Any = module.get_submodule(f"{path}.attn")

        def split(projected: Tensor) -> Tensor:  # (B, n, 3*K*p) -> (3, B, K, n, p)
            shape = (3, attention.num_heads, attention.head_dim)
            return projected.unflatten(-1, shape).permute(2, 0, 3, 1, 4)

        def weights(projected: Tensor) -> Tensor:  # (B, n, 3*K*p) -> (B, K, n, n)
            q, k, _ = split(projected)
            q, k = attention.q_norm(q), attention.k_norm(k)
            return (q * attention.scale @ k.mT).softmax(dim=-1)

        qkv = f"{path}.attn.qkv"
        return {
            "z_in": Tap(f"{path}.norm1", "input"),
            "attn_in": Tap(f"{path}.attn", "input"),
            "heads_q": Tap(qkv, "output", lambda x: split(x)[0]),
            "heads_k": Tap(qkv, "output", lambda x: split(x)[1]),
            "heads_v": Tap(qkv, "output", lambda x: split(x)[2]),
            "attn_weights": Tap(qkv, "output", weights),
            "attn_out": Tap(f"{path}.drop_path1", "output"),
            "z_half": Tap(f"{path}.norm2", "input"),
            "mlp_in": Tap(f"{path}.mlp", "input"),
            "mlp_hidden": Tap(f"{path}.mlp.norm", "input"),
            "z_out": Tap(path, "output"),
        }

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """The three projections; a ViT has no native subspaces."""
        return ("qkv:k", "qkv:q", "qkv:v")

    def subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """Rows k*p to (k+1)*p of the named third of the fused projection's weight."""
        attention: Any = module.get_submodule(f"blocks.{layer - 1}.attn")
        weight = attention.qkv.weight.unflatten(0, (3, attention.num_heads, attention.head_dim))
        return weight["qkv".index(basis[-1])].mT  # (K, d, p)

    def prenorm(self, module: nn.Module, layer: int) -> nn.Module:
        """The block's first normalisation."""
        return module.get_submodule(f"blocks.{layer - 1}.norm1")

    def official_site(self, basis: str) -> str:
        """The projection's own output, its bias included: what the release's hook would see."""
        return f"heads_{basis[-1]}"

    def prefix_tokens(self, module: nn.Module) -> int:
        """Class token and registers, as the model itself counts them."""
        return int(module.num_prefix_tokens)  # type: ignore[arg-type]

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
        if is_dinov2(shapes):
            on_meta = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
            return sizes({key: tuple(t.shape) for key, t in renamed(on_meta, None).items()})
        names, _ = encoder(shapes)
        return sizes({name: shapes[key] for key, name in names.items()})

    def head_arguments(self, heads: int, inner: int) -> dict[str, Any]:
        """The heads share the model's width."""
        return {"num_heads": heads}

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Convert timm's and DINOv2's own weights as timm does, rename those of a Dinov2Model.

        Of DINO's training file the backbone is taken, and of a masked autoencoder the encoder, with
        a warning that names what is left out. Any other file is taken as it is.
        """
        if is_dinov2(weights):
            return renamed(weights, module.get_parameter("pos_embed").shape[1])
        if source.get("kind") != "timm":
            names, left = encoder(weights)
            kept = {name: weights[key] for key, name in names.items()}
            masks = [key for key in left if key.endswith("mask_token") and is_release(kept)]
            if set(left) - set(masks):
                _warn_of([key for key in left if key not in masks])
            if not masks:
                return kept
            # By this token timm knows DINOv2's own files, whose parts it puts in its places.
            weights = unchunked(kept) | {"mask_token": weights[masks[0]]}
        from timm.models.vision_transformer import checkpoint_filter_fn

        network: Any = module
        return dict(checkpoint_filter_fn(weights, network, adapt_layer_scale=True))

    def preprocess(self, module: nn.Module) -> Preprocess | None:
        """What timm's configuration of this model states."""
        return stated_preprocess(module)


def _warn_of(left: Sequence[str]) -> None:
    """Say what of a file is left out; the warning is told where `load` was called."""
    warning = LoadWarning(
        f"{len(left)} tensors of the file were left out",
        f"they belong to its training and to no encoder: {listed(list(left))}",
        "Nothing needs to be done; every other tensor is loaded",
    )
    warnings.warn(warning, stacklevel=5)  # through convert, _pretrained and load
