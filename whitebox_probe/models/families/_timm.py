"""What the families of timm's models share: their blocks, building by name, preprocessing."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.models.anatomy import Layer, Tap
from whitebox_probe.models.families._qkv import QkvAnatomy, biased
from whitebox_probe.models.keys.positions import rule
from whitebox_probe.models.preprocess import Preprocess
from whitebox_probe.models.weights import tokens


class TimmAnatomy(QkvAnatomy):
    """Pre-norm blocks, read at modules that fused attention still calls.

    `attn_out` is the update as it is added, scaled where the block has a scale; `mlp_hidden` the
    activation, times its linear half where the MLP is gated, before the norm inside the MLP.
    """

    @abstractmethod
    def head_taps(self, attention: Any, path: str) -> dict[str, Tap]:
        """`heads_q`, `heads_k`, `heads_v` and `attn_weights` of an attention at a path."""

    @abstractmethod
    def projection(self, attention: Any, third: str) -> tuple[Tensor, Tensor | None]:
        """Weight (K*p, d) and bias (K*p) of the queries, keys or values ('q', 'k' or 'v')."""

    def layer(self, module: nn.Module, number: int) -> Layer:
        """A block; U_k^T is rows k*p to (k+1)*p of a projection's weight."""
        path = f"blocks.{number - 1}"
        block: Any = module.get_submodule(path)
        attention = block.attn
        taps = {
            "z_in": Tap(f"{path}.norm1", "input"),
            "attn_in": Tap(f"{path}.attn", "input"),
            **self.head_taps(attention, f"{path}.attn"),
            "attn_out": Tap(f"{path}.drop_path1", "output"),
            "z_half": Tap(f"{path}.norm2", "input"),
            "mlp_in": Tap(f"{path}.mlp", "input"),
            "mlp_hidden": Tap(f"{path}.mlp.norm", "input"),
            "z_out": Tap(path, "output"),
        }

        def subspaces(basis: str) -> Tensor:
            weight, _ = self.projection(attention, basis[-1])
            return weight.unflatten(0, (attention.num_heads, -1)).mT  # (K, d, p)

        biases = [self.projection(attention, third)[1] for third in "qkv"]
        return Layer(
            number,
            taps,
            block.norm1,
            subspaces,
            exempt=biased(biases),
            second=Tap(f"{path}.drop_path2", "output"),
            context=Tap(f"{path}.attn.norm", "input") if hasattr(attention, "norm") else None,
        )

    def trial(self, module: nn.Module) -> Callable[[], object]:
        """The blocks alone, on random tokens: a forward pass of a large image takes seconds."""
        return partial(self.run_blocks, module)

    def run_blocks(self, module: Any) -> None:
        """All blocks on random tokens: those in front of the patches, and four patches."""
        x = tokens(module, self.dims(module).dim, self.prefix_tokens(module) + 4)
        for number, block in enumerate(module.blocks):
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

    def grid(self, module: nn.Module, inputs: Tensor) -> tuple[int, int] | None:
        """As the patch embedding cuts the input."""
        patches: Any = module.get_submodule("patch_embed")
        if hasattr(patches, "dynamic_feat_size"):
            rows, columns = patches.dynamic_feat_size(tuple(inputs.shape[-2:]))
            return int(rows), int(columns)
        known = getattr(patches, "grid_size", None)
        return None if known is None else (int(known[0]), int(known[1]))

    def preprocess(self, module: nn.Module) -> Preprocess | None:
        """What timm's configuration of this model states."""
        return stated_preprocess(module)


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
    import timm

    if "norm_eps" in arguments:  # ours, because timm wants a class, which no registry can hold
        from timm.layers import LayerNorm

        arguments["norm_layer"] = partial(LayerNorm, eps=arguments.pop("norm_eps"))
    if "model" not in arguments:
        built = network(**arguments)
        _expect_whole_patches(built)
        return built
    name = arguments.pop("model")
    if not timm.is_model(name):
        raise ProbeError(
            f"timm has no model '{name}'",
            f"timm {timm.__version__} does not list it",
            f"Look for the name with timm.list_models('*{name.split('_')[0]}*')",
        )
    built = timm.create_model(name, pretrained=False, **arguments)
    if not isinstance(built, network):
        raise ProbeError(
            f"timm's '{name}' cannot be probed",
            f"it is a {type(built).__name__}, and {network.__name__} is expected",
            "Use a plain vision transformer, or one of the EVA and DINOv3 kind",
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

    None for a network that was built from arguments and has no such configuration.
    """
    if not getattr(module, "pretrained_cfg", None):
        return None
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(module)
    channels, *sides = config["input_size"]
    built: Any = getattr(module, "patch_embed", None)
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
