"""How attention modules of transformers project, and the attention that they make of it.

A row of `ATTENTIONS` names the projections; nothing here is of one model. Whether a row holds for a
module is tried when it is wrapped (`models/verify.py`): A V must be what the output map is given.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from whitebox_probe._core.errors import SiteError
from whitebox_probe.models.anatomy import Tap
from whitebox_probe.models.families._qkv import QKV
from whitebox_probe.models.offloaded import device_of, hook_of
from whitebox_probe.models.weights import affine, devices_of, shape_of

Cut = Literal["sections", "grouped", "quarters"]


@dataclass(frozen=True)
class Row:
    """Where an attention keeps its projections, as names inside it.

    Attributes:
        projections: of q, k and v, or the one that holds all three.
        out: names that the output map has; empty where it is outside, and the module gives A V.
        cut: how a fused projection is cut. `sections`: all q, all k, all v. `grouped`: for each
            head of keys its queries, its key, its value. `quarters`: CodeGen's, four parts of
            q, v and k.
    """

    projections: tuple[str, ...]
    out: tuple[str, ...] = ()
    cut: Cut = "sections"


ATTENTIONS = (
    Row(("q_proj", "k_proj", "v_proj"), ("o_proj", "out_proj", "dense", "Wo")),
    Row(("query", "key", "value"), ("dense", "out_proj")),
    Row(("query", "key", "value")),
    Row(("query_proj", "key_proj", "value_proj")),
    Row(("q_lin", "k_lin", "v_lin"), ("out_lin",)),
    Row(("q", "k", "v"), ("o",)),
    Row(("query_key_value",), ("dense",), "grouped"),
    Row(("c_attn",), ("c_proj",)),
    Row(("qkv_proj",), ("o_proj",)),
    Row(("qkv_proj",), ("out_proj",), "quarters"),
    Row(("Wqkv",), ("Wo", "out_proj")),
)
_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
_WIDTHS = ("head_dim", "attention_head_size", "key_value_proj_dim", "head_size", "dim_per_head")
_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks"),
    *("_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs"),
)
_CACHES = ("cache", "past_key_values", "past_key_value", "layer_past")


@dataclass(frozen=True)
class Projected:
    """An attention's projections: their paths in the block, its output map, how heads are cut.

    Attributes:
        path: the attention in its block; projections, out: paths in the block, too. `out` is empty
            where the module itself gives A V.
    """

    path: str
    projections: tuple[str, ...]
    out: str
    cut: Cut
    dim: int
    heads: int
    dim_head: int
    groups: int

    @property
    def context(self) -> tuple[str, Literal["input", "output"]]:
        """Where A V passes."""
        return (self.out, "input") if self.out else (self.path, "output")

    def third(self, which: int, projected: Tensor, *, axis: int = -1) -> Tensor:
        """The features of the queries, keys or values (0, 1 or 2) in those of the projections.

        Shapes: (..., K'*p), or of a fused projection (..., (K+2G)*p) -> (..., K'*p) along `axis`.
        """
        if len(self.projections) == 3:
            return projected
        x = projected.movedim(axis, -1)
        K, G, p = self.heads, self.groups, self.dim_head
        if self.cut == "sections":
            x = x.split((K * p, G * p, G * p), dim=-1)[which]
        elif self.cut == "grouped":
            x = x.unflatten(-1, (G, K // G + 2, p))
            x = x.split((K // G, 1, 1), dim=-2)[which].flatten(-3)
        else:
            place = (0, 2, 1)[which]
            x = x.unflatten(-1, (4, 3, K // 4 * p))[..., place, :].flatten(-2)
        return x.movedim(-1, axis)

    def split(self, which: int, projected: Tensor) -> Tensor:
        """Heads' tokens in a projection's output: (B, n, ...) -> (B, K', n, p)."""
        return self.third(which, projected).unflatten(-1, (-1, self.dim_head)).transpose(1, 2)

    def parameters(self, block: nn.Module, which: int) -> tuple[Tensor, Tensor | None]:
        """Weight (K'*p, d) and bias (K'*p) of the queries, keys or values."""
        path = self.projections[0 if len(self.projections) == 1 else which]
        weight, bias = affine(block.get_submodule(path))
        here = partial(self.third, which, axis=0)
        return here(weight), None if bias is None else here(bias)

    def taps(self, at: Callable[[str], str]) -> dict[str, Tap]:
        """`heads_q`, `heads_k` and `heads_v` at the projections' outputs."""
        places = self.projections * (3 if len(self.projections) == 1 else 1)
        return {f"heads_{b}": Tap(at(places[i]), "output", partial(self.split, i)) for i, b in QKV}


def projected(block: nn.Module, path: str, config: Any) -> Projected:
    """The projections of a block's attention: at the path, or in the module inside it.

    Raises: SiteError naming what it has in their place, or sizes that do not fit.
    """
    where, row, out = _row(block, path)
    attention: Any = block.get_submodule(where)
    paths = tuple(f"{where}.{name}" for name in row.projections)
    heads = _size(attention, config, _HEADS)
    if heads is None:
        raise SiteError(
            f"the attention of {type(block).__name__} is not understood",
            "neither it nor its configuration says how many heads it has",
            "Map its modules with wrap(module, sites=...)",
        )
    rows, dim = shape_of(block.get_submodule(paths[0]))
    width = _size(attention, config, _WIDTHS)
    if width is None:
        width = rows // heads if len(paths) == 3 else dim // heads
    kept = (
        rows if len(paths) == 1 else heads * width + 2 * shape_of(block.get_submodule(paths[1]))[0]
    )
    groups, left = divmod(kept - heads * width, 2 * width)
    fits = (len(paths) == 1 or rows == heads * width) and not left and groups >= 1
    if not fits or heads % groups or (row.cut == "quarters" and heads % 4):
        raise SiteError(
            f"'{paths[0]}' of {type(block).__name__} is not understood",
            f"it maps {dim} to {rows}, with {heads} heads of {width}",
            "Use a model whose heads each project the whole stream",
        )
    return Projected(
        where, paths, f"{where}.{out}" if out else "", row.cut, dim, heads, width, groups
    )


def _row(block: nn.Module, path: str) -> tuple[str, Row, str]:
    """Where the attention stands, its row, the name of its output map."""
    inside = block.get_submodule(path)
    deeper = [f"{path}.{name}" for name, part in inside.named_children() if any(part.children())]
    for where in (path, *deeper):
        names = {name for name, _ in block.get_submodule(where).named_children()}
        for row in ATTENTIONS:
            out = next((name for name in row.out if name in names), "")
            if names >= set(row.projections) and bool(out) == bool(row.out):
                return where, row, out
    linears = [n for n, part in inside.named_modules() if n and not any(part.children())]
    raise SiteError(
        f"the '{path}' of {type(block).__name__} is not understood",
        "it has no q_proj, k_proj and v_proj, nor such under other known names, only "
        + ", ".join(linears[:8]),
        "Use a model whose heads are linear projections of the tokens, or map its modules with "
        "wrap(module, sites=...)",
    )


def _size(attention: Any, config: Any, names: tuple[str, ...]) -> int | None:
    for owner in (attention, config):
        for name in names:
            size = getattr(owner, name, None)
            if isinstance(size, int) and not isinstance(size, bool) and size > 0:
                return size
    return None


class Weights(Tap):
    """The softmax that an attention makes, from the module's own code.

    The call is made again on a copy of the module that shares its weights and has no hooks, and
    whose attention is the written-out one of the library (`eager`): masks, rotations, norms of
    queries and keys, caps and windows are those of the model. The module is not touched.
    """

    def __init__(self, path: str, attention: nn.Module, *, causal: bool) -> None:
        super().__init__(path, "input")
        object.__setattr__(self, "_attention", attention)
        object.__setattr__(self, "_causal", causal)

    def read(self, args: Any, last: Any) -> Tensor:
        """The weights (B, K, n, n) of the call that these arguments make.

        Raises: SiteError where the module's code does not give them.
        """
        attention: nn.Module = self._attention  # type: ignore[attr-defined]
        if "_hf_hook" in vars(attention):
            here = (devices_of(attention) or [device_of(attention)])[0]
            args, last = _moved(tuple(args), here), _moved(dict(last), here)
        with torch.no_grad():
            again = _copy(attention)
            x = next(t for t in (*args, *last.values()) if isinstance(t, Tensor))
            given = inspect.signature(again.forward).bind(*args, **last)
            for name, value in self._arguments(given.arguments, x).items():
                given.arguments[name] = value
            found = again.forward(*given.args, **given.kwargs)
        several = isinstance(found, tuple | list)
        maps = [t for t in found[1:] if isinstance(t, Tensor) and t.ndim == 4] if several else []
        n = x.shape[1]
        if not maps or maps[-1].shape[-2:] != (n, n):
            raise SiteError(
                f"the attention of '{self.module}' is not to be had",
                "its own code gives no weights of this call",
                "Load the model with attn_implementation='eager', and give whole windows",
            )
        return maps[-1]

    def _arguments(self, given: Mapping[str, Any], x: Tensor) -> dict[str, Any]:
        """What is given otherwise to the written-out attention: no cache, and its own mask.

        The fused attention of torch takes masks of true and false, and none for a causal one.
        """
        attention: Any = self._attention  # type: ignore[attr-defined]
        names = inspect.signature(attention.forward).parameters
        more = dict(given.get("kwargs", {}))
        changed: dict[str, Any] = {name: None for name in _CACHES if name in given}
        changed |= {"output_attentions": True} if "output_attentions" in names else {}
        more |= {name: None for name in _CACHES if name in more}
        fused = getattr(getattr(attention, "config", None), "_attn_implementation", "") == "sdpa"
        if fused:
            if given.get("alibi") is not None:
                raise SiteError(
                    f"the attention of '{self.module}' is not to be had",
                    "its fused form folds the bias of positions into the mask",
                    "Load the model with attn_implementation='eager'",
                )
            own = "mask" if "mask" in names and "attention_mask" not in names else "attention_mask"
            mask = self._mask(given.get(own, more.get(own)), x)
            if own in names:
                changed[own] = mask
            elif mask is not None:  # not all that take further arguments know of one
                more[own] = mask
        return changed | ({"kwargs": more} if more else {})

    def _mask(self, mask: Tensor | None, x: Tensor) -> Tensor | None:
        """A mask to add to the scores, (B, 1, n, n), from that of the fused attention."""
        if mask is None and self._causal:  # type: ignore[attr-defined]
            n = x.shape[1]
            mask = torch.ones(n, n, dtype=torch.bool, device=x.device).tril()[None, None]
        if mask is None or mask.dtype != torch.bool:
            return mask
        least = torch.finfo(x.dtype).min
        return torch.zeros(mask.shape, dtype=x.dtype, device=x.device).masked_fill(~mask, least)


def _is_methods(function: Any, part: Any) -> bool:
    return getattr(function, "__self__", None) is part


def _moved(value: Any, device: torch.device) -> Any:
    """Tensors at a device, in tuples and dicts too."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple | list):
        return type(value)(_moved(each, device) for each in value)
    if isinstance(value, dict):
        return {key: _moved(each, device) for key, each in value.items()}
    return value


def _copy(part: Any) -> Any:
    """A module that shares its tensors, and has no hooks; its attention is written out.

    It is no `copy.copy`, which modules with parametrisations refuse.
    Raises: SiteError where the forward was replaced by one that is bound to the module.
    """
    kind = type(part)
    if kind.__name__.endswith("SdpaSelfAttention"):  # its fused form is a class of its own
        kind = kind.__mro__[1]
    twin = object.__new__(kind)
    held = twin.__dict__
    held.update(vars(part))
    for name in _HOOKS:
        held[name] = type(held[name])()
    replaced = held.get("forward")
    if hook_of(part) is not None and not any(part.children()):
        return twin  # its forward brings its weights, and calls no hooks but accelerate's
    before = held.get("_old_forward")  # as accelerate keeps it, whose hooks move what goes in
    if _is_methods(before, part) and "_hf_hook" in held:
        held["forward"] = before.__func__.__get__(twin)
    elif replaced is not None and any(part.children()):
        if not _is_methods(replaced, part):
            raise SiteError(
                f"the attention of a {type(part).__name__} is not to be had",
                "its forward was replaced, and runs the module's own parts",
                "Remove what replaced it, or record other sites",
            )
        held["forward"] = replaced.__func__.__get__(twin)
    held["_modules"] = {
        name: None if child is None else _copy(child) for name, child in part._modules.items()
    }
    config = held.get("config")
    if hasattr(config, "_attn_implementation_internal"):
        held["config"] = config = copy.copy(config)
        config._attn_implementation_internal = "eager"
    return twin
