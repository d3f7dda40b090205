"""The arguments of a metric's `update`, checked and made into what a measure is given."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from whitebox_probe._core.errors import ProbeError, ShapeError
from whitebox_probe.metrics.measure import DatasetMeasure, SampleMeasure
from whitebox_probe.metrics.tokens import HEADS, LayerTokens, Products
from whitebox_probe.sites import SITES


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
            return torch.as_tensor(given)
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
    """What the measure is given, made of the arguments of `update`."""
    given = {k: v for k, v in others.items() if k in SITES and isinstance(v, Tensor)}
    tokens = {site: Z, **given}
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
