"""What the attention step does to R^c, and which part of its update does it.

The update D of the residual stream Z is taken apart: its mean over the tokens, m, which moves all
of them alike; of the rest, what lies along each token, r, which changes norms; and what is left.
R^c is taken through the attention's norm, where the next projection would see the tokens, and all
in float64: in float32 each of two rates is off by 5e-7 nats, which hides what a small update does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from whitebox_probe._core.checks import expect_alike, expect_shape
from whitebox_probe._core.errors import ShapeError
from whitebox_probe._core.hashing import seed_of
from whitebox_probe.metrics import _linalg
from whitebox_probe.metrics._arguments import whole_numbers
from whitebox_probe.metrics.compression import _sum_over_heads
from whitebox_probe.metrics.measure import SampleMeasure
from whitebox_probe.metrics.tokens import MEAN, MEAN_OF, LayerTokens, Norm, project

__all__ = [
    "RateChangeCommon",
    "RateChangeMean",
    "RateChangeNoSkip",
    "RateChangeRadial",
    "RateChangeShared",
    "RateChangeShuffled",
    "RateChangeSkip",
    "RateChangeTangential",
    "shared_update",
    "shuffled_update",
    "split_update",
]


def split_update(Z: Tensor, update: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """An update as common shift, radial part and tangential part, whose sum it is.

    The common shift is the mean over the tokens, the same at each; the radial part the projection
    of the rest of each token's update on that token; the tangential part what is left.

    Shapes: Z and update (B, n, d) -> three of (B, n, d), float64.
    Raises: ShapeError.
    """
    _expect_pair(Z, update)
    Z, update = _linalg.upcast(Z), _linalg.upcast(update)
    common = update.mean(dim=-2, keepdim=True).expand_as(update)
    rest = update - common
    length = Z.square().sum(dim=-1, keepdim=True)
    share = (rest * Z).sum(dim=-1, keepdim=True) / length.masked_fill(length == 0, 1.0)
    radial = share * Z
    return common, radial, rest - radial


def shuffled_update(update: Tensor, ids: Tensor | None = None) -> Tensor:
    """Each sample's update, handed to its tokens in another order: the same norms and mean.

    Shapes: update (B, n, d), ids (B,) of whole numbers -> (B, n, d).
    Args: ids: the samples' numbers, which draw their orders; 0, 1, ... if not given.
    Raises: ShapeError.
    """
    expect_shape(update, "B n d", name="update")
    numbers: Sequence[int] = range(len(update))
    if ids is not None:
        numbers = whole_numbers(ids, len(update), name="ids").tolist()
    out = torch.empty_like(update)
    for row, number in enumerate(numbers):
        random = torch.Generator().manual_seed(seed_of("order of an update", number))
        order = torch.randperm(update.shape[1], generator=random).to(update.device)
        out[row] = update[row, order]
    return out


def shared_update(update: Tensor, mean: Tensor) -> Tensor:
    """What of an update looks at no token: its sample's shift, and what each place gets elsewhere.

    m + (M - mean over the tokens of M), m the mean of the update over its tokens: whatever adds one
    vector that depends on the sample and one that depends on the place is this, wholly.

    Shapes: update D and mean M (B, n, d) -> (B, n, d), float64.
    Raises: ShapeError.
    """
    _expect_pair(mean, update)
    update, mean = _linalg.upcast(update), _linalg.upcast(mean)
    own, others = (each.mean(dim=-2, keepdim=True) for each in (update, mean))
    return own + mean - others


def _expect_pair(Z: Tensor, update: Tensor) -> None:
    expect_shape(Z, "B n d", name="Z")
    expect_alike(update, Z, name="update")


def through(norm: Norm | None, Z: Tensor) -> Tensor:
    """Tokens after a norm, if there is one, in float32 at least.

    Raises: ShapeError where the norm gives something else.
    """
    if norm is None:
        return Z
    found = norm(Z)
    if not isinstance(found, Tensor) or found.shape != Z.shape:
        is_one = isinstance(found, Tensor)
        raise ShapeError(
            f"the norm gives {tuple(found.shape) if is_one else f'a {type(found).__name__}'}",
            f"tokens of shape {tuple(Z.shape)} keep theirs in a norm",
            "Pass a function that gives each token back, normed, such as an nn.LayerNorm",
        )
    return _linalg.wide(found)


@dataclass(frozen=True, kw_only=True)
class _RateChange(SampleMeasure):
    """A change of R^c over the attention step, or over a part of its update."""

    unit = "nats"
    group = "fidelity"
    heavy = True
    source = "arXiv:2411.17182 (MSSA with its skip connection may raise R^c)"
    cost = "twice compression"
    site = {"paper": "z_in"}
    needs_basis = True
    uses_norm = True
    attends_first = True
    default = False
    better: ClassVar[str | None] = "lower"
    invariances = frozenset(
        {"token_order", "repeated_tokens", "head_order", "rotation_in_subspace"}
    )
    after: ClassVar[str] = "z_half"

    eps: float = 0.1

    def inputs(self, site: str) -> tuple[str, ...]:
        """Before and after."""
        return (site, self.after)

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """After minus before, both after the attention norm where rates are."""
        before = rate_at(layer, site, self.eps)
        if self.after != "attn_out" or layer.exact_norm is None:
            return rate_at(layer, self.after, self.eps) - before
        # which is no place of the residual stream
        after = layer.exact_norm(_linalg.upcast(layer.at(self.after)))
        return rate(after, layer.basis(), self.eps) - before


def rate(Z: Tensor, U: Tensor, eps: float) -> Tensor:
    """R^c, projected in float64: (B, n, d) -> (B,)."""
    V = project(_linalg.upcast(Z), _linalg.upcast(U))
    return _sum_over_heads(V, _linalg.gram(V), eps=eps)


def exact_heads(layer: LayerTokens, site: str) -> tuple[Tensor, Tensor]:
    """A site's normed tokens in each subspace, all in float64, and their Gram matrices."""
    X, U = layer.exactly_normed(site), layer.basis()
    V = layer.once("exact heads", site, lambda: project(X, _linalg.upcast(U)))
    return V, layer.once("exact head gram", site, lambda: _linalg.gram(V))


def rate_at(layer: LayerTokens, site: str, eps: float) -> Tensor:
    """R^c of a site's tokens, normed and projected in float64; shared between measures and eps."""
    V, G = exact_heads(layer, site)
    n, p = V.shape[-2:]
    return layer.half_logdet("exact", site, V, G, p / (n * eps**2)).sum(dim=-1)


def rate_of(
    layer: LayerTokens,
    site: str,
    what: str,
    tokens: Callable[[], Tensor],
    eps: float,
    *,
    norm: Norm | None,
) -> Tensor:
    """R^c of tokens in the place of a site's, after a norm; `what` tells them from others."""
    U = _linalg.upcast(layer.basis())

    def heads() -> Tensor:
        return project(_linalg.upcast(through(norm, tokens())), U)

    if not layer.sweeps:  # what nobody else needs is not kept
        return layer.once(f"exact {what} {eps}", site, lambda: _of_heads(heads(), eps))
    V = layer.once(f"exact heads {what}", site, heads)
    G = layer.once(f"exact head gram {what}", site, lambda: _linalg.gram(V))
    n, p = V.shape[-2:]
    return layer.half_logdet(f"exact {what}", site, V, G, p / (n * eps**2)).sum(dim=-1)


def _of_heads(V: Tensor, eps: float) -> Tensor:
    return _sum_over_heads(V, _linalg.gram(V), eps=eps)


def rate_moved(layer: LayerTokens, site: str, how: str, eps: float) -> Tensor:
    """R^c of a site's tokens with a part of the attention's update, one of `_MOVES`."""
    if how == "start":
        return rate_at(layer, site, eps)
    Z, D = _linalg.upcast(layer.at(site)), _linalg.upcast(layer.at("attn_out"))

    def moved() -> Tensor:
        return Z + _MOVES[how](layer, Z, D)

    return rate_of(layer, site, f"moved {how}", moved, eps, norm=layer.exact_norm)


def _common(layer: LayerTokens, Z: Tensor, D: Tensor) -> Tensor:
    return D.mean(dim=-2, keepdim=True)


def _without_tangential(layer: LayerTokens, Z: Tensor, D: Tensor) -> Tensor:
    common, radial, _ = split_update(Z, D)
    return common + radial


def _whole(layer: LayerTokens, Z: Tensor, D: Tensor) -> Tensor:
    return D


def _shuffled(layer: LayerTokens, Z: Tensor, D: Tensor) -> Tensor:
    return shuffled_update(D, layer.ids)


def _mean(layer: LayerTokens, Z: Tensor, D: Tensor) -> Tensor:
    return layer.mean_update()


def _shared(layer: LayerTokens, Z: Tensor, D: Tensor) -> Tensor:
    return shared_update(D, layer.mean_update())


_MOVES: dict[str, Callable[[LayerTokens, Tensor, Tensor], Tensor]] = {
    "common": _common,
    "common, radial": _without_tangential,
    "whole": _whole,
    "shuffled": _shuffled,
    "mean": _mean,
    "shared": _shared,
}


class RateChangeSkip(_RateChange):
    """Change of R^c across the attention step with its skip connection: Z^l to Z^(l+1/2)."""

    name = "attention_rate_change"
    formula = "R^c(Z^(l+1/2); U) - R^c(Z^l; U)"
    tex = r"R^c(Z^{\ell+1/2}; U^\ell) - R^c(Z^\ell; U^\ell)"
    misleads = (
        "A vector added to all tokens in front of a norm lowers R^c without any token having "
        "looked at another: see the common part, and the shuffled control. Nats grow with n, K "
        "and p, so that models of different sizes are not comparable. In a ViT U is a projection "
        "of the keys, which the attention was never asked to compress in. The tokens after it are "
        "the model's own, which float32 rounds by 6e-8 of each value (bfloat16 by 4e-3): of an "
        "update as small as that little is left, and descent_achieved is of Z + D itself."
    )
    label = r"$R^c(Z^{\ell+1/2}) - R^c(Z^{\ell})$"


class RateChangeNoSkip(_RateChange):
    """Change of R^c from the tokens to the attention's output alone, without the skip."""

    name = "attention_rate_change_no_skip"
    formula = "R^c(attn_out; U) - R^c(Z^l; U)"
    tex = r"R^c(\mathrm{attn\_out}; U^\ell) - R^c(Z^\ell; U^\ell)"
    misleads = (
        "The update alone is in no place where the network uses it: the skip connection is always "
        "added. After a norm the update's length does not count, so that a tiny update compares "
        "as a large one. It answers the remark that MSSA lowers R^c only without the skip, and "
        "little else."
    )
    label = r"$R^c(\mathrm{attn\_out}) - R^c(Z^{\ell})$"
    after = "attn_out"


class _PartOfChange(_RateChange):
    """Change of R^c by one part of the attention's update."""

    source = "own definition"
    better: ClassVar[str | None] = None
    after = "attn_out"
    way: ClassVar[tuple[str, str]]

    def measure(self, layer: LayerTokens, site: str) -> Tensor:
        """R^c at the end of its part of the way minus R^c at the start of it."""
        start, end = (rate_moved(layer, site, how, self.eps) for how in self.way)
        return end - start


class RateChangeCommon(_PartOfChange):
    """Change of R^c by what the attention adds to all tokens alike: its update's mean."""

    name = "attention_rate_change_common"
    formula = "R^c(Z + m; U) - R^c(Z; U), m the mean of D over the tokens"
    tex = r"R^c(Z + \mathbf{1} m^\top; U) - R^c(Z; U), \quad m = \mathrm{mean}_i\, D_i"
    misleads = (
        "It is the first of three parts that are taken in a fixed order, and the split depends on "
        "the order: the parts add up, but none is the effect by itself. A common shift may depend "
        "on the sample and be computed by attention, so that it is not always an artefact."
    )
    label = r"$R^c$ by the common shift of $\Delta_{\mathrm{attn}}$"
    way = ("start", "common")


class RateChangeRadial(_PartOfChange):
    """Change of R^c by what of the update lies along each token, after the common shift."""

    name = "attention_rate_change_radial"
    formula = "R^c(Z + m + r; U) - R^c(Z + m; U), r_i = <D_i - m, z_i> z_i / |z_i|^2"
    tex = (
        r"R^c(Z + m + r; U) - R^c(Z + m; U), \quad r_i = \frac{\langle D_i - m, z_i "
        r"\rangle}{\|z_i\|^2} z_i"
    )
    misleads = (
        "It is taken after the common shift, in whose place the norm is already another. With a "
        "norm after the tokens longer and shorter tokens are the same to it, so that what is left "
        "is a side effect of the shift; with prenorm=False plain shrinkage of all tokens looks "
        "like compression here."
    )
    label = r"$R^c$ by the radial part of $\Delta_{\mathrm{attn}}$"
    way = ("common", "common, radial")


class RateChangeTangential(_PartOfChange):
    """Change of R^c by what is left of the update, after its common shift and radial part."""

    name = "attention_rate_change_tangential"
    formula = "R^c(Z + D; U) - R^c(Z + m + r; U)"
    tex = r"R^c(Z + D; U) - R^c(Z + m + r; U)"
    misleads = (
        "It is what is left at the end of a fixed order, and holds all interactions of the parts. "
        "A negative value says that the rest of the update lowers R^c, not that it looks at this "
        "sample: compare with the shuffled and the mean control."
    )
    label = r"$R^c$ by the tangential part of $\Delta_{\mathrm{attn}}$"
    way = ("common, radial", "whole")


class RateChangeShuffled(_PartOfChange):
    """Change of R^c if the attention's update were handed to other tokens of its sample.

    One order a sample, drawn by its number: a null that keeps the common shift and all norms.
    """

    name = "attention_rate_change_shuffled"
    formula = "R^c(Z + P D; U) - R^c(Z; U), P a permutation of the sample's tokens"
    tex = r"R^c(Z + P D; U) - R^c(Z; U), \quad P \text{ a permutation of the tokens}"
    misleads = (
        "It is a control and no effect: only its difference from attention_rate_change tells "
        "anything. One order a sample is drawn, so that few samples give a noisy one. It keeps "
        "the common shift, and where that is most of the update, control and effect agree by "
        "construction."
    )
    label = r"$R^c$ by $\Delta_{\mathrm{attn}}$ of other tokens"
    way = ("start", "shuffled")
    invariances = frozenset({"head_order", "rotation_in_subspace"})


class RateChangeMean(_PartOfChange):
    """Change of R^c if each token got the mean of what the attention adds at its place elsewhere.

    The mean is over other samples, and is measured before (by `audit`): what it does is done
    without a look at the sample.
    """

    name = "attention_rate_change_mean"
    formula = "R^c(Z + M; U) - R^c(Z; U), M_i the mean over samples of D_i"
    tex = r"R^c(Z + M; U) - R^c(Z; U), \quad M_i = \mathrm{mean}_s\, D_i(s)"
    misleads = (
        "It is a control: what a constant added at each place does. The mean is of other samples "
        "and noisy for few of them; noise spreads tokens and raises R^c, which flatters the model. "
        "Places that few samples reach, at the end of long texts, have the noisiest mean."
    )
    label = r"$R^c$ by the mean of $\Delta_{\mathrm{attn}}$ over samples"
    way = ("start", "mean")
    needs_operators = (MEAN, MEAN_OF)
    invariances = frozenset({"head_order", "rotation_in_subspace"})


class RateChangeShared(_PartOfChange):
    """Change of R^c by what of the attention's update looks at no token.

    Each token gets the shift that all tokens of its sample share, and what tokens at its place get
    beyond such a shift in other samples (measured before, by `audit`).
    """

    name = "attention_rate_change_shared"
    formula = (
        "R^c(Z + m + M - <M>; U) - R^c(Z; U), M_i the mean over samples of D_i, <M> over tokens"
    )
    tex = r"R^c(Z + m + M - \langle M \rangle; U) - R^c(Z; U)"
    misleads = (
        "It is a control: all of the update that looks at no token of the sample beyond their "
        "common shift. The shift itself may be this sample's own work, so that subtracting all of "
        "it is hard on the model. Few samples make the mean noisy, as in the mean control."
    )
    label = r"$R^c$ by what of $\Delta_{\mathrm{attn}}$ looks at no token"
    way = ("start", "shared")
    needs_operators = (MEAN, MEAN_OF)
    invariances = frozenset({"head_order", "rotation_in_subspace"})
