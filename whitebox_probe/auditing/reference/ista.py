"""Second steps that are exact ISTA steps, with dictionaries and step sizes that are known."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from whitebox_probe.auditing.reference._parts import (
    DIM,
    LAYERS,
    TOKENS,
    Layer,
    Reference,
    Still,
    frame,
    generator,
    layer_norm,
    mixture,
    rotation,
    wrapped,
)
from whitebox_probe.auditing.verdicts import CONTRADICTED, NOT_SUPPORTED, SUPPORTED
from whitebox_probe.models.model import ProbeModel

ATOMS = 2 * DIM
_APART = 0.4
_ATOM = 2.1
SHORT, LONG = 0.5, 3.0
"""Step sizes times |D|^2: a proximal gradient step lowers the objective up to 2."""


class Ista(nn.Module):
    """Proximal gradient steps of 1/2 |Y - A D^T|^2 + lam |A|_1 over A >= 0, Y the normed tokens.

    A complete dictionary (d, d) is taken one step from max(Y, 0), and the code leaves the layer. An
    overcomplete one (d, h) is taken two steps from 0, and what leaves is A D^T.
    """

    def __init__(self, dictionary: Tensor, *, lam: float, eta: float, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.code = nn.Identity()
        self.register_buffer("dictionary", dictionary)
        self.dictionary: Tensor
        self.lam = lam
        self.eta = eta

    def forward(self, Z: Tensor) -> Tensor:
        """(B, n, d) -> (B, n, d)."""
        Y = self.norm(Z)
        D = self.dictionary.to(Y.dtype)
        if D.shape[0] == D.shape[1]:
            return self.code(self.step(Y.clamp_min(0.0), Y, D))
        zero = Y.new_zeros(*Y.shape[:-1], D.shape[1])
        return self.code(self.step(self.step(zero, Y, D), Y, D)) @ D.mT

    def step(self, A: Tensor, Y: Tensor, D: Tensor) -> Tensor:
        """A gradient step of the error, and the proximal map of the rest."""
        return (A - self.eta * (A @ D.mT - Y) @ D - self.eta * self.lam).clamp_min(0.0)


class Rectify(Ista):
    """max(Y, 0): where an ISTA step would start, and no step."""

    def forward(self, Z: Tensor) -> Tensor:
        """(B, n, d) -> (B, n, d)."""
        return self.code(self.norm(Z).clamp_min(0.0))


class Halve(Ista):
    """max(Y, 0) / 2: shrinkage, whatever the dictionary is."""

    def forward(self, Z: Tensor) -> Tensor:
        """(B, n, d) -> (B, n, d)."""
        return self.code(self.norm(Z).clamp_min(0.0) / 2)


def _one_long(random: torch.Generator) -> Tensor:
    """D = I but for one long atom, which tokens hardly use."""
    D = torch.eye(DIM)
    D[0, 0] = _ATOM
    return D


def _identity(random: torch.Generator) -> Tensor:
    return torch.eye(DIM)


def _near_identity(random: torch.Generator) -> Tensor:
    return torch.eye(DIM) + 0.02 * torch.randn(DIM, DIM, generator=random) / DIM**0.5


def _turned(random: torch.Generator) -> Tensor:
    """A rotation of all but the vector of ones, which it keeps: with `_about_one` no entry of a
    token or its code is near zero, and no ReLU hides what a step does.
    """
    first = torch.cat([torch.ones(DIM, 1), torch.randn(DIM, DIM - 1, generator=random)], dim=1)
    axes = torch.linalg.qr(first.double())[0]
    turn = torch.block_diag(torch.ones(1, 1), rotation(random, DIM - 1)).double()
    return (axes @ turn @ axes.T).float()


def _about_the_diagonal(random: torch.Generator) -> Tensor:
    """Atoms that are mostly an axis each, and longer than 1."""
    return 1.5 * torch.eye(DIM) + 0.8 * torch.randn(DIM, DIM, generator=random) / DIM**0.5


def _overcomplete(random: torch.Generator) -> Tensor:
    """Unit atoms about two directions that point away from each other, half of them about each.

    A code that is not negative adds up along them. What one half overshoots, the other half takes
    for its own: too long a step cannot be saved by the ReLU.
    """
    a, b = rotation(random)[:, :2].mT
    centres = torch.stack([a, -_APART * a + (1 - _APART**2) ** 0.5 * b])
    spread = torch.randn(DIM, ATOMS, generator=random) / DIM**0.5
    return normalize(centres.repeat_interleave(ATOMS // 2, dim=0).mT + 0.5 * spread, dim=0)


@dataclass(frozen=True)
class _Kind:
    """A dictionary, with the penalties of its two networks and the norm that gives Y."""

    text: str
    draw: Callable[[torch.Generator], Tensor]
    lam: tuple[float, float]
    norm: Callable[[], nn.Module]


def _root_mean_square() -> nn.Module:
    """Which keeps signs and zeros."""
    return nn.RMSNorm(DIM, elementwise_affine=False)


def _about_one() -> nn.Module:
    """A LayerNorm whose weight and bias make entries of mean 1 and deviation 0.2."""
    norm = nn.LayerNorm(DIM)
    nn.init.constant_(norm.weight, 0.2)
    nn.init.constant_(norm.bias, 1.0)
    return norm


_KINDS = {
    "identity": _Kind("D = I", _identity, (0.3, 0.1), _root_mean_square),
    "near-identity": _Kind("D near I", _near_identity, (0.3, 0.1), _root_mean_square),
    "orthogonal": _Kind(
        "D a random rotation about the diagonal", _turned, (0.05, 0.05), _about_one
    ),
    "overcomplete": _Kind(
        "an overcomplete D, two steps from zero", _overcomplete, (0.1, 0.1), _root_mean_square
    ),
}


_OTHERS = {"bare-relu": Rectify, "halved": Halve, "halved-diagonal": Halve}


def _dictionary(kind: _Kind, seed: int) -> Tensor:
    return kind.draw(generator(seed, 3))


def _steps(name: str, kind: _Kind, lam: float, length: float) -> Callable[[int], ProbeModel]:
    def make(seed: int) -> ProbeModel:
        step = _OTHERS.get(name, Ista)
        U, D = frame(seed), _dictionary(kind, seed)
        eta = length / float(torch.linalg.matrix_norm(D.double(), ord=2)) ** 2
        seconds = [step(D, lam=lam, eta=eta, norm=kind.norm()) for _ in range(LAYERS)]
        layers = [Layer(U, Still(), second=second) for second in seconds]
        operators = {"D": dictionary_of, "lam": lam, "eta": eta}
        return wrapped(layers, name, operators=operators, code=D.shape[0] != D.shape[1])

    return make


def dictionary_of(module: nn.Module, layer: int) -> Tensor:
    """D (d, h) of a layer, counted from 1."""
    return module.get_buffer(f"layers.{layer - 1}.second.dictionary")


def _coded(seed: int, samples: int, *, kind: _Kind) -> Tensor:
    """Tokens that a sparse code makes: a quarter of its entries, from 1 to 1.5, and little noise.

    With an overcomplete dictionary a token uses the atoms of one half.
    """
    D, random = _dictionary(kind, seed), generator(seed, 2)
    code = 1 + 0.5 * torch.rand(samples, TOKENS, D.shape[1], generator=random)
    code = code * (torch.rand(code.shape, generator=random) < 0.25)
    if D.shape[1] == ATOMS:
        second = torch.rand(samples, TOKENS, 1, generator=random) < 0.5
        code = code * ((torch.arange(ATOMS) >= ATOMS // 2) == second)
    return code @ D.mT + 0.01 * torch.randn(samples, TOKENS, DIM, generator=random)


def _pair(name: str, kind: _Kind) -> tuple[Reference, Reference]:
    draw = partial(_coded, kind=kind)
    shared = {"incoherent_subspaces": SUPPORTED}
    return (
        Reference(
            f"ista-{name}",
            f"exact ISTA, {kind.text}, η = {SHORT:g}/|D|²",
            "below 2/|D|² a proximal gradient step lowers its objective, unless it is at the least",
            _steps(f"ista-{name}", kind, kind.lam[0], SHORT),
            draw,
            {"ista_descends": SUPPORTED} | shared,
        ),
        Reference(
            f"ista-{name}-too-long",
            f"the same, η = {LONG:g}/|D|²",
            "above 2/|D|² the step overshoots; that it does so on these tokens is computed",
            _steps(f"ista-{name}-too-long", kind, kind.lam[1], LONG),
            draw,
            {"ista_descends": CONTRADICTED} | shared,
        ),
    )


def _beside_the_long_atom(seed: int, samples: int) -> Tensor:
    """Sparse codes as tokens, with nothing on the first axis."""
    tokens = _coded(seed, samples, kind=_KINDS["identity"])
    tokens[..., 0] = 0.0
    return tokens


_LONG_ATOM = _Kind("", _one_long, (0.3, 0.3), _root_mean_square)
_BARE = _Kind("", rotation, (0.1, 0.1), layer_norm)
_DIAGONAL = _Kind("", _about_the_diagonal, (0.1, 0.1), layer_norm)

NETWORKS = (
    *(reference for name, kind in _KINDS.items() for reference in _pair(name, kind)),
    Reference(
        "bare-relu",
        "a ReLU without a step, with D, λ and η declared",
        "max(Y, 0) is where a step would start: the objective does not change",
        _steps("bare-relu", _BARE, 0.1, SHORT),
        partial(mixture, weak=0.15),
        {"ista_descends": NOT_SUPPORTED, "incoherent_subspaces": SUPPORTED},
    ),
    Reference(
        "halved",
        "max(Y, 0) / 2, with a random D, λ and η declared that it does not use",
        "shrinkage lowers any such objective: it does as much with every other dictionary",
        _steps("halved", _BARE, 0.1, SHORT),
        partial(mixture, weak=0.15),
        {"ista_descends": NOT_SUPPORTED, "incoherent_subspaces": SUPPORTED},
    ),
    Reference(
        "halved-diagonal",
        "the same, with a D whose atoms are mostly an axis each",
        "shrinkage lowers this objective most of the way, and it does nothing else",
        _steps("halved-diagonal", _DIAGONAL, 0.1, SHORT),
        partial(mixture, weak=0.15),
        {"ista_descends": NOT_SUPPORTED, "incoherent_subspaces": SUPPORTED},
    ),
    Reference(
        "ista-short",
        "exact ISTA, D a random rotation, η = 0.1/|D|², as published, after LayerNorm",
        "below 2/|D|² a proximal gradient step lowers its objective, unless it is at the least",
        _steps("ista-short", _BARE, 0.1, 0.1),
        partial(mixture, weak=0.15),
        {"ista_descends": SUPPORTED, "incoherent_subspaces": SUPPORTED},
    ),
    Reference(
        "ista-one-long-atom",
        "exact ISTA, D = I but for one long atom that no token uses, η = 2.2/|D|²",
        "where the tokens are, the step is short: it lowers their objective",
        _steps("ista-one-long-atom", _LONG_ATOM, 0.3, 2.2),
        _beside_the_long_atom,
        {"ista_descends": SUPPORTED, "incoherent_subspaces": SUPPORTED},
    ),
)
