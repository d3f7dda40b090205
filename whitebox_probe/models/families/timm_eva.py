"""timm's Eva class (EVA, EVA-02, DINOv3, PE, ViTs with rotary positions): sites and bases."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from whitebox_probe._core.errors import LoadWarning
from whitebox_probe.models.arguments import Kind
from whitebox_probe.models.families._timm import TimmAnatomy, create, rotation
from whitebox_probe.models.families._timm_arguments import ARGUMENTS
from whitebox_probe.models.families._timm_files import (
    as_timm_names,
    fitted_positions,
    fitting,
    left_out,
    settled,
)
from whitebox_probe.models.family import Family, Recognised
from whitebox_probe.models.keys.dinov3 import expect_nothing_lost
from whitebox_probe.models.keys.vit import EVA_MARKS, by_name


class TimmEvaAnatomy(TimmAnatomy):
    """Blocks with rotary positions: pre-norm, or with a norm behind each update."""

    def beside(self, module: Any, number: int) -> dict[str, Any]:
        """The rotation of four patches; each block has its own where it is learned."""
        return rotation(module, number)


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

    def arguments(self) -> Mapping[str, Kind]:
        """Sizes, switches and parts by name, of all networks of timm alike."""
        return ARGUMENTS

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

    def fitting(
        self, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Any]:
        """Depth, width and registers, as the shapes tell them."""
        return fitting(expected, found)

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Convert timm's own weights as timm does, and a user's that has a release's own names."""
        from timm.models.eva import checkpoint_filter_fn

        if source.get("kind") != "timm":
            expect_nothing_lost(weights, module)
            named = as_timm_names(weights, module, checkpoint_filter_fn)
            return fitted_positions(named, module)
        return dict(checkpoint_filter_fn(weights, module))

    def notes(
        self, weights: Mapping[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> list[LoadWarning]:
        """What stands beside an image tower in EVA-CLIP's file."""
        from timm.models.eva import checkpoint_filter_fn

        if source.get("kind") == "timm":
            return []
        return left_out(weights, module, checkpoint_filter_fn)
