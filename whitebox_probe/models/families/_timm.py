"""What the families of timm's models share: their blocks, building by name, preprocessing."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from whitebox_probe._core.errors import ProbeError, SiteError
from whitebox_probe.models.anatomy import Dims, Layer
from whitebox_probe.models.families._qkv import QkvAnatomy, biased
from whitebox_probe.models.families._timm_attention import Reader, reader
from whitebox_probe.models.families._timm_blocks import Parts, parts
from whitebox_probe.models.families._timm_refused import reason
from whitebox_probe.models.keys.positions import rule
from whitebox_probe.models.preprocess import Preprocess
from whitebox_probe.models.weights import tokens


class TimmAnatomy(QkvAnatomy):
    """Stacked blocks, read at modules that fused attention still calls.

    `attn_out` is the update as it is added, scaled or normalised where the block does so;
    `mlp_hidden` the activation, times its linear half where the MLP is gated, before a norm inside
    the MLP. `heads_q`, `heads_k` and `heads_v` are the linear projections with their bias, before
    any query-key norm and any rotation; `attn_weights` has both, and relative positions. Attention
    pooling (SigLIP) and layers that attend with the class token alone (CaiT) are the head's.
    """

    absent = QkvAnatomy.absent | {
        "z_half": "attention and MLP of a parallel block are added at once",
        "attn_out": "one map makes the updates of attention and MLP together",
        "mlp_hidden": "the MLP is of a kind whose activation is not known",
    }

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first block's attention.

        Raises: SiteError for blocks and attentions of kinds that are not known.
        """
        blocks = self.blocks(module)
        read = [self.parts(module, number)[1] for number in range(1, len(blocks) + 1)]
        shared = sorted({each.count("k") for each in read})
        if len(shared) > 1:
            raise SiteError(
                "layers with different numbers of keys are not understood",
                f"keys and values have {' or '.join(map(str, shared))} heads, and every layer's "
                "are compared",
                "Use a model whose layers all have as many",
            )
        first = read[0]
        K, d, p = first.subspaces("q").shape
        return Dims(len(blocks), dim=d, heads=K, dim_head=p, tokens=self._count(module))

    def layer(self, module: nn.Module, number: int) -> Layer:
        """A block; U_k^T is rows k*p to (k+1)*p of a projection's weight."""
        parts, heads = self.parts(module, number)
        biases = [heads.projection(third)[1] for third in "qkv"]
        exempt = biased(biases)
        if heads.count("k") != heads.heads:
            exempt["heads_for_each"] = "several queries share keys and values"
        return Layer(
            number,
            {**parts.taps, **heads.taps()},
            parts.norm,
            lambda basis: heads.subspaces(basis[-1]),
            exempt=exempt,
            second=parts.second,
            context=heads.context(),
        )

    def parts(self, module: nn.Module, number: int) -> tuple[Parts, Reader]:
        """Where a block's parts are, and how its attention is read."""
        path = f"{self.root(module)}blocks.{number - 1}"
        found = parts(module.get_submodule(path), path)
        return found, reader(module.get_submodule(found.attention), found.attention)

    def root(self, module: nn.Module) -> str:
        """Where the tower is: in front of `blocks`."""
        return ""

    def blocks(self, module: nn.Module) -> Any:
        """The stacked blocks."""
        return module.get_submodule(f"{self.root(module)}blocks")

    def trial(self, module: nn.Module) -> Callable[[], object]:
        """The blocks alone, on random tokens: a forward pass of a large image takes seconds."""
        return partial(self.run_blocks, module)

    def run_blocks(self, module: Any) -> None:
        """All blocks on random tokens: those in front of the patches, and four patches."""
        x = tokens(module, self.dims(module).dim, self.prefix_tokens(module) + 4)
        for number, block in enumerate(self.blocks(module)):
            x = block(x, **self.beside(module, number))

    def beside(self, module: Any, number: int) -> dict[str, Any]:
        """What a block (counted from 0) takes besides the tokens of four patches."""
        return {}

    def prefix_tokens(self, module: nn.Module) -> int:
        """Class token and registers, as the model itself counts them."""
        return int(module.num_prefix_tokens)  # type: ignore[arg-type]

    def class_index(self, module: nn.Module) -> int | None:
        """The first token, in front of registers; none where the model has registers alone."""
        return None if getattr(module, "cls_token", None) is None else 0

    def patches(self, module: nn.Module) -> Any:
        """The patch embedding."""
        return module.get_submodule(f"{self.root(module)}patch_embed")

    def grid(self, module: nn.Module, inputs: Tensor) -> tuple[int, int] | None:
        """As the patch embedding cuts the input."""
        patches = self.patches(module)
        if hasattr(patches, "dynamic_feat_size"):
            rows, columns = patches.dynamic_feat_size(tuple(inputs.shape[-2:]))
            return int(rows), int(columns)
        known = getattr(patches, "grid_size", None)
        return None if known is None else (int(known[0]), int(known[1]))

    def preprocess(self, module: nn.Module) -> Preprocess | None:
        """What timm's configuration of this model states."""
        return stated_preprocess(module)

    def any_size(self, module: nn.Module) -> bool:
        """Whether images of any size are taken."""
        return bool(getattr(module, "dynamic_img_size", False))

    def _count(self, module: nn.Module) -> int | None:
        """How many tokens there are, prefix tokens among them; None where it is not fixed."""
        count = getattr(self.patches(module), "num_patches", None)
        if count is None or self.any_size(module):
            return None
        return int(count) + self.prefix_tokens(module)


def rotation(module: Any, number: int) -> dict[str, Any]:
    """The rotary embedding of four patches that a block (counted from 0) is called with."""
    rope = getattr(module, "rope", None)
    if rope is None:
        return {}
    found = rope.get_embed((2, 2))
    each = getattr(module, "rope_mixed", False) or getattr(module, "rope_is_mixed", False)
    found = found[number] if each else found
    return {"rope": found[..., :4, :]}  # a fixed grid is given whole, whatever was asked for


def create(arch: Mapping[str, Any], network: type[nn.Module]) -> nn.Module:
    """Build by a timm name (`model`), or the network's class from its own arguments.

    `norm_eps` stands for timm's `norm_layer`: a LayerNorm of that eps. `interpolate_positions` is
    no argument of timm's: it stays with the network, for `fitted_positions`.

    Raises: ProbeError for a name that timm does not have, or that is of another class.
    """
    arguments = dict(arch)
    by = rule(arguments.pop("interpolate_positions", None))
    built = _created(arguments, network)
    built.interpolate_positions = by  # type: ignore[assignment]
    return built


def _created(arguments: dict[str, Any], network: type[nn.Module]) -> nn.Module:
    if "norm_eps" in arguments:  # ours, because timm wants a class, which no registry can hold
        from timm.layers import LayerNorm

        arguments["norm_layer"] = partial(LayerNorm, eps=arguments.pop("norm_eps"))
    if "model" in arguments:
        return create_named(arguments, lambda built: isinstance(built, network), network.__name__)
    built = network(**arguments)
    _expect_whole_patches(built)
    return built


def create_named(
    arch: Mapping[str, Any], fits: Callable[[nn.Module], bool], wanted: str
) -> nn.Module:
    """Build by a timm name (`model`), with changes of its arguments.

    Args: fits: whether what is built is of the family. wanted: what it should be, in words.
    Raises: ProbeError for a name that timm does not have, or that is of another class.
    """
    import timm

    arguments = dict(arch)
    name = arguments.pop("model")
    if not timm.is_model(name):
        raise ProbeError(
            f"timm has no model '{name}'",
            f"timm {timm.__version__} does not list it",
            f"Look for the name with timm.list_models('*{name.split('_')[0]}*')",
        )
    built: nn.Module = timm.create_model(name, pretrained=False, **arguments)
    if not fits(built):
        why = reason(built) or f"{wanted} is expected"
        raise ProbeError(
            f"timm's '{name}' cannot be probed",
            f"it is a {type(built).__name__}, and {why}",
            "Use a vision transformer whose blocks all see the same tokens (docs/families.md)",
        )
    _expect_whole_patches(built)
    return built


def _expect_whole_patches(network: nn.Module) -> None:
    """Refuse here what timm only refuses, without naming either, when an image comes.

    Raises: ValueError if the image is no whole number of patches.
    """
    patches: Any = getattr(network, "patch_embed", None)
    size, patch = getattr(patches, "img_size", None), getattr(patches, "patch_size", None)
    if not size or not patch or getattr(network, "dynamic_img_size", False):
        return
    if any(whole % part for whole, part in zip(size, patch, strict=True)):
        raise ValueError(
            f"an img_size of {tuple(size)} is no multiple of patch_size {tuple(patch)}"
        )


def stated_preprocess(module: nn.Module) -> Preprocess | None:
    """What timm's configuration of this model states; the size is the one that it was built for.

    None for a network that was built from arguments and has no such configuration, and for one of
    other channels than grey and colour.
    """
    if not getattr(module, "pretrained_cfg", None):
        return None
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(module)
    channels, *sides = config["input_size"]
    built: Any = getattr(module, "patch_embed", None)
    # timm's configuration stays that of three channels.
    channels = getattr(getattr(built, "proj", None), "in_channels", channels)
    if channels not in (1, 3):
        return None
    if not getattr(module, "dynamic_img_size", False):
        sides = getattr(built, "img_size", None) or sides
    high, wide = map(int, sides)
    return Preprocess(
        size=high if high == wide else (high, wide),
        mean=tuple(config["mean"])[:channels],
        std=tuple(config["std"])[:channels],
        mode="L" if channels == 1 else "RGB",
        crop=config["crop_pct"],
        interpolation=config["interpolation"],
        crop_mode=config.get("crop_mode") or "center",
    )
