"""The arguments of a metric's `update`, checked and made into what a measure is given."""

from torch import Tensor

from whitebox_probe._core.errors import ProbeError, ShapeError
from whitebox_probe.metrics.measure import DatasetMeasure, SampleMeasure
from whitebox_probe.metrics.tokens import HEADS, LayerTokens, Products
from whitebox_probe.sites import SITES


def numbered(given: Tensor, samples: int, *, name: str = "ids") -> Tensor:
    """One whole number a sample, from 0 on."""
    if given.shape != (samples,):
        raise ShapeError(
            f"{name} has shape {tuple(given.shape)}",
            f"there are {samples} samples",
            f"Pass {name} as ({samples},)",
        )
    if bool((given < 0).any()):
        raise ProbeError(f"{name} hold {int(given.min())}", "they count from 0", "Renumber them")
    return given


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
