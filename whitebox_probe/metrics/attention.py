"""Attention maps: how spread they are, how far they look, how much the class token gets.

They need the site `attn_weights`, which is computed beside the model's own fused attention; asking
for one of these measures asks for it.

A row of zeros stands for a token that is not measured, and does not count. Its column does: a row
is a distribution over all tokens that the model attends to.
"""

import math

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_finite, expect_shape
from whitebox_probe._core.errors import ProbeError, ShapeError
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import LayerTokens

__all__ = [
    "AttentionClassShare",
    "AttentionDistance",
    "AttentionEntropy",
    "attention_class_share",
    "attention_distance",
    "attention_entropy",
]

_SLACK = 0.05
"""By how much the sum of a row may be off 1 by rounding: of a long row in bfloat16, at most."""


def attention_entropy(A: Tensor) -> Tensor:
    """Entropy of each row of attention, averaged over rows: 0 (one token) to ln n (all alike).

    Shapes: A (B, K, m, n), each of m rows over n keys -> (B, K), float64, in nats.
    Raises: ShapeError, NonFiniteError; ProbeError for a sample with no row.
    References: Zhai et al. 2023, arXiv:2303.06296, section 3.
    """
    expect_shape(A, "B K m n", name="A")
    return expect_finite(_entropy(A), name="attention entropy")


def _expect_distributions(A: Tensor, *, whole: bool = True) -> None:
    """Refuse maps that are no distributions over the tokens; NaN is let through, to be told.

    Args: whole: whether the rows that are measured have to sum to 1.
    Raises: ProbeError.
    """
    if bool((A < 0).any()):
        raise _no_distribution(
            "it has negative weights, as where heads are mixed (CaiT) or two maps subtracted "
            "(differential attention)"
        )
    total = A.sum(dim=-1, dtype=torch.float64)
    if whole and bool(((total - 1).abs() > _SLACK).logical_and(total != 0).any()):
        raise _no_distribution("its rows do not sum to 1, as where a sink takes a part of them")


def _no_distribution(why: str) -> ProbeError:
    return ProbeError(
        "an attention map is no distribution over the tokens",
        why,
        "Leave this measure out for this model; record 'attn_weights' for the maps themselves",
    )


def _entropy(A: Tensor) -> Tensor:
    _expect_distributions(A)
    A = _linalg.upcast(A)
    return _over_rows(-torch.special.xlogy(A, A).sum(dim=-1), A)


def _over_rows(values: Tensor, A: Tensor) -> Tensor:
    """Mean over the rows that are measured: values (B, K, m) of A (B, K, m, n) -> (B, K)."""
    counted = A.sum(dim=-1) != 0  # a row that holds NaN counts, so that it is noticed
    count = counted.sum(dim=-1)
    if bool((count == 0).any()):
        raise ProbeError(
            "no row of attention of a sample is measured",
            "all its tokens, or all its patches, are left out",
            "Remove such samples, or leave this measure out",
        )
    return values.masked_fill(~counted, 0.0).sum(dim=-1) / count


def attention_distance(A: Tensor, *, prefix: int, grid: tuple[int, int]) -> Tensor:
    """Mean distance that a patch looks, in patches: between the centres on a grid, row by row.

    Rows and columns of the `prefix` tokens are left out, and each row's rest is made to sum to 1.

    Shapes: A (B, K, n, n), n = prefix + rows * columns of `grid` -> (B, K), float64, in patches.
    Raises: ShapeError, NonFiniteError; ProbeError when the patches are not on that grid.
    References: Dosovitskiy et al. 2021, arXiv:2010.11929, figure 7.
    """
    expect_shape(A, "B K n n", name="A")
    return expect_finite(_distance(A, tuple(range(prefix)), grid), name="attention distance")


def _distance(A: Tensor, extra: tuple[int, ...], grid: tuple[int, int] | None) -> Tensor:
    patches = _patches(A, extra)
    rows = A[..., patches, :]
    A = _linalg.upcast(rows[..., patches])
    if grid is None or math.prod(grid) != A.shape[-1] or A.shape[-1] == 0:
        known = "no grid of them is known" if grid is None else f"their grid is {grid[0]}x{grid[1]}"
        raise ProbeError(
            f"the places of {A.shape[-1]} patches are not known",
            known,
            "Leave out attention_distance, or state the grid (grid=(rows, columns) of wrap)",
        )
    across = [torch.arange(size) for size in grid]
    place = torch.cartesian_prod(*across).double().to(A.device)
    apart = torch.cdist(place.view(-1, 2), place.view(-1, 2))
    _expect_distributions(A, whole=False)
    total = A.sum(dim=-1)
    weighed = (A * apart).sum(dim=-1) / total.masked_fill(total == 0, 1.0)
    return _over_rows(weighed, rows)


def attention_class_share(A: Tensor, *, prefix: int, class_index: int = 0) -> Tensor:
    """Share of the patches' attention that goes to the class token, the first one if not told.

    Shapes: A (B, K, n, n) -> (B, K), float64, from 0 to 1.
    Raises: ShapeError, NonFiniteError; ProbeError when the model has no class token.
    """
    expect_shape(A, "B K n n", name="A")
    if not -A.shape[-1] <= class_index < A.shape[-1]:
        raise ShapeError(
            f"class_index is {class_index}",
            f"the maps are of {A.shape[-1]} tokens",
            "Name one of them, counted from 0",
        )
    return expect_finite(
        _class_share(A, tuple(range(prefix)), class_index if prefix else None),
        name="class token's share",
    )


def _class_share(A: Tensor, extra: tuple[int, ...], class_index: int | None) -> Tensor:
    if class_index is None:
        raise ProbeError(
            "the model has no class token",
            "none is among its tokens, or it is left out",
            "Leave out attention_class_share, or measure with the class token",
        )
    _expect_distributions(A)
    patches = _patches(A, extra)
    return _over_rows(_linalg.upcast(A[..., patches, class_index]), A[..., patches, :])


def _patches(A: Tensor, extra: tuple[int, ...]) -> slice | list[int]:
    """Which tokens are patches: a slice where all others stand in front of them."""
    if extra == tuple(range(len(extra))):
        return slice(len(extra), None)
    return [place for place in range(A.shape[-1]) if place not in extra]


_OF_MAPS = {
    "rotation": "attention maps have no features to rotate",
    "rotation_in_subspace": "attention maps are taken as they are, in no basis",
    "scale": "a row of attention is a distribution and has no scale",
}


class AttentionEntropy(SampleMeasure):
    """Entropy of attention rows, a head at a time."""

    name = "attention_entropy"
    unit = "nats of attention"
    formula = "-sum_j A_ij ln A_ij, mean over i"
    tex = r"-\sum_j A_{ij} \log A_{ij}, \text{ mean over tokens } i"
    misleads = (
        "Its ceiling is ln n, and in a causal model that of a token grows with its place: "
        "different lengths of text have different entropies. A mean over tokens hides heads that "
        "are sharp for some and flat for others. Low entropy on one token (a sink, the class "
        "token) is not the same as looking at content."
    )
    source = "Zhai et al. 2023, arXiv:2303.06296"
    label = "attention entropy [nats]"
    group = "attention"
    heavy = True
    cost = "O(K n^2 p): attention is computed again"
    site = {"paper": "attn_weights", "official": "attn_weights"}
    default = False
    invariances = frozenset({"token_order", "head_order"})
    exempt = _OF_MAPS

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of each head."""
        return _entropy(layer.at(site))


class AttentionDistance(SampleMeasure):
    """How far patches look, a head at a time."""

    name = "attention_distance"
    unit = "patches"
    formula = "sum_j A_ij |x_i - x_j|, mean over patches i"
    tex = r"\sum_j A_{ij} \, \|x_i - x_j\|, \text{ mean over patches } i"
    misleads = (
        "Uniform attention has a large distance: about half of the side of the grid, which is "
        "easily taken for global attention. Distances are in patches, so that models of different "
        "patch sizes differ at the same distance in pixels. Attention that goes to the class "
        "token or registers is left out, and may be most of it."
    )
    source = "Dosovitskiy et al. 2021, arXiv:2010.11929, figure 7"
    label = "attention distance [patches]"
    group = "attention"
    heavy = True
    cost = "O(K n^2 p): attention is computed again"
    site = {"paper": "attn_weights", "official": "attn_weights"}
    default = False
    invariances = frozenset({"head_order"})
    exempt = _OF_MAPS | {"repeated_tokens": "patches that are there twice have no place on a grid"}

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of each head."""
        return _distance(layer.at(site), layer.extra, layer.grid)


class AttentionClassShare(SampleMeasure):
    """The class token's share of the patches' attention, a head at a time."""

    name = "attention_class_share"
    unit = "share of attention"
    formula = "mean over patches i of A_i,cls"
    tex = r"\frac{1}{n} \sum_i A_{i,\mathrm{cls}} \text{ over patches } i"
    misleads = (
        "Much attention on the class token often means that a head has nothing to do and parks "
        "its weight there: it is a sink, not a reading of the summary. The value at the class "
        "token may be close to zero, in which case the attention moves nothing. Uniform attention "
        "has 1/n, which differs between models."
    )
    source = "own definition"
    label = "attention on the class token"
    group = "attention"
    heavy = True
    cost = "O(K n^2 p): attention is computed again"
    site = {"paper": "attn_weights", "official": "attn_weights"}
    default = False
    invariances = frozenset({"token_order", "head_order"})
    exempt = _OF_MAPS | {"repeated_tokens": "the class token is there once"}
    needs_class_token = True

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """Of each head."""
        return _class_share(layer.at(site), layer.extra, layer.class_index)
