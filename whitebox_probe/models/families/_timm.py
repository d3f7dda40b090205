"""What the families of timm's models share: their blocks, building by name, preprocessing."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import partial
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import CheckpointError, ProbeError
from whitebox_probe.models.anatomy import Layer, Tap
from whitebox_probe.models.families._qkv import QkvAnatomy, biased
from whitebox_probe.models.keys.positions import grid_of, resample, rule
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


def settled(arch: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What a file of a named model settles otherwise than the name: head, channels, image, pooling.

    What is among the arguments already stays as it is asked for.
    """
    if "model" not in arch:
        return {}
    with torch.device("meta"):
        usual: Any = create(arch, nn.Module)
    own = {key: tuple(tensor.shape) for key, tensor in usual.state_dict().items()}
    told: dict[str, Any] = {}
    head, patch = shapes.get("head.weight"), shapes.get("patch_embed.proj.weight", ())
    if head is None or len(head) == 2:
        told["num_classes"] = 0 if head is None else head[0]
    if len(patch) == 4:
        told["in_chans"] = patch[1]
    if "fc_norm.weight" in shapes and "fc_norm.weight" not in own:
        told["global_pool"] = "avg"
    table = shapes.get("pos_embed", ())
    if len(table) == 3 and len(patch) == 4 and "pos_embed" in own:
        grid = grid_of(table[1] - _unplaced(usual), usual.patch_embed.grid_size)
        if grid is not None and "dynamic_img_size" not in arch:
            high, wide = (n * side for n, side in zip(grid, patch[2:], strict=True))
            told["img_size"] = high if high == wide else (high, wide)
    usual_size = tuple(getattr(usual.patch_embed, "img_size", None) or ())
    known = {
        "num_classes": own.get("head.weight", (0,))[0],
        "in_chans": own.get("patch_embed.proj.weight", (0, 0))[1],
        "img_size": usual_size[0] if len(set(usual_size)) == 1 else usual_size,
    }
    return {k: v for k, v in told.items() if k not in arch and known.get(k) != v}


def _unplaced(network: Any) -> int:
    """How many rows of a position table are of tokens that are no patches."""
    if getattr(network, "no_embed_class", False):
        return 0
    return int(getattr(network, "num_prefix_tokens", 1))


def fitted_positions(weights: dict[str, Tensor], module: Any) -> dict[str, Tensor]:
    """A file's weights, with its positions at the network's own resolution where that is asked for.

    Raises: CheckpointError where the rows of the file's table are no grid that is known.
    """
    by, table = getattr(module, "interpolate_positions", None), weights.get("pos_embed")
    if by is None or table is None or table.ndim != 3 or getattr(module, "pos_embed", None) is None:
        return weights
    prefix, (high, wide) = _unplaced(module), module.patch_embed.grid_size
    old = grid_of(table.shape[1] - prefix, (high, wide))
    if table.shape[1] == module.pos_embed.shape[1] and old != (high, wide):
        return weights  # as many, on the network's own grid
    if old is None:
        raise CheckpointError(
            f"{table.shape[1] - prefix} position embeddings cannot be resampled to {high} x {wide}",
            "they are no square grid, and none of the same shape as the new one",
            "Choose an img_size with the shape of the images that it was trained on",
        )
    fitted = resample(table, old=old, new=(int(high), int(wide)), prefix=prefix, by=by)
    return weights | {"pos_embed": fitted}


def as_timm_names(
    weights: dict[str, Tensor], module: nn.Module, names: Callable[..., Any]
) -> dict[str, Tensor]:
    """A file under a release's original names, through the filter that timm has for them.

    The filters resample what does not fit without a word; then the weights stay as they are, to be
    refused with every key that does not fit.

    Args: names: timm's `checkpoint_filter_fn` of the network's module.
    """
    expected = module.state_dict()
    if all(key in weights for key in expected):
        return weights
    try:
        with redirect_stdout(StringIO()):  # one of them prints the errors that it expects
            found = dict(names(dict(weights), module))
    except (KeyError, RuntimeError, AttributeError, ValueError, TypeError, IndexError):
        return weights  # it takes them for those of a release that they are not of
    held = {tensor.numel() for tensor in weights.values()}
    resized = any(
        key in found and found[key].numel() not in held
        for key in ("pos_embed", "patch_embed.proj.weight")
    )
    gained = sum(key in found for key in expected) > sum(key in weights for key in expected)
    return found if gained and not resized else weights


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
