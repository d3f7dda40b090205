"""Networks whose number of non-zero entries is given, layer by layer."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from whitebox_probe.auditing.reference._parts import (
    DIM,
    LAYERS,
    Layer,
    Reference,
    Still,
    frame,
    generator,
    mixture,
    rotation,
    wrapped,
)
from whitebox_probe.auditing.verdicts import CONTRADICTED, NOT_SUPPORTED, SUPPORTED
from whitebox_probe.models.model import ProbeModel

MOST, LEAST = 29, 2
_FLAT = 0.1
"""The largest rank correlation with depth that a sequence without a trend may have."""


class Keep(nn.Module):
    """A rotation of the features, of which each token keeps its largest entries."""

    def __init__(self, turn: Tensor, entries: int) -> None:
        super().__init__()
        self.norm = nn.Identity()
        self.register_buffer("turn", turn)
        self.turn: Tensor
        self.entries = entries

    def forward(self, Z: Tensor) -> Tensor:
        """(B, n, d) -> (B, n, d)."""
        turned = self.norm(Z) @ self.turn.to(Z.dtype)
        kept = turned.abs().topk(self.entries, dim=-1).indices
        return torch.zeros_like(turned).scatter(-1, kept, turned.gather(-1, kept))


def falling(seed: int) -> Sequence[int]:
    """Entries that each token keeps, layer by layer: the same number fewer in each."""
    step = (MOST - LEAST) // (LAYERS - 1)
    return range(MOST, MOST - step * LAYERS, -step)


def rising(seed: int) -> Sequence[int]:
    """The same numbers, from the last to the first."""
    return falling(seed)[::-1]


def flat(seed: int) -> Sequence[int]:
    """The same numbers in an order without a trend, with the first layer or without it."""
    random = generator(seed, 4)
    values = torch.tensor(list(falling(seed)))
    while True:
        drawn = values[torch.randperm(LAYERS, generator=random)].tolist()
        if all(abs(_trend(part)) <= _FLAT for part in (drawn, drawn[1:])):
            return drawn


def _trend(values: Sequence[int]) -> float:
    """Spearman's rho with depth, of numbers of which no two are the same."""
    ranks = torch.tensor(values).argsort().argsort().double()
    depth = torch.arange(len(values)).double()
    return float(torch.corrcoef(torch.stack([ranks, depth]))[0, 1])


def _keeping(name: str, counts: Callable[[int], Sequence[int]]) -> Callable[[int], ProbeModel]:
    def make(seed: int) -> ProbeModel:
        U, random = frame(seed), generator(seed, 3)
        layers = [
            Layer(U, Still(), second=Keep(rotation(random, DIM), entries))
            for entries in counts(seed)
        ]
        return wrapped(layers, name)

    return make


_ROWS = (
    ("sparser", "fewer in each layer", falling, SUPPORTED),
    ("denser", "more in each layer", rising, CONTRADICTED),
    ("no-trend", "in an order without a trend", flat, NOT_SUPPORTED),
)

NETWORKS = tuple(
    Reference(
        name,
        f"each token keeps a given number of its entries, {text}",
        "the share of non-zero entries is that number over d, exactly",
        _keeping(name, counts),
        partial(mixture, weak=0.15),
        {"sparsifies": verdict, "incoherent_subspaces": SUPPORTED},
    )
    for name, text, counts, verdict in _ROWS
)
