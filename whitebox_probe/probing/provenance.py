"""What a network's passes compute with: seen as torch's functions are called.

A copy with permuted weights is a null only if all that its tokens are multiplied by was permuted.
Weights may lie where none are looked for: with the original that it was copied of, in buffers, in
what a part has cached. So each tensor of a pass is followed from what it was made of to what the
pass gives.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from whitebox_probe.probing.loose import loose

_PRODUCTS = frozenset(
    {
        *("linear", "bilinear", "matmul", "__matmul__", "__rmatmul__", "mm", "mv", "bmm"),
        *("addmm", "addmv", "addbmm", "baddbmm", "einsum", "tensordot", "inner"),
        *("addmm_", "addmv_", "addbmm_", "baddbmm_", "multi_dot", "chain_matmul"),
        *("conv1d", "conv2d", "conv3d"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
    }
)
"""What multiplies by a matrix."""
_REPLACING = frozenset({"copy_", "fill_", "zero_"})
"""What writes over all of a tensor."""
_FLAT = frozenset({bool, int, float, str, type(None), torch.dtype, torch.device, torch.Size})
"""Types that hold no tensor."""
_PARAMETERS, _INPUTS, _NOTHING = "", "\r", "\n"
"""What a tensor was made of, if not of one that the copy holds besides, which has a name."""

_watching: "ContextVar[Watch | None]" = ContextVar("watching", default=None)


def passed(module: nn.Module, inputs: Tensor, more: Mapping[str, Any]) -> Any:
    """Run a module; a watch that is at work follows what it computes."""
    watch = _watching.get()
    if watch is None:
        return module(inputs, **more)
    with watch.following(inputs):
        out = module(inputs, **more)
    watch.given(out)
    return out


class Watch(TorchFunctionMode):
    """Whether something is computed with a module's weights, or with those that its copy kept.

    The copy has kept a matrix by which tokens are multiplied, and into which no parameter and no
    token went; what comes of them has to be in what a pass gives. Hooks that only look may multiply
    by what they like, and inputs that have met no parameter are no tokens yet: they may be blurred.
    What is added, looked up or multiplied entry by entry is no matrix: masks, tables of positions,
    running statistics.

    Args: twin: whose passes are followed; none to look for weights of the module alone.
    Attributes:
        found: whether a weight of the module was used.
        kept: the name of the first matrix that the copy kept.
    """

    def __init__(self, module: nn.Module, twin: nn.Module | None) -> None:
        super().__init__()
        held = [*module.parameters(), *module.buffers()]
        self._places = {place for each in held if (place := _place(each))}
        own = [] if twin is None else twin.parameters()
        self._own = {place for each in own if (place := _place(each))}
        self._loose = {
            place: (name, each)  # held, so that nothing else comes to lie in its place
            for name, each in (() if twin is None else loose(twin))
            if (place := _place(each)) and place not in self._own
        }
        self._is_to_follow = twin is not None
        self._made = WeakIdKeyDictionary()  # of what; tokens have no entry
        self._stained = WeakIdKeyDictionary()  # -> the name of the matrix they were multiplied by
        self._follows = False
        self.found = False
        self.kept: str | None = None

    def __enter__(self) -> "Watch":
        self._before = _watching.set(self)
        super().__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        super().__exit__(*raised)
        _watching.reset(self._before)

    @contextmanager
    def following(self, inputs: Tensor) -> Iterator[None]:
        """A pass over inputs: all else that is made inside, and of no tensor, is no token."""
        self._follows = self._is_to_follow and self.kept is None
        self._made[inputs] = _INPUTS
        try:
            yield
        finally:
            self._follows = False

    def given(self, out: Any) -> None:
        """What a pass gave."""
        leaves = tree_leaves(out)
        leaves += tree_leaves([vars(each) for each in leaves if hasattr(each, "__dict__")])
        stains = (self._stained.get(each) for each in leaves if isinstance(each, Tensor))
        self.kept = self.kept or next((stain for stain in stains if stain), None)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call it; note whether a weight is among its arguments."""
        kwargs = kwargs or {}
        if self.found or not (self._places or self._follows):
            return function(*args, **kwargs)
        tensors = [*_tensors((*args, *kwargs.values()))]
        self.found = any(_place(each) in self._places for each in tensors)
        out = function(*args, **kwargs)
        if self._follows:
            self._follow(str(getattr(function, "__name__", "")), tensors, kwargs.get("out"), out)
        return out

    def _follow(self, name: str, tensors: list[Tensor], into: Any, out: Any) -> None:
        """Note of what a function's tensors were made, and whether tokens met a matrix."""
        inside = name.endswith("_") and not name.endswith("__")
        target = into if isinstance(into, Tensor) else None
        if tensors and (inside or name == "__setitem__"):
            target = tensors[0]
        replaced = target is into or name in _REPLACING
        used = [each for each in tensors if not (replaced and each is target)]
        made = [self._of(each) for each in used]
        stain = next((found for each in used if (found := self._stained.get(each))), None)
        if stain is None and name in _PRODUCTS and None in made:
            named = zip(made, used, strict=True)
            stain = next((of for of, each in named if _is_name(of) and _is_matrix(each)), None)
        of = _together(made)
        if target is not None:
            self._loose.pop(_place(target), None)
        wholes = [] if target is None else [target, target._base]
        for each in (*_tensors([out]), *wholes):
            if each is not None:
                self._note(each, of, stain)

    def _note(self, tensor: Tensor, of: str | None, stain: str | None) -> None:
        if of is None:
            self._made.pop(tensor, None)
        else:
            self._made[tensor] = of
        if stain is not None:
            self._stained[tensor] = stain

    def _of(self, tensor: Tensor) -> str | None:
        """Of what a tensor was made; None where tokens may be in it."""
        place = _place(tensor)
        if place in self._own:
            return _PARAMETERS
        if place in self._loose:
            return self._loose[place][0]
        found: str | None = self._made.get(tensor)
        return found


def _together(made: Iterable[str | None]) -> str | None:
    """Of what something was made, that was made of several."""
    kinds = {*made}
    if None in kinds or {_PARAMETERS, _INPUTS} <= kinds:
        return None
    known = sorted(kind for kind in kinds if kind is not None)
    ranked = (*(kind for kind in (_PARAMETERS, _INPUTS) if kind in kinds), *filter(_is_name, known))
    return next(iter(ranked), _NOTHING)


def _is_name(of: str | None) -> bool:
    return of not in (None, _PARAMETERS, _INPUTS, _NOTHING)


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Those among arguments: nearly all are tensors and numbers, and a walk of all takes long."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif type(value) not in _FLAT:
            yield from (each for each in tree_leaves(value) if isinstance(each, Tensor))


def _is_matrix(tensor: Tensor) -> bool:
    """Whether its numbers have two axes; a vector that is repeated has one."""
    if tensor.layout != torch.strided:
        return tensor.ndim > 1
    axes = zip(tensor.shape, tensor.stride(), strict=True)
    return sum(size > 1 and step != 0 for size, step in axes) > 1


def _place(tensor: Tensor) -> int:
    """Where a tensor's numbers lie; 0 where that cannot be told."""
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):
        return 0
