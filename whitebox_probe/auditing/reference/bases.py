"""Subspaces whose overlap is known, and subspaces that move under tokens that do not."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from whitebox_probe.auditing.reference._parts import (
    DIM,
    DIM_HEAD,
    HEADS,
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

ABOVE = 1.01
"""The overlap of `bases-above-chance`, over the p/d of random subspaces."""
FLATTER = 0.3
"""How much flatter the last direction of each U becomes in a layer of `frozen`, as an exponent."""

_draw = partial(mixture, weak=0.15)
Bases = Callable[[torch.Generator], Tensor]


def _still(name: str, bases: Bases) -> Callable[[int], ProbeModel]:
    """Tokens that nothing changes, under bases of each layer's own."""

    def make(seed: int) -> ProbeModel:
        random = generator(seed, 3)
        return wrapped([Layer(bases(random), Still()) for _ in range(LAYERS)], name)

    return make


def _orthogonal(random: torch.Generator) -> Tensor:
    return rotation(random).reshape(DIM, HEADS, DIM_HEAD).transpose(0, 1)


def _random(random: torch.Generator) -> Tensor:
    return torch.stack([rotation(random)[:, :DIM_HEAD] for _ in range(HEADS)])


def _identical(random: torch.Generator) -> Tensor:
    return rotation(random)[:, :DIM_HEAD].expand(HEADS, DIM, DIM_HEAD)


def _tied(seed: int) -> ProbeModel:
    U = _random(generator(seed, 3))
    return wrapped([Layer(U, Still()) for _ in range(LAYERS)], "bases-tied")


def _one_direction(random: torch.Generator) -> Tensor:
    """Vectors of each head, all along one direction, the same for all heads."""
    direction = rotation(random)[:, :1]
    return direction * torch.randn(HEADS, 1, DIM_HEAD, generator=random)


def _above_chance(random: torch.Generator) -> Tensor:
    """Between orthogonal subspaces and one that all share, where the overlap is as wanted."""
    apart, common = _orthogonal(random).double(), _identical(random).double()
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        Q = torch.linalg.qr((1 - middle) * apart + middle * common)[0]
        if mean_overlap(Q) < ABOVE * DIM_HEAD / DIM:
            low = middle
        else:
            high = middle
    return Q.float()


def mean_overlap(Q: Tensor) -> float:
    """Mean over pairs of |Q_i^T Q_j|_F^2 / p of orthonormal bases (K, d, p); chance is p/d."""
    K, _, p = Q.shape
    cross = torch.einsum("kdp,jdq->kjpq", Q, Q).square().sum(dim=(-2, -1)) / p
    return float((cross.sum() - cross.diagonal().sum()) / (K * (K - 1)))


def _frozen(seed: int) -> ProbeModel:
    U = frame(seed)
    place = torch.arange(DIM_HEAD) / (DIM_HEAD - 1)
    layers = [Layer(U * (-FLATTER * n * place).exp(), Still()) for n in range(LAYERS)]
    return wrapped(layers, "frozen")


NETWORKS = (
    Reference(
        "frozen",
        "tokens that never change, under U that grow flatter from layer to layer",
        "R^c falls by U alone: the attention adds zero, and R of the tokens stays",
        _frozen,
        _draw,
        {
            "compresses": NOT_SUPPORTED,
            "attention_aligned": NOT_SUPPORTED,
            "attention_descends": NOT_SUPPORTED,
            "incoherent_subspaces": SUPPORTED,
            "keeps_expanding": SUPPORTED,
        },
    ),
    Reference(
        "bases-orthogonal",
        "heads of K p = d orthogonal directions",
        "their overlap is 0",
        _still("bases-orthogonal", _orthogonal),
        _draw,
        {"incoherent_subspaces": SUPPORTED},
    ),
    Reference(
        "bases-random",
        "random subspaces, drawn for each layer",
        "their overlap is p/d on average",
        _still("bases-random", _random),
        _draw,
        {"incoherent_subspaces": NOT_SUPPORTED},
    ),
    Reference(
        "bases-identical",
        "heads that share one subspace",
        "their overlap is 1",
        _still("bases-identical", _identical),
        _draw,
        {"incoherent_subspaces": CONTRADICTED},
    ),
    Reference(
        "bases-tied",
        "random subspaces, the same in every layer",
        "one draw is one draw, however many layers have it",
        _tied,
        _draw,
        {"incoherent_subspaces": NOT_SUPPORTED},
    ),
    Reference(
        "bases-one-direction",
        "heads of p vectors along one direction, which all share",
        "they span the same line: their overlap is 1",
        _still("bases-one-direction", _one_direction),
        _draw,
        {"incoherent_subspaces": CONTRADICTED},
    ),
    Reference(
        "bases-above-chance",
        "an overlap of 1.01 p/d in every layer",
        "1% above chance is no finding, however many layers show it",
        _still("bases-above-chance", _above_chance),
        _draw,
        {"incoherent_subspaces": NOT_SUPPORTED},
    ),
)
