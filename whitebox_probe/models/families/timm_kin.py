"""timm's other towers of stacked blocks: BEiT, CaiT, relative positions, NaFlexViT and others."""

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from whitebox_probe.models.arguments import Kind
from whitebox_probe.models.families._timm import TimmAnatomy, create_named, rotation
from whitebox_probe.models.families._timm_arguments import ARGUMENTS
from whitebox_probe.models.families._timm_files import fitting, settled
from whitebox_probe.models.families._timm_refused import reason
from whitebox_probe.models.family import Family
from whitebox_probe.models.weights import tokens

NETWORKS = (
    "Beit",
    "Cait",
    "VisionTransformerRelPos",
    "NaFlexVit",
    "Qwen3VitEncoder",
    "Qwen3VitClassifier",
    "DeepseekVitEncoder",
    "DeepseekVitClassifier",
)


class TimmKinAnatomy(TimmAnatomy):
    """Towers that keep their patch embedding elsewhere, or give their blocks more than tokens.

    CaiT's class token joins in its last layers, where it alone attends: they belong to the head,
    and the layers are those of the patches.
    """

    def root(self, module: nn.Module) -> str:
        """Classifiers around a tower keep it as `encoder`."""
        return "encoder." if hasattr(getattr(module, "encoder", None), "blocks") else ""

    def tower(self, module: nn.Module) -> Any:
        """The tower itself."""
        return module.get_submodule(self.root(module).rstrip("."))

    def run_blocks(self, module: nn.Module) -> None:
        """As many tokens as an image has, where relative positions are of its grid."""
        if not self._relative(module):
            return super().run_blocks(module)
        count = self._count(module)
        x = tokens(module, self.dims(module).dim, count or 0)
        more = self._common(module)
        for block in self.blocks(module):
            x = block(x, **more)
        return None

    def beside(self, module: nn.Module, number: int) -> dict[str, Any]:
        """The rotation of four patches."""
        return rotation(self.tower(module), number)

    def prefix_tokens(self, module: nn.Module) -> int:
        """As the model counts them; none in CaiT's layers."""
        return 0 if _is(module, "Cait") else super().prefix_tokens(module)

    def class_index(self, module: nn.Module) -> int | None:
        """The first token, where the layers have a class token."""
        if _is(module, "Cait"):
            return None
        return super().class_index(getattr(module, "embeds", module))

    def patches(self, module: nn.Module) -> Any:
        """NaFlexViT's are in one part with its positions."""
        return getattr(module, "embeds", None) or super().patches(module)

    def any_size(self, module: nn.Module) -> bool:
        """Towers that know positions of any grid."""
        fixed = _is(module, "Beit", "Cait", "VisionTransformerRelPos")
        return not fixed or super().any_size(module)

    def _relative(self, module: Any) -> bool:
        """Whether relative positions are added to the scores."""
        first = self.blocks(module)[0].attn
        own = ("relative_position_bias_table", "rel_pos")
        return bool(self._common(module)) or any(
            getattr(first, name, None) is not None for name in own
        )

    def _common(self, module: Any) -> dict[str, Tensor]:
        """The relative positions that all blocks are called with."""
        if getattr(module, "rel_pos_bias", None) is not None:
            return {"shared_rel_pos_bias": module.rel_pos_bias()}
        if getattr(module, "shared_rel_pos", None) is not None:
            return {"shared_rel_pos": module.shared_rel_pos.get_bias()}
        return {}


_SMALL = {"embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3, "patch_size": 4}


class TimmKinFamily(Family):
    """timm's BEiT, CaiT, ViT with relative positions, NaFlexViT, Qwen3's and DeepSeek's towers.

    References: Bao et al. 2021, arXiv:2106.08254; Touvron et al. 2021, arXiv:2103.17239.
    """

    name = "timm_kin"
    reads = TimmKinAnatomy
    example = (
        {"model": "beit_base_patch16_224", "img_size": 12, **_SMALL},
        {"model": "vit_relpos_medium_patch16_224", "img_size": 12, **_SMALL},
        {"model": "cait_xxs24_224", "img_size": 12, **_SMALL},
        {"model": "naflexvit_base_patch16_gap", **_SMALL},
    )
    tested = (
        "every site against timm's own blocks and forward_intermediates, with random weights in "
        "float64, for every kind of block in small. No pretrained file was read"
    )
    timm_modules = (
        *("beit", "cait", "vision_transformer_relpos", "naflexvit"),
        *("qwen3_vit", "deepseek_vit"),
    )

    def arguments(self) -> Mapping[str, Kind]:
        """Sizes, switches and parts by name, of all networks of timm alike."""
        return ARGUMENTS

    def build(self, arch: Mapping[str, Any]) -> nn.Module:
        """Build by a timm name (`model`), with changes of its arguments."""
        return create_named(arch, self.matches, f"one of {', '.join(NETWORKS)}")

    def matches(self, module: nn.Module) -> bool:
        """One of timm's networks of these names, or a subclass."""
        return _is(module, *NETWORKS)

    def refuses(self, module: nn.Module) -> str | None:
        """What keeps another network of timm out."""
        return reason(module)

    def settled(
        self, arch: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Any]:
        """The head and the channels of a fine-tuned file; positions are of several kinds."""
        told = settled(arch, shapes)
        return {key: told[key] for key in ("num_classes", "in_chans") if key in told}

    def fitting(
        self, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
    ) -> dict[str, Any]:
        """Depth and width, as the shapes tell them."""
        return fitting(expected, found)

    def convert(
        self, weights: dict[str, Tensor], module: nn.Module, *, source: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Convert timm's own weights as timm does; a user's file is taken as it is."""
        if source.get("kind") != "timm":
            return weights
        place = sys.modules[type(module).__module__]
        part = "_classifier" if type(module).__name__.endswith("Classifier") else "_encoder"
        for name in (f"checkpoint_filter_fn{part}", "checkpoint_filter_fn"):
            if hasattr(place, name):
                return dict(getattr(place, name)(weights, module))
        return weights


def _is(module: nn.Module, *names: str) -> bool:
    """Whether a module is of one of these classes of timm's models, or a subclass."""
    return any(
        kind.__name__ in names and kind.__module__.startswith("timm.models.")
        for kind in type(module).__mro__
    )
