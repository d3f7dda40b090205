"""Any torch module, mapped by the paths of its own modules: what `wrap(module, sites=...)` makes.

A site is `PATH:input` or `PATH:output`, with `{layer}` in the path, and perhaps `:LAYOUT`:

    B n d          tokens, (batch, tokens, features): what is taken without a layout
    n B d          tokens first, as torch's own transformers have it without batch_first
    B n (K p)      heads side by side, the layout of a projection: taken for heads without a layout
    B n (3 K p)    queries, keys and values side by side, for heads_q, heads_k and heads_v
    B K n p, B n K p, and B K n n (attn_weights), B K n (memberships)
    q k            of attn_weights, at the input of a module whose first arguments are queries and
                   keys (B, K, n, p): their softmax is taken, with an `attn_bias` it is given

`{layer}` may be a part of a name, as in `encoder_layer_{layer}`; `{2*layer}` and `{2*layer+1}`
stand where the two steps of a layer are numbered on.

A weight is a `PATH`, and perhaps `:LAYOUT`, of the same letters: `(K p) d` (a Linear; taken without
a layout), `d (K p)`, `(3 K p) d`, `d (3 K p)` (for the bases qkv:q, qkv:k and qkv:v), `K d p`,
`K p d`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from whitebox_probe._core.arguments import (
    Check,
    expect,
    mapping,
    optional,
    plain,
    text,
    truth,
    whole,
)
from whitebox_probe._core.errors import (
    BasisError,
    DataError,
    InternalError,
    ProbeError,
    ShapeError,
    SiteError,
)
from whitebox_probe._core.gate import MEND_MODEL, may_be_of_input, named
from whitebox_probe._core.memory import is_lack
from whitebox_probe._core.process import callers_device
from whitebox_probe.models.anatomy import Anatomy, Dims, Layer, Tap
from whitebox_probe.models.declared import Operator, Operators
from whitebox_probe.models.guest import guest
from whitebox_probe.models.hooks import attach_taps
from whitebox_probe.models.layouts import (
    ANY_WIDTH,
    LAYOUTS,
    MADE,
    TOKENS,
    Place,
    Subspaces,
    Weight,
    at,
    bases,
    parts,
    place,
    with_layer,
)
from whitebox_probe.models.maps import MASKS, softmax
from whitebox_probe.models.paths import nearest_paths, tensor_at
from whitebox_probe.sites import SITES

_MOST_LAYERS = 10_000
_MOST = 1 << 20
"""Tokens, and sizes, at most: more is a slip of the hand."""
_SIZE = optional(whole(1, most=_MOST))


def _a_grid(value: Any) -> str:
    fits = isinstance(value, Sequence | np.ndarray) and len(value) == 2
    fits = fits and all(whole(1, most=_MOST)(plain(each)) == "" for each in value)
    return "" if fits else "Use two whole numbers from 1 on, such as (14, 14)"


def _an_example(value: Any) -> str:
    return "" if isinstance(value, Tensor) else "Use a tensor that the module takes"


_STATED: Mapping[str, tuple[Check, str]] = {
    "sites": (mapping, "it says where each site is"),
    "layers": (optional(whole(1, most=_MOST_LAYERS)), "so many layers are measured"),
    "first_layer": (
        optional(whole(0, most=_MOST_LAYERS)),
        "it stands for {layer} in the first layer",
    ),
    "heads": (_SIZE, "it is the number of heads, K"),
    "dim_head": (_SIZE, "it is the width of a head, p"),
    "dim": (_SIZE, "it is the width of the tokens, d"),
    "prenorm": (optional(text), "it is the path of the norm in front of the attention"),
    "prefix_tokens": (optional(whole(0, most=_MOST)), "so many tokens stand before the patches"),
    "class_token": (optional(whole(0, most=_MOST)), "it is the place of a token, counted from 0"),
    "grid": (optional(_a_grid), "it is the rows and columns of the patches"),
    "example": (optional(_an_example), "the mapping is tried on it"),
    "causal": (optional(truth), "a token's attention sees those before it alone, or not"),
}


def stated(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a mapping, of a call or a file alike, once they are seen to be of their kinds.

    Raises: SettingError.
    """
    found = {key: expect(key, each, *_STATED[key]) for key, each in given.items() if key in _STATED}
    if found.get("grid") is not None:
        found["grid"] = tuple(map(plain, found["grid"]))
    return {**given, **found}


class MappedAnatomy(Anatomy):
    """The mapping of one module by its paths; `wrap` describes the arguments.

    It is checked against the module when it is made: every path in every layer, the widths, and
    with `example` one forward pass, in which each site must pass a tensor of its shape once.
    """

    def __init__(
        self,
        module: nn.Module,
        sites: Mapping[str, str],
        *,
        layers: int | None = None,
        first_layer: int = 0,
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
        causal: bool = False,
    ) -> None:
        super().__init__("custom")
        stated(
            {
                **{"sites": sites, "layers": layers, "first_layer": first_layer, "heads": heads},
                **{"dim_head": dim_head, "dim": dim, "prenorm": prenorm, "grid": grid},
                **{"prefix_tokens": prefix_tokens, "class_token": class_token},
                **{"example": example, "causal": causal},
            }
        )
        self._causal = causal
        self._operators = Operators(operators, self._at)
        self._first = first_layer
        self.says_prefix = prefix_tokens is not None or class_token is not None
        self._prefix = prefix_tokens or 0
        self._class = 0 if class_token is None and prefix_tokens == 1 else class_token
        self._grid = grid
        self._expect_place(None)
        self._places = {name: place(name, where) for name, where in sites.items()}
        if not self._places:
            raise SiteError("sites is empty", "there is nothing to record", "Map z_out at least")
        self._bases = bases(subspaces)
        self._prenorm = None if prenorm is None else with_layer("prenorm", prenorm)
        self.default_basis = next(iter(self._bases), "native")
        unmapped = "the mapping given to wrap() does not have it"
        self.absent = {name: unmapped for name in SITES if name not in self._places}
        count = self._count(module, layers)
        self._dims = Dims(count, dim or 0, heads or 0, dim_head or 0, None)
        self._settle_heads(module, heads)
        if example is not None:
            self.sample_axes = example.ndim - 1
            self._try(module, example)
            self._expect_place(self._dims.tokens)
        self._settle_dim()
        for layer in range(1, count + 1):
            for basis in self._bases:
                self._subspaces(module, layer, basis)
            self._operators.of(module, layer, self._dims.dim)

    def dims(self, module: nn.Module) -> Dims:
        """The sizes that were given or found."""
        return self._dims

    def layer(self, module: nn.Module, number: int) -> Layer:
        """The sites of the mapping, and what stands at its other paths."""
        norm = module.get_submodule(self._at(self._prenorm, number)) if self._prenorm else None
        return Layer(
            number,
            self._taps(number),
            norm,
            partial(self._subspaces, module, number),
            operators=self._operators.of(module, number, self._dims.dim),
            causal=self._causal,
        )

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """The names under which subspaces were given."""
        return tuple(self._bases)

    def official_site(self, basis: str) -> str | None:
        """The mapped site of the heads' tokens: `heads`, or `heads_k` for the basis qkv:k."""
        site = f"heads_{basis[-1]}" if basis.startswith("qkv:") else "heads"
        return site if site in self._places and basis in ("native", "qkv:" + site[-1]) else None

    def prefix_tokens(self, module: nn.Module) -> int:
        """As given."""
        return self._prefix

    def class_index(self, module: nn.Module) -> int | None:
        """As given; the one token before the patches, where there is one and nothing is given."""
        return self._class

    def grid(self, module: nn.Module, inputs: Tensor) -> tuple[int, int] | None:
        """As given."""
        return self._grid

    def as_it_is(self, site: str) -> bool:
        """Whether a module's own tensor is what the site holds, (B, n, d)."""
        return site in self._places and self._places[site].layout == TOKENS[0]

    def stated(self) -> Mapping[str, Any]:
        """What the measures depend on besides paths and sizes."""
        grid = None if self._grid is None else list(self._grid)
        return {"grid": grid, "causal": self._causal, "prenorm": self._prenorm}

    def _taps(self, layer: int) -> dict[str, Tap]:
        taps = {}
        for name in self._places:
            here = self._place(name, layer)
            path = self._at(here.path, layer)
            if here.layout == MADE:
                taps[name] = Tap(path, here.side, self._softmax, MASKS, beside=(1,))
            else:
                taps[name] = Tap(path, here.side, partial(self._arranged, name))
        return taps

    def _place(self, name: str, layer: int) -> Place:
        """Where a site is in a layer, before its number is put in."""
        return self._places[name]

    def _softmax(self, q: Tensor, k: Tensor, **given: Any) -> Tensor:
        """Softmax attention (B, K, n, n) of queries and keys (B, K, n, p)."""
        return softmax(q, k, causal=self._causal, **given)

    def _subspaces(self, module: nn.Module, layer: int, basis: str) -> Tensor:
        """U (K, d, p): what the function gives, or the weight's parts."""
        given, s = self._bases[basis], self._dims
        if not isinstance(given, Weight):
            U = _called(basis, given, module, layer)
        else:
            U = parts(self._weight(module, given, layer), given.layout, basis, s.heads or 1)
        wanted = (s.heads, s.dim, s.dim_head)  # 0: not known yet
        pairs = zip(wanted, U.shape, strict=False)
        if U.ndim != 3 or any(size not in (0, found) for size, found in pairs):
            told = ", ".join(str(size) if size else "any" for size in wanted)
            raise ShapeError(
                f"the subspaces '{basis}' of layer {layer} have shape {tuple(U.shape)}",
                f"(K, d, p) = ({told}) is needed",
                "Check heads=, dim_head= and dim=, and the weight's layout",
            )
        return U

    def _at(self, path: str, layer: int) -> str:
        return at(path, self._first + layer - 1)

    def _paths(self) -> Iterator[tuple[str, str, bool]]:
        """(what, path, whether it is a weight) of everything that is mapped."""
        for name, mapped in self._places.items():
            yield f"site '{name}'", mapped.path, False
        if self._prenorm is not None:
            yield "prenorm", self._prenorm, False
        for name, given in self._bases.items():
            if isinstance(given, Weight):
                yield f"subspaces '{name}'", given.path, True

    def _count(self, module: nn.Module, asked: int | None) -> int:
        """The number of layers, for which every path must be there."""
        modules = dict(module.named_modules())
        found: dict[str, int] = {}
        for what, path, weight in self._paths():
            number = 0
            while number < _MOST_LAYERS:
                here = self._at(path, number + 1)
                there = tensor_at(module, here) is not None if weight else here in modules
                if not there:
                    break
                number += 1
            if number == 0 or number < (asked or 0):
                here = self._at(path, number + 1)
                known = [n for n, _ in module.named_parameters()] if weight else [*modules][1:]
                raise SiteError(
                    f"{what} names '{here}', which is not in the module",
                    f"a {type(module).__name__} has no such {'tensor' if weight else 'module'}"
                    + (f", and {asked} layers are asked for" if number else ""),
                    nearest_paths(here, known),
                )
            found[what] = number
        numbers = sorted(set(found.values()))
        if asked is None and len(numbers) > 1:
            told = ", ".join(f"{number} of {what}" for what, number in found.items())
            raise SiteError(
                "the paths do not agree on the number of layers",
                f"there are {told}",
                f"Say which with layers={numbers[0]}, or mend the paths",
            )
        return numbers[0] if asked is None else asked

    def _settle_heads(self, module: nn.Module, heads: int | None) -> None:
        """Take from the first layer's subspaces what was not given of K, d and p."""
        for basis, given in self._bases.items():
            if isinstance(given, Weight) and "K p" in given.layout and heads is None:
                raise ProbeError(
                    f"the number of heads of subspaces '{basis}' is not known",
                    f"the layout '{given.layout}' does not tell K from p",
                    "Pass heads=",
                )
            K, d, p = self._subspaces(module, 1, basis).shape
            self._dims = Dims(self._dims.layers, d, K, p, None)

    def _settle_dim(self) -> None:
        s = self._dims
        if not s.dim:
            raise ShapeError(
                "the width d of the tokens is not known",
                "no weight of subspaces says it",
                "Pass dim=, or example= (an input to try the mapping on)",
            )
        heads = s.heads or 1
        if not s.dim_head and s.dim % heads:
            raise ShapeError(
                f"{heads} heads do not share a width of {s.dim}",
                "it is no multiple of their number",
                "Pass dim_head=",
            )
        self._dims = Dims(s.layers, s.dim, heads, s.dim_head or s.dim // heads, s.tokens)

    def _expect_place(self, count: int | None) -> None:
        """The class token is one of the tokens, whose number is known once an example has run."""
        if count is not None and self._prefix >= count:
            raise SiteError(
                f"{self._prefix} tokens stand before the patches (prefix_tokens)",
                f"the example has {count}, of which one at least is a patch",
                "Give the number of class tokens and registers",
            )
        at = self._class
        if at is not None and not 0 <= at < (at + 1 if count is None else count):
            raise SiteError(
                f"token {at} is not there (class_token={at})",
                "places are counted from 0" + (f", and there are {count}" if count else ""),
                "Give the place of the class token among all tokens",
            )

    def _weight(self, module: nn.Module, weight: Weight, layer: int) -> Tensor:
        found = tensor_at(module, self._at(weight.path, layer))
        assert found is not None, "paths are checked when the mapping is made"
        return found

    def _try(self, module: nn.Module, example: Tensor) -> None:
        """One forward pass: each site must pass one tensor of its shape in every layer."""
        passed: dict[tuple[str, int], int] = {}

        def count(name: str, layer: int, tensor: Tensor) -> None:
            passed[name, layer] = passed.get((name, layer), 0) + 1
            s, axis = self._dims, SITES[name].token_axis
            prefix_only = SITES[name].per_head or name in ANY_WIDTH
            d = s.dim or (0 if prefix_only else tensor.shape[-1])
            self._dims = Dims(s.layers, d, s.heads, s.dim_head, tensor.shape[axis])

        layers = range(1, self._dims.layers + 1)
        taps = [(name, n, tap) for n in layers for name, tap in self._taps(n).items()]
        with guest(module), attach_taps(module, taps, count), callers_device():
            try:
                module(example)
            except (ProbeError, InternalError):
                raise
            except Exception as error:  # whatever the module's own code raises
                raise DataError(
                    f"the example of shape {tuple(example.shape)} does not run",
                    "there is too little memory for it" if is_lack(error) else named(error),
                    _remedy(error),
                ) from error
        for name, mapped in self._places.items():
            for layer in layers:
                times = passed.get((name, layer), 0)
                if times != 1:
                    raise SiteError(
                        f"site '{name}' of layer {layer} passed {times} times",
                        f"module '{self._at(mapped.path, layer)}' was called so often",
                        "Read it from a module that every forward pass calls once",
                    )

    def _arranged(self, site: str, tensor: Tensor) -> Tensor:
        """A site's tensor in the shape that its name promises."""
        layout, s = self._places[site].layout, self._dims
        heads = s.heads or 1
        p = s.dim_head or (s.dim // heads if s.dim else 0)
        wanted = {"K": heads, "d": 0 if site in ANY_WIDTH else s.dim, "p": p}
        wanted |= {"(K p)": heads * p, "(3 K p)": 3 * heads * p}
        letters = layout.replace("3 K p", "3_K_p").replace("(K p", "(K_p").split()
        fits = tensor.ndim == len(letters) and all(
            wanted.get(letter.replace("_", " "), 0) in (0, size)
            for letter, size in zip(letters, tensor.shape, strict=True)
        )
        if not fits:
            others = ", ".join(f"'{other}'" for other in LAYOUTS[site] if other != layout)
            known = ", ".join(f"{k} = {v}" for k, v in wanted.items() if v and len(k) == 1)
            mapped = self._places[site]
            raise SiteError(
                f"site '{site}' has shape {tuple(tensor.shape)} at '{mapped.path}:{mapped.side}'",
                f"'{layout}' is needed" + (f" with {known}" if known else ""),
                f"Name another module, or its layout ({others})" if others else "Name another one",
            )
        if layout == "B n (3 K p)":
            tensor = tensor.chunk(3, dim=-1)["qkv".index(site[-1])]
        if layout in ("B n (K p)", "B n (3 K p)"):
            return tensor.unflatten(-1, (heads, -1)).transpose(1, 2)
        if layout == "B n K p":
            return tensor.transpose(1, 2)
        return tensor.transpose(0, 1) if layout == "n B d" else tensor


def _remedy(error: Exception) -> str:
    """What to do about an example that does not run."""
    if is_lack(error):
        return "Pass a smaller input"
    return "Pass an input that the module takes" if may_be_of_input(error) else MEND_MODEL


def _called(
    basis: str, given: Callable[[nn.Module, int], Tensor], module: nn.Module, layer: int
) -> Tensor:
    """What a function gives for the subspaces of a layer.

    Raises: BasisError where it fails, or gives no tensor.
    """
    what = f"the function of the subspaces '{basis}' failed at layer {layer}"
    fix = "Give one of (module, layer) whose result is U (K, d, p)"
    try:
        U = given(module, layer)
    except Exception as error:
        lines = str(error).splitlines() or [""]
        raise BasisError(what, f"{type(error).__name__}: {lines[0]}", fix) from error
    if not isinstance(U, Tensor):
        raise BasisError(what, f"it gave a {type(U).__name__}", fix)
    return U
