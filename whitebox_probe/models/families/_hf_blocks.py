"""Which blocks a transformers model has: their list, their pattern, their attention's sizes."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.families._hf_attention import Projected, projected
from whitebox_probe.models.families._hf_patterns import FIX, down_of, pattern_of
from whitebox_probe.models.families._hf_table import Pattern

_UNLIKE = {
    "mamba": "a state space that tokens are scanned through beside or in place of attention",
    "rwkv": "a recurrence over tokens, and no attention",
    "recurrentblock": "a recurrence over tokens beside attention",
    "nystrom": "an attention through landmarks, whose softmax is of no two tokens",
    "longformerself": "an attention in windows that cuts the text into pieces",
    "ledencoderself": "an attention in windows that cuts the text into pieces",
    "blocksparse": "an attention over blocks of tokens, some drawn at random",
    "lshself": "an attention among tokens that are hashed into buckets",
    "linearattention": "a linear attention, which has no softmax of pairs of tokens",
    "deltanet": "a linear attention, which has no softmax of pairs of tokens",
    "lightningattention": "a linear attention, which has no softmax of pairs of tokens",
    "convbert": "a convolution beside each attention",
    "fnet": "a Fourier transform and no attention",
    "yoso": "an attention that is sampled by hashing",
    "mraself": "an attention at several resolutions",
    "funnel": "an attention over pooled tokens",
    "perceiver": "an attention from latent vectors to the tokens",
    "shortconv": "a convolution in place of some attentions",
}
"""Words in the names of classes -> why their layers are not measured."""
_CAUSAL = frozenset({"clip_text_model", "openai-gpt", "imagegpt"})
"""Types that are causal and do not say it."""


@dataclass(frozen=True)
class Blocks:
    """The blocks of a module: where they stand, their pattern, their attention, their MLP's end.

    Attributes:
        places: of each layer, the path of its block: one path of several that share their weights.
        down: of each layer, the path of the MLP's last linear map in it; None where it has experts.
    """

    places: tuple[str, ...]
    pattern: Pattern
    attention: Projected
    down: tuple[str | None, ...]
    causal: bool

    def at(self, layer: int, part: str) -> str:
        """The path of a part of a layer (from 1); of the layer itself when `part` is empty."""
        return self.places[layer - 1] + (f".{part}" if part else "")

    @property
    def count(self) -> int:
        """How many layers there are."""
        return len(self.places)


def find(module: nn.Module) -> Blocks:
    """Read the blocks of a transformers model, by the first of them.

    Raises: SiteError that names the part that is not understood.
    """
    config: Any = module.config
    places = _shared(module) or _stack(module)
    stack = [module.get_submodule(place) for place in places]
    first = stack[0]
    own = _configuration(first, config)
    pattern = pattern_of(first, own)
    attention = projected(first, pattern.attention, own)
    down = tuple(down_of(block, pattern) for block in stack)
    causal = _causal(first.get_submodule(attention.path), own)
    return Blocks(tuple(places), pattern, attention, down, causal)


def checked(module: nn.Module) -> Blocks:
    """Read the blocks of a model, each of which is as the first one.

    Raises: SiteError naming the layer and the part that is another, or why there are none such.
    """
    if (why := _why(module)) is not None:
        raise _unlike(module, why)
    if getattr(module.config, "chunk_size_feed_forward", 0):
        raise _unlike(module, "an MLP that is run in chunks (chunk_size_feed_forward)")
    blocks = find(module)
    for number in range(1, blocks.count + 1):
        block = module.get_submodule(blocks.at(number, ""))
        own = _configuration(block, module.config)
        try:
            pattern = pattern_of(block, own)
            same = pattern == blocks.pattern
            if not same or projected(block, pattern.attention, own) != blocks.attention:
                raise _unlike(module, "another kind of block there than before it")
        except SiteError as error:
            raise SiteError(f"layer {number}: {error.what}", error.why, error.fix) from error
    return blocks


def _configuration(block: nn.Module, config: Any) -> Any:
    """The configuration that the block itself keeps, which is its own tower's; else the model's."""
    kept = (vars(part).get("config") for part in block.modules())
    return next((c for c in kept if c is not None), config)


def _causal(attention: Any, own: Any) -> bool:
    """Whether the attention is causal, as it, its configuration, or what is built on it says.

    Where neither of the first two says anything, a type of which the library has a language model
    that writes, and none that fills masks, is causal.
    """
    stated = getattr(attention, "is_causal", None)
    if stated or getattr(own, "is_decoder", False):
        return True
    kind = getattr(own, "model_type", None)
    if kind in _CAUSAL:
        return True
    if stated is not None or hasattr(own, "is_decoder"):
        return False
    from transformers.models.auto import modeling_auto as auto

    fills = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in fills


def _shared(module: nn.Module) -> list[str]:
    """The places of ALBERT's layers in their order: groups of layers that are run several times."""
    found: list[str] = []
    for name, part in module.named_modules():
        if type(part).__name__ == "AlbertTransformer":
            own: Any = part.config
            for layer in range(own.num_hidden_layers):
                group = int(layer / (own.num_hidden_layers / own.num_hidden_groups))
                at = f"{name}.albert_layer_groups.{group}.albert_layers".lstrip(".")
                found += [f"{at}.{inner}" for inner in range(own.inner_group_num)]
    return found


def _stack(module: nn.Module) -> list[str]:
    """The places of the blocks of the one list of blocks with attention.

    Raises: SiteError where there are several, naming each tower, or none.
    """
    found: dict[str, nn.ModuleList] = {}
    for name, part in module.named_modules():
        inside = any(name.startswith(f"{path}.") for path in found)
        if isinstance(part, nn.ModuleList) and len(part) and not inside and _attends(part[0]):
            found[name] = part
    if not found:
        raise _unlike(module, "no list of layers with an attention in each")
    if len(found) == 1:
        path, blocks = next(iter(found.items()))
        return [f"{path}.{number}".lstrip(".") for number in range(len(blocks))]
    towers = list(dict.fromkeys(_tower(module, path) for path in found))
    raise SiteError(
        f"a {type(module).__name__} has {len(found)} stacks of layers",
        f"they are {', '.join(found)}, and one is measured at a time",
        "Pass one of its towers: "
        + ", ".join(f".{tower}" for tower in towers)
        + f"; of an hf:NAME, load it with tower='{towers[0]}'",
    )


def _attends(block: nn.Module) -> bool:
    return any("att" in name.rpartition(".")[2].lower() for name, _ in block.named_modules())


def _tower(module: nn.Module, path: str) -> str:
    """The outermost module around a list of blocks that holds no other part of the model's."""
    import transformers

    names = path.split(".")
    for count in range(1, len(names)):
        above = ".".join(names[:count])
        inner = module.get_submodule(above)
        if isinstance(inner, transformers.PreTrainedModel):
            lists = [p for n, p in inner.named_modules() if isinstance(p, nn.ModuleList)]
            several = [p for p in lists if len(p) and _attends(p[0])]
            if len(several) == 1 or count == len(names) - 1:
                return above
    return ".".join(names[:-1]) or path


def _why(module: nn.Module) -> str | None:
    """Why the layers of a module are none that are measured; None where nothing says so."""
    names = " ".join({f"<{type(part).__name__.lower()}" for part in module.modules()})
    return next((why for word, why in _UNLIKE.items() if word in names), None)


def _unlike(module: nn.Module, what: str) -> SiteError:
    return SiteError(
        f"the blocks of {type(module).__name__} are not understood", f"they have {what}", FIX
    )
