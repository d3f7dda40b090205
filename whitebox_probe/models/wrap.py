"""`wrap`: a torch module that the user already has -> a model to probe."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.models.anatomy import Anatomy
from whitebox_probe.models.declared import Operator
from whitebox_probe.models.family import Family
from whitebox_probe.models.mapped import MappedAnatomy, Subspaces
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.preprocess import Preprocess, TextPreprocess
from whitebox_probe.models.registry import families, family_named
from whitebox_probe.models.verify import verified


def wrap(
    module: nn.Module,
    family: str | None = None,
    *,
    name: str | None = None,
    preprocess: Preprocess | TextPreprocess | Literal["imagenet"] | None = None,
    sites: Mapping[str, str] | None = None,
    layers: int | None = None,
    first_layer: int = 0,
    heads: int | None = None,
    dim_head: int | None = None,
    dim: int | None = None,
    subspaces: Subspaces | Mapping[str, Subspaces] | None = None,
    prenorm: str | None = None,
    prefix_tokens: int = 0,
    class_token: int | None = None,
    grid: tuple[int, int] | None = None,
    example: Tensor | None = None,
    operators: Mapping[str, Operator] | None = None,
    causal: bool = False,
) -> ProbeModel:
    """Make a module that you already have ready for probing.

    The module itself is not changed; its evaluation mode is set while it is probed. A module of no
    family is mapped by `sites`; the arguments after it belong to such a mapping alone.

    Args:
        module: a torch module of a known family, or any with `sites`.
        family: the family's name; recognised from the module when not given.
        name: what tables and figures call it; the class name when not given.
        preprocess: how an image becomes its input; read from the module where it says so.
            `imagenet`: 224 pixels, ImageNet's means and spreads.
        sites: site -> `path.of.{layer}.module:input` or `...:output`, and perhaps `:layout`, such
            as `blocks.{layer}.attn.qkv:output:B n (3 K p)` (`models/mapped.py` lists them).
        layers: how many layers there are; counted from the paths when not given.
        first_layer: the number that stands for `{layer}` in the first layer.
        heads, dim_head: K and p; one head as wide as the tokens when not given.
        dim: d; read from the subspaces or the example when not given.
        subspaces: basis name -> `path.of.{layer}.weight:layout`, or a function of (module, layer)
            that gives U (K, d, p); one alone is the basis `native`.
        prenorm: path of the normalisation in front of the attention.
        prefix_tokens: how many tokens stand before the patches (class token, registers).
        class_token: which token is the class token, from 0; the one before the patches if there is
            one, and none if there are several and it is not given.
        grid: rows and columns of the patches, for distances between them.
        example: an input to try the mapping on, so that a wrong one is told at once.
        operators: what a proximal second step is made of: `D` (d, h), acting on token rows as
            `A D^T`, `lam` and `eta`; each a number, `path.of.{layer}.tensor` (`:T` behind it
            transposes), or a function of (module, layer). Its tokens are at the site `mlp_in`, its
            code at `z_out`, or at `code` where h is more than d; codes are not negative.
        causal: whether a token's attention sees only itself and those before it.

    Raises: ProbeError when the module is of no known family, or is or holds a wrapper;
        SiteError, BasisError or ShapeError for a mapping that does not fit the module.

    Example:
        >>> layer = nn.TransformerEncoderLayer(8, nhead=2, batch_first=True)
        >>> network = nn.TransformerEncoder(layer, num_layers=3)
        >>> wrap(network, sites={"z_out": "layers.{layer}:output"}, dim=8).layers
        3
    """
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ProbeError(
            f"a {type(module).__name__} cannot be probed",
            "its replicas would each record a part of the tokens",
            "Pass its .module, and use torchrun for many devices",
        )
    _expect_bare(module)
    _expect_whole(module)
    if preprocess == "imagenet":
        preprocess = Preprocess.imagenet()
    found: Family | None
    if sites is None:
        sizes = (layers, heads, dim_head, dim, class_token, grid)
        options = (*sizes, subspaces, prenorm, example, operators)
        if first_layer or prefix_tokens or causal or any(option is not None for option in options):
            raise ProbeError(
                "a mapping without sites",
                "the other arguments of a mapping have no meaning without them",
                "Add sites={'z_out': 'path.of.{layer}:output'}, or leave them out",
            )
        _expect_bare_parts(module)
        found = _found(module, family)
        anatomy: Anatomy = found.anatomy
    elif family is not None:
        raise ProbeError(
            f"family '{family}' and sites are both given",
            "a family knows its own sites",
            "Leave one of them out",
        )
    else:
        found = None
        anatomy = MappedAnatomy(
            module,
            sites,
            layers=layers,
            first_layer=first_layer,
            heads=heads,
            dim_head=dim_head,
            dim=dim,
            subspaces=subspaces,
            prenorm=prenorm,
            prefix_tokens=prefix_tokens,
            class_token=class_token,
            grid=grid,
            example=example,
            operators=operators,
            causal=causal,
        )
    model = ProbeModel(
        module=module,
        anatomy=anatomy,
        name=name or type(module).__name__.lower(),
        family=found,
        preprocess=preprocess or anatomy.preprocess(module),
    )
    return verified(model)


def _expect_bare(module: nn.Module) -> None:
    """Refuse wrappers of a model, whose own family cannot be seen."""
    inner = {"PeftModel": "get_base_model()", "OptimizedModule": "_orig_mod"}
    prompts = _prompts(module)
    if prompts:
        raise ProbeError(
            f"a {type(module).__name__} with {', '.join(prompts)} cannot be probed",
            "what it has learned is put in front of the tokens or the keys by the wrapper, and the "
            "model inside it is the base model without it",
            "Use an adapter that is in the layers, such as LoRA; .get_base_model() measures the "
            "base model alone",
        )
    for kind in type(module).__mro__:
        if kind.__name__ in inner:
            raise ProbeError(
                f"a {type(module).__name__} is a wrapper and no model of a family",
                "sites are read from the modules inside it",
                f"Pass its .{inner[kind.__name__]}: adapters that are in its layers are measured",
            )


def _expect_whole(module: nn.Module) -> None:
    """Refuse a module that FSDP has cut up: this process has only a part of each weight."""
    kinds = ("FullyShardedDataParallel", "FSDPModule")
    if any(kind.__name__ in kinds for part in module.modules() for kind in type(part).__mro__):
        raise ProbeError(
            f"a {type(module).__name__} that FSDP has cut up cannot be probed",
            "subspaces are read from whole weights, and a process holds a part of each",
            "Load its full state dict into the model without FSDP, and use torchrun for many "
            "devices",
        )


def _expect_bare_parts(module: nn.Module) -> None:
    """Refuse a module whose parts are wrapped one by one, for which no family is recognised."""
    wrappers = {
        "CheckpointWrapper": "before checkpoint_wrapper() is applied",
        "OptimizedModule": "before its parts are compiled",
    }
    for path, part in module.named_modules():
        fix = wrappers.get(type(part).__name__)
        if fix is not None:
            raise ProbeError(
                f"'{path}' is a {type(part).__name__}" if path else "a CheckpointWrapper is given",
                "it hides the block that its sites are read from",
                f"Pass the model as it is {fix}",
            )


def _prompts(module: nn.Module) -> list[str]:
    """The kinds of a peft wrapper's adapters that are in no layer: prompts and prefixes."""
    configs = getattr(module, "peft_config", None)
    if not isinstance(configs, Mapping):
        return []
    found = [c for c in configs.values() if getattr(c, "is_prompt_learning", False)]
    return list(dict.fromkeys(type(config).__name__.removesuffix("Config") for config in found))


def _found(module: nn.Module, name: str | None) -> Family:
    """The family of that name, or the one that a module is of."""
    if name is not None:
        found = family_named(name)
        if not found.matches(module):
            raise ProbeError(
                f"a {type(module).__name__} is not of family '{name}'",
                "the modules that its sites need are not there",
                "Leave family out to have it recognised",
            )
        return found
    matching = [f for f in families().values() if f.matches(module)]
    if not matching:
        reasons = (family.refuses(module) for family in families().values())
        why = next(filter(None, reasons), None)
        if why is not None:
            raise ProbeError(
                f"a {type(module).__name__} cannot be probed as a whole",
                why,
                "Map what is alike in it with sites={'z_out': 'path.of.{layer}:output'}",
            )
    if len(matching) != 1:
        raise ProbeError(
            f"a {type(module).__name__} is of no family known here",
            f"{len(matching)} families match it",
            f"Name one: family={' | '.join(families())}; or map it with sites="
            "{'z_out': 'path.of.{layer}:output'}",
        )
    return matching[0]
