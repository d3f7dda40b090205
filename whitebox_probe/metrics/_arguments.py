"""The arguments of a metric's `update`, checked and made into what a measure is given."""

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

import numpy as np
import torch
from torch import Tensor

from whitebox_probe._core.arrays import native
from whitebox_probe._core.checks import expect_basis, expect_shape
from whitebox_probe._core.errors import ProbeError, ShapeError
from whitebox_probe.metrics._parameters import expect_parameter
from whitebox_probe.metrics.measure import DatasetMeasure, SampleMeasure
from whitebox_probe.metrics.tokens import HEADS, LayerTokens, Products
from whitebox_probe.sites import SITES

P = ParamSpec("P")
T = TypeVar("T")
_HEADS = "(B, K, n, p)"
_OPERATORS = {"D": "d h", "lam": "", "eta": ""}
_NUMBERED = ("labels", "ids")  # tensors of whole numbers, which `whole_numbers` reads


def checked(function: Callable[P, T]) -> Callable[P, T]:
    """The same function, which reads its arguments first: by their annotations and names.

    Tensors are held to their kind of numbers (shapes are the function's own to say), all else is
    read by `_parameters`. No tensor is copied, and a call costs some microseconds more.

    Raises: ShapeError for what is no tensor of real fractions; SettingError.
    """
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    named = [each for each in parameters if each.kind is not each.VAR_KEYWORD]
    looked = {each.name: _reader_of(each.annotation) for each in named}
    order = tuple(looked.items())

    @functools.wraps(function)
    def held(*args: P.args, **kwargs: P.kwargs) -> T:
        read: Any = [each(name, value) for (name, each), value in zip(order, args, strict=False)]
        read += args[len(read) :]
        named: Any = {n: looked.get(n, _as_it_is)(n, value) for n, value in kwargs.items()}
        return function(*read, **named)

    return held


def _as_it_is(name: str, value: Any) -> Any:
    return value


def _reader_of(annotation: Any) -> Callable[[str, Any], Any]:
    several = isinstance(annotation, types.UnionType) or get_origin(annotation) is Union
    kinds = [*get_args(annotation)] if several else [annotation]
    optional = type(None) in kinds
    kinds = [kind for kind in kinds if kind is not type(None)]
    if len(kinds) != 1:
        return _as_it_is
    (kind,) = kinds
    kind = Callable if get_origin(kind) is Callable else kind

    def read(name: str, value: Any) -> Any:
        if value is None and optional:
            return None
        if kind is not Tensor:
            return expect_parameter(name, value, kind)
        if name not in _NUMBERED:
            expect_tensor(name, value)
        return value

    return read


def expect_tensor(name: str, value: Any) -> None:
    """Check that a value is a tensor of real fractions, which can be computed with.

    Raises: ShapeError.
    """
    if isinstance(value, Tensor):
        plain = value.layout == torch.strided and not value.is_nested and not value.is_meta
        if plain and value.is_floating_point():
            return
        raise ShapeError(*_unfit(name, value))
    listed = isinstance(value, np.ndarray | list | tuple)
    fractions = getattr(getattr(value, "dtype", None), "kind", "") == "f"
    as_float = "" if fractions else ", dtype=torch.float32"
    raise ShapeError(
        f"{name} is a {type(value).__name__}",
        "a tensor of floating-point numbers is needed",
        f"Pass torch.as_tensor({name}{as_float})" if listed else f"Pass {name} as a tensor",
    )


def _unfit(name: str, value: Tensor) -> tuple[str, str, str]:
    """What keeps a tensor from being measured, why, and what to do."""
    if value.is_meta:
        return f"{name} is on meta", "it has a shape, and no numbers", f"Load {name} before"
    if value.is_nested:
        why = "its samples are of different lengths"
        return f"{name} is nested", why, f"Pass samples of one length at a time: {name}.unbind()"
    if value.layout != torch.strided:
        return f"{name} is sparse", "all its numbers are needed", f"Pass {name}.to_dense()"
    told = f"{name} is of {str(value.dtype).removeprefix('torch.')}"
    if value.is_complex():
        return told, "measures are of real numbers", f"Pass its real part, {name}.real"
    return told, "measures are of floating-point numbers", f"Pass {name}.float()"


def whole_numbers(given: Any, samples: int, *, name: str) -> Tensor:
    """One whole number a sample, of a tensor, an array or a list: (B,), int64.

    Fractions are refused, as by `probe`: cut to whole numbers they would be other classes.

    Raises: ShapeError for another shape or kind of number, or one of more than 63 bits.
    """
    found = _as_tensor(given, name)
    if found.shape != (samples,):
        raise ShapeError(
            f"{name} has shape {tuple(found.shape)}",
            f"there are {samples} samples",
            f"Pass {name} as ({samples},)",
        )
    if found.is_floating_point() or found.is_complex():
        raise ShapeError(
            f"{name} are of {str(found.dtype).removeprefix('torch.')}",
            "they are whole numbers, and none is cut to one",
            f"Number them from 0; those that are whole already: torch.as_tensor({name}).long()",
        )
    whole = found.to(torch.int64)
    if found.dtype == torch.uint64 and bool((whole < 0).any()):
        raise ShapeError(f"{name} are of more than 63 bits", "none is that large", "Renumber them")
    return whole


def _as_tensor(given: Any, name: str) -> Tensor:
    if isinstance(given, Tensor) and given.layout == torch.strided and not given.is_meta:
        return given
    masked = isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given)
    try:
        if given is not None and not masked and not isinstance(given, str | Tensor):
            is_array = isinstance(given, np.ndarray)
            return torch.as_tensor(np.ascontiguousarray(native(given)) if is_array else given)
    except (TypeError, ValueError, RuntimeError, LookupError, OverflowError):
        pass  # told below, as what else is no row of numbers
    raise ShapeError(
        f"{name} are no row of numbers",
        f"{'some are masked' if masked else f'they are a {type(given).__name__}'}",
        f"Pass {name} as a tensor, an array or a list of one whole number a sample",
    )


def numbered(given: Any, samples: int, *, name: str = "ids") -> Tensor:
    """One whole number a sample, from 0 on: (B,), int64.

    Raises: ShapeError as `whole_numbers`; ProbeError for one below 0.
    """
    found = whole_numbers(given, samples, name=name)
    if bool((found < 0).any()):
        raise ProbeError(f"{name} hold {int(found.min())}", "they count from 0", "Renumber them")
    return found


def layer_of(
    definition: SampleMeasure | DatasetMeasure,
    site: str,
    Z: Tensor,
    U: Tensor | None,
    ids: Tensor | None,
    prefix: int,
    others: dict[str, Tensor | float],
    grid: tuple[int, int] | None = None,
    causal: bool = False,
) -> LayerTokens:
    """What the measure is given, made of the arguments of `update`.

    Raises: ShapeError for tokens that do not fit their site, each other, or U; ProbeError for what
        is missing.
    """
    given = {k: v for k, v in others.items() if k in SITES and isinstance(v, Tensor)}
    tokens = {site: Z, **given}
    sizes: dict[str, int] = {}
    for name, found in tokens.items():
        _expect_site(name, found, "Z" if name == site else name, sizes)
    if definition.needs_basis and U is not None and site != HEADS:
        expect_basis(Z, U)
    needs = definition.inputs(site)
    if HEADS in needs and site != HEADS:
        tokens["attn_in"] = Z  # where those of the heads are projected from
    missing = [name for name in needs if name not in tokens and name != HEADS]
    if missing:
        raise ProbeError(
            f"tokens at {', '.join(missing)} are missing",
            f"'{definition.name}' is taken of more than one site",
            f"Pass {missing[0]}= beside Z",
        )
    operators = {name: value for name, value in others.items() if name not in SITES}
    for name in operators.keys() & set(definition.needs_operators):
        operators[name] = _read_operator(name, operators[name])
    lacking = [name for name in definition.needs_operators if name not in operators]
    if lacking:
        raise ProbeError(
            f"{', '.join(lacking)} of the layer's step is missing",
            f"'{definition.name}' is taken of the step itself",
            f"Pass {lacking[0]}= beside Z",
        )
    first, extra = 0 if prefix else None, tuple(range(prefix))
    products = Products(tokens, operators, extra, ids, grid=grid, class_index=first, causal=causal)
    return LayerTokens(products, U)


def _expect_site(place: str, tokens: Tensor, name: str, sizes: dict[str, int]) -> None:
    """Check tokens against their site's shape, and the sizes of those that were looked at before.

    Raises: ShapeError.
    """
    expect_tensor(name, tokens)
    shape = _HEADS if place == HEADS else SITES[place].shape
    letters = shape.strip("()").split(", ")
    expect_shape(tokens, " ".join(letters), name=name)
    need = [
        sizes.setdefault(letter, size) for letter, size in zip(letters, tokens.shape, strict=True)
    ]
    if need != [*tokens.shape]:
        raise ShapeError(
            f"{name} has shape {tuple(tokens.shape)}",
            f"beside the other tokens {tuple(need)} is needed",
            "Pass the same samples and tokens at each site",
        )


def _read_operator(name: str, value: Any) -> Any:
    """A part of a layer's steps; what only an audit measures first is not looked at."""
    shape = _OPERATORS.get(name)
    if shape:
        expect_tensor(name, value)
        expect_shape(value, shape, name=name)
    elif shape is not None:
        return expect_parameter(name, value, float)
    return value
