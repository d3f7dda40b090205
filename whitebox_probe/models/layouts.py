"""How a mapping is written: paths with `{layer}`, sites, layouts of tensors and of weights."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from whitebox_probe._core.errors import BasisError, ShapeError, SiteError, nearest
from whitebox_probe.sites import SITES

Subspaces = str | Callable[[nn.Module, int], Tensor]

LAYER = "{layer}"
_LAYER = re.compile(r"\{(?:(\d+)\*)?layer(?:\+(\d+))?\}")
TOKENS = ("B n d", "n B d")
HEADS = ("B n (K p)", "B K n p", "B n K p", "B n (3 K p)")
MADE = "q k"
"""Of attn_weights: the module takes queries and keys (B, K, n, p) in front of its arguments."""
LAYOUTS: dict[str, tuple[str, ...]] = {
    name: HEADS if name.startswith("heads") else TOKENS for name in SITES
} | {"attn_weights": ("B K n n", MADE), "memberships": ("B K n",)}
WEIGHTS = ("(K p) d", "d (K p)", "(3 K p) d", "d (3 K p)", "K d p", "K p d")
ANY_WIDTH = ("mlp_hidden", "code")


@dataclass(frozen=True)
class Place:
    """A site of the mapping, before the layer is put in."""

    path: str
    side: Literal["input", "output"]
    layout: str


@dataclass(frozen=True)
class Weight:
    """A weight that holds U, before the layer is put in."""

    path: str
    layout: str


def at(path: str, number: int) -> str:
    """A path with a layer's number put in: `{layer}`, `{2*layer}` or `{2*layer+1}`."""

    def counted(found: re.Match[str]) -> str:
        times, plus = found.groups()
        return str(int(times or 1) * number + int(plus or 0))

    return _LAYER.sub(counted, path)


def with_layer(what: str, path: str) -> str:
    """A path, once it is seen to name a layer's number.

    Raises: SiteError.
    """
    if not _LAYER.search(path):
        raise SiteError(
            f"the path '{path}' of {what} has no {LAYER}",
            "it must name one module a layer",
            f"Put {LAYER} where the layer's number stands, as in blocks.{LAYER}.norm",
        )
    return path


def place(name: str, text: str, *, layered: bool = True) -> Place:
    """Read `PATH:side` or `PATH:side:LAYOUT`."""
    if name not in SITES:
        raise SiteError(f"'{name}' is no site", "its name is not known", nearest(name, SITES))
    if not isinstance(text, str):
        raise SiteError(
            f"site '{name}' is mapped to a {type(text).__name__}",
            "it is a text that names a module",
            f"Write 'path.of.{LAYER}.module:output'",
        )
    path, _, rest = text.partition(":")
    side, _, layout = rest.partition(":")
    if side not in ("input", "output"):
        raise SiteError(
            f"site '{name}' is mapped to '{text}'",
            "it does not say whether a module's input or output is meant",
            f"Write '{path}:input' or '{path}:output'",
        )
    allowed = LAYOUTS[name]
    layout = " ".join(layout.split()) or allowed[0]
    if layout not in allowed or ("3" in layout and name == "heads"):
        raise SiteError(
            f"site '{name}' has the layout '{layout}'",
            "it is none of those known for it",
            nearest(layout, [a for a in allowed if "3" not in a or name != "heads"]),
        )
    which = cast(Literal["input", "output"], side)
    return Place(with_layer(f"site '{name}'", path) if layered else path, which, layout)


def bases(
    given: Subspaces | Mapping[str, Subspaces] | None,
) -> dict[str, Weight | Callable[[nn.Module, int], Tensor]]:
    """Subspaces by basis name; a weight's text is read."""
    if given is None:
        return {}
    named = given if isinstance(given, Mapping) else {"native": given}
    found: dict[str, Weight | Callable[[nn.Module, int], Tensor]] = {}
    for name, each in named.items():
        if not isinstance(each, str):
            if not callable(each):
                raise BasisError(
                    f"subspaces '{name}' are a {type(each).__name__}",
                    "they are read of a weight, or made by a function",
                    f"Write 'path.of.{LAYER}.weight', or give a function of (module, layer)",
                )
            found[name] = each
            continue
        path, _, layout = each.partition(":")
        layout = " ".join(layout.split()) or WEIGHTS[0]
        fused = "3" in layout
        if layout not in WEIGHTS or (fused and name not in ("qkv:q", "qkv:k", "qkv:v")):
            raise BasisError(
                f"subspaces '{name}' have the layout '{layout}'",
                "only the bases qkv:q, qkv:k and qkv:v are thirds of a weight"
                if layout in WEIGHTS
                else "it is none of those known",
                nearest(layout, [w for w in WEIGHTS if "3" not in w or layout not in WEIGHTS]),
            )
        found[name] = Weight(with_layer(f"subspaces '{name}'", path), layout)
    return found


def parts(weight: Tensor, layout: str, basis: str, heads: int) -> Tensor:
    """U (K, d, p) of a weight in one of the `WEIGHTS` layouts.

    Raises: ShapeError for a weight that the heads do not share.
    """
    if layout in ("K d p", "K p d"):
        return weight.mT if layout == "K p d" else weight
    if layout.startswith("d"):
        weight = weight.mT
    rows = weight.shape[0] if weight.ndim == 2 else 0
    thirds = 3 if "3" in layout else 1
    if rows == 0 or rows % (heads * thirds):
        raise ShapeError(
            f"the weight of subspaces '{basis}' has shape {tuple(weight.shape)}",
            f"'{layout}' is needed, with K = {heads}",
            "Check heads=, and the layout behind the weight's path",
        )
    if thirds == 3:
        weight = weight.chunk(3)["qkv".index(basis[-1])]
    return weight.unflatten(0, (heads, -1)).mT
