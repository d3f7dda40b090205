"""`wrap`: a torch module that the user already has -> a model to probe."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from whitebox_probe._core.arguments import expect, expect_usual, one_of, optional, text
from whitebox_probe._core.arguments import path as a_path
from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.process import as_found
from whitebox_probe.models.anatomy import Anatomy
from whitebox_probe.models.declared import Operator
from whitebox_probe.models.family import Family
from whitebox_probe.models.mapped import MappedAnatomy, Subspaces, stated
from whitebox_probe.models.model import ProbeModel, expect_model
from whitebox_probe.models.named import Written, mapping_named, placed, recognised, shipped
from whitebox_probe.models.named_anatomy import NamedAnatomy
from whitebox_probe.models.preprocess import PREPARING, Preprocess, TextPreprocess, prepares
from whitebox_probe.models.registry import families, family_named
from whitebox_probe.models.verify import verified, verified_on
from whitebox_probe.models.wrappers import bare, is_wrapper, without_wrapper

_PATHS = {"subspaces", "prenorm", "operators"}
"""Arguments of a mapping that name places in a module, beside `sites`."""
_USUALLY_NONE = ("first_layer", "prefix_tokens", "causal")
"""Arguments of a mapping whose 0 and False say nothing by themselves."""


@as_found()
def wrap(
    module: nn.Module,
    family: str | None = None,
    *,
    name: str | None = None,
    preprocess: Preprocess | TextPreprocess | Literal["imagenet"] | None = None,
    sites: Mapping[str, str] | None = None,
    layers: int | None = None,
    first_layer: int | None = None,
    heads: int | None = None,
    dim_head: int | None = None,
    dim: int | None = None,
    subspaces: Subspaces | Mapping[str, Subspaces] | None = None,
    prenorm: str | None = None,
    prefix_tokens: int | None = None,
    class_token: int | None = None,
    grid: tuple[int, int] | None = None,
    example: Tensor | None = None,
    operators: Mapping[str, Operator] | None = None,
    causal: bool | None = None,
    mapping: str | Path | None = None,
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
            as `blocks.{layer}.attn.qkv:output:B n (3 K p)` (`models/mapped.py` lists them). Paths
            are those of the module, or of a wrapper around it that was given (`module.blocks...`).
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
        causal: whether a token's attention sees only itself and those before it. With `example`
            and z_in and attn_out, or attn_weights, among the sites it is tried that it does.
        mapping: name of a mapping that comes with the package (`mappings/`), or the path of a YAML
            file like them; the arguments above but `sites` are then changes of it. The class of a
            module says which one it is when nothing is given.

    Raises: SettingError for an argument that cannot be; ProbeError when the module is of no known
        family, or is a wrapper without which it is another;
        SiteError, BasisError or ShapeError for a mapping that does not fit the module.

    Example:
        >>> layer = nn.TransformerEncoderLayer(8, nhead=2, batch_first=True)
        >>> network = nn.TransformerEncoder(layer, num_layers=3)
        >>> wrap(network, sites={"z_out": "layers.{layer}:output"}, dim=8).layers
        3
    """
    if not is_wrapper(module):
        expect_model(module, nn.Module, "a torch module")
        _expect_made(module)
    expect_usual(name=name)
    expect("family", family, optional(text), "it says how the module is built")
    expect("mapping", mapping, optional(a_path), "it says where the sites of a module are")
    named = isinstance(preprocess, str)
    expect("preprocess", preprocess, one_of("imagenet") if named else prepares, PREPARING[1])
    given, module = module, bare(module)
    if preprocess == "imagenet":
        preprocess = Preprocess.imagenet()
    changes: dict[str, Any] = {
        "layers": layers,
        "first_layer": first_layer,
        "heads": heads,
        "dim_head": dim_head,
        "dim": dim,
        "subspaces": subspaces,
        "prenorm": prenorm,
        "prefix_tokens": prefix_tokens,
        "class_token": class_token,
        "grid": grid,
        "example": example,
        "operators": operators,
        "causal": causal,
    }
    changes = {key: value for key, value in stated(changes).items() if value is not None}
    paths = {key: each for key, each in changes.items() if key in _PATHS}
    changes |= without_wrapper(paths, given, module)
    sites = without_wrapper(sites, given, module)
    _expect_one(family, sites, mapping)

    def model(anatomy: Anatomy, of: Family | None) -> ProbeModel:
        made = verified(
            ProbeModel(
                module=module,
                anatomy=anatomy,
                name=name or type(module).__name__.lower(),
                family=of,
                preprocess=preprocess or anatomy.preprocess(module),
            )
        )
        if example is not None and isinstance(anatomy, MappedAnatomy):
            verified_on(made, example, exchanged=anatomy.as_it_is("z_in"))
        return made

    if sites is not None:
        return model(MappedAnatomy(module, sites, **changes), None)
    if mapping is not None:
        written = mapping_named(mapping)
        return _tried(module, [(written, placed(written, module))], changes, model)
    known = recognised(module) if family is None and not _matching(module) else []
    if known:
        return _tried(module, known, changes, model)
    if any(key not in _USUALLY_NONE or value for key, value in changes.items()):
        raise ProbeError(
            "a mapping without sites",
            "the other arguments of a mapping have no meaning without them",
            "Add sites={'z_out': 'path.of.{layer}:output'}, or leave them out",
        )
    of = _found(module, family)
    return model(of.anatomy, of)


def _expect_made(module: nn.Module) -> None:
    """Refuse a module of lazy parts, whose weights have no shape yet.

    Raises: ProbeError.
    """
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if is_lazy(tensor):
            raise ProbeError(
                f"a {type(module).__name__} cannot be measured yet",
                f"'{name}' has no shape before the first pass",
                "Run the module once on an input, and pass it then",
            )


def _expect_one(
    family: str | None, sites: Mapping[str, str] | None, mapping: str | Path | None
) -> None:
    """A family, sites and a written mapping exclude each other.

    Raises: ProbeError.
    """
    given = {"sites": sites, "mapping": mapping}
    told = [key for key, value in given.items() if value is not None]
    if family is not None and told:
        raise ProbeError(
            f"family '{family}' and {told[0]} are both given",
            "a family knows its own sites",
            "Leave one of them out",
        )
    if len(told) > 1:
        raise ProbeError(
            "sites and a mapping are both given",
            "a mapping says where its sites are",
            "Leave one of them out, or write the sites into a mapping of your own",
        )


def _tried(
    module: nn.Module,
    written: Sequence[tuple[Written, str]],
    changes: Mapping[str, Any],
    model: Callable[[Anatomy, Family | None], ProbeModel],
) -> ProbeModel:
    """The first of several written mappings that holds in a module.

    A site that a mapping calls optional is left out where it does not hold, and asking for it says
    why.

    Raises: ProbeError of the last one.
    """
    failed: ProbeError | None = None
    for one, root in written:
        for without in ((), *([one.fields["optional"]] if one.fields.get("optional") else [])):
            told = "" if failed is None else f"{failed.what}: {failed.why}"
            try:
                left = {site: told for site in without}
                return model(NamedAnatomy(module, one, root, changes, left), None)
            except ProbeError as error:
                failed = error
    assert failed is not None, "there is at least one mapping"
    raise failed


def _matching(module: nn.Module) -> list[Family]:
    """The families that a module is of."""
    return [f for f in families().values() if f.matches(module)]


def _inside(module: nn.Module) -> tuple[str, str, str] | None:
    """The first part of a module that can be wrapped: its path, its class, and what to do."""
    for path, part in module.named_modules():
        if not path:
            continue
        fix = f"Pass that part to wrap(): module.get_submodule('{path}')"
        written = [each.name for each, _ in recognised(part)]
        if written:
            return path, type(part).__name__, f"{fix}, or all with mapping='{written[0]}'"
        if _matching(part):
            return path, type(part).__name__, fix
    return None


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
    matching = _matching(module)
    if not matching:
        reasons = (family.refuses(module) for family in families().values())
        why = next(filter(None, reasons), None)
        if why is not None:
            raise ProbeError(
                f"a {type(module).__name__} cannot be probed as a whole",
                why,
                "Map what is alike in it: wrap(module, sites={'z_out': 'path.of.{layer}:output'})",
            )
    if not matching:
        inside = _inside(module)
        raise ProbeError(
            f"a {type(module).__name__} is of no family known here",
            f"its part '{inside[0]}' is a {inside[1]}, which is"
            if inside
            else "it is neither built as one of them, nor of a class that a mapping is written for",
            inside[2]
            if inside
            else f"Map it with mapping={' | '.join(shipped())}, or a mapping of your own: "
            "wrap(module, sites={'z_out': 'path.of.{layer}:output'})",
        )
    if len(matching) > 1:
        raise ProbeError(
            f"a {type(module).__name__} is of several families",
            f"they are {', '.join(family.name for family in matching)}",
            f"Name one: family={' | '.join(family.name for family in matching)}",
        )
    return matching[0]
