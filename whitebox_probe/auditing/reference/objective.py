"""Networks whose R - R^c - lam|Z|_0 rises, or falls, in every layer by construction.

The subspaces are spans of axes, and fill the space. A token has all of its entries in one of them,
its own: where it has none elsewhere, what tokens of different clusters share is zero, R is the sum
of the clusters' rates, and no codes are sparser.
"""

from functools import partial

import torch
from torch import Tensor, nn

from whitebox_probe.auditing.reference._parts import (
    DIM,
    DIM_HEAD,
    HEADS,
    LAYERS,
    TOKENS,
    Layer,
    Reference,
    Still,
    generator,
    wrapped,
)
from whitebox_probe.auditing.verdicts import CONTRADICTED, SUPPORTED
from whitebox_probe.models.model import ProbeModel

_FOREIGN = DIM - DIM_HEAD
"""Axes outside a token's own subspace."""
_STRAY = 0.3
"""The deviation of a token's entries there; those of its own are of deviation 1."""


def _own(Z: Tensor) -> Tensor:
    """Which axes are of the subspace that holds most of a token; (B, n, d) -> (B, n, d)."""
    energy = Z.unflatten(-1, (HEADS, DIM_HEAD)).square().sum(dim=-1)
    mine = nn.functional.one_hot(energy.argmax(dim=-1), HEADS).bool()
    return mine.repeat_interleave(DIM_HEAD, dim=-1)


class Sort(nn.Module):
    """Of the entries on foreign axes, each token keeps a number of the first in a given order."""

    def __init__(self, order: Tensor, entries: int) -> None:
        super().__init__()
        self.norm = nn.Identity()
        self.register_buffer("order", order)
        self.order: Tensor
        self.entries = entries

    def forward(self, Z: Tensor) -> Tensor:
        """(B, n, d) -> (B, n, d)."""
        own = _own(self.norm(Z))
        return Z * (own | (_place(own, self.order) < self.entries))


class Mix(nn.Module):
    """On a number of foreign axes, each token takes a mixture of its own entries."""

    def __init__(self, order: Tensor, mixture: Tensor, entries: int) -> None:
        super().__init__()
        self.norm = nn.Identity()
        self.register_buffer("order", order)
        self.register_buffer("mixture", mixture)
        self.order: Tensor
        self.mixture: Tensor
        self.entries = entries

    def forward(self, Z: Tensor) -> Tensor:
        """(B, n, d) -> (B, n, d)."""
        own = _own(self.norm(Z))
        mixed = (Z * own) @ self.mixture.to(Z.dtype)
        return torch.where(own, Z, mixed * (_place(own, self.order) < self.entries))


def _place(own: Tensor, order: Tensor) -> Tensor:
    """Of each foreign axis, how many come before it in the order; (B, n, d)."""
    foreign = (~own)[..., order].long().cumsum(dim=-1) - 1
    return torch.empty_like(foreign).scatter(-1, order.expand_as(foreign), foreign)


def _axes() -> Tensor:
    """Subspaces that are spans of axes, (K, d, p)."""
    return torch.eye(DIM).reshape(HEADS, DIM_HEAD, DIM).mT.contiguous()


def _counts(*, rising: bool) -> range:
    """How many foreign entries a token has behind each layer."""
    step = _FOREIGN // LAYERS
    most = step * (LAYERS - 1)
    return range(step, most + step + 1, step) if rising else range(most, -1, -step)


def _sorting(seed: int) -> ProbeModel:
    order = torch.randperm(DIM, generator=generator(seed, 5))
    layers = [Layer(_axes(), Still(), second=Sort(order, n)) for n in _counts(rising=False)]
    return wrapped(layers, "sorting")


def _mixing(seed: int) -> ProbeModel:
    random = generator(seed, 5)
    order = torch.randperm(DIM, generator=random)
    mixture = torch.randn(DIM, DIM, generator=random) * _STRAY / DIM_HEAD**0.5
    layers = [Layer(_axes(), Still(), second=Mix(order, mixture, n)) for n in _counts(rising=True)]
    return wrapped(layers, "mixing")


def _tokens(seed: int, samples: int, *, stray: float) -> Tensor:
    """Tokens of random clusters, (samples, n, d)."""
    random = generator(seed, 6)
    cluster = torch.randint(HEADS, (samples, TOKENS), generator=random)
    own = nn.functional.one_hot(cluster, HEADS).bool().repeat_interleave(DIM_HEAD, dim=-1)
    drawn = torch.randn(samples, TOKENS, DIM, generator=random)
    return torch.where(own, drawn, stray * drawn)


NETWORKS = (
    Reference(
        "sorting",
        "each token loses some more of its entries outside its own subspace in every layer",
        "entries go, and with them what tokens of different clusters share: R^c falls by more "
        "than R",
        _sorting,
        partial(_tokens, stray=_STRAY),
        {
            "objective_improves": SUPPORTED,
            "sparsifies": SUPPORTED,
            "incoherent_subspaces": SUPPORTED,
        },
    ),
    Reference(
        "mixing",
        "each token takes some more entries outside its own subspace, mixed of those inside",
        "entries come, and with them what tokens of different clusters share: R^c rises by more "
        "than R",
        _mixing,
        partial(_tokens, stray=0.0),
        {
            "objective_improves": CONTRADICTED,
            "sparsifies": CONTRADICTED,
            "incoherent_subspaces": SUPPORTED,
        },
    ),
)
