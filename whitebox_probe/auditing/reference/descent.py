"""Attentions that are the gradient step, up or down, and some that only look like it."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from whitebox_probe.auditing.reference._parts import (
    DIM,
    EPS,
    LAYERS,
    TOKENS,
    Layer,
    Reference,
    frame,
    generator,
    layer_norm,
    mixture,
    rotation,
    wrapped,
)
from whitebox_probe.auditing.verdicts import CONTRADICTED, NOT_SUPPORTED, SUPPORTED
from whitebox_probe.metrics.descent import compression_gradient
from whitebox_probe.models.model import ProbeModel

KAPPA = {"none": 0.03, "released": 0.05, "residual": 0.02}
"""Step sizes, by where the gradient is taken: small enough that R^c falls in every layer."""
_ABOUT_ATTENTION = ("compresses", "attention_aligned", "attention_descends")
_ORTHOGONAL = {"incoherent_subspaces": SUPPORTED}
_BANK = 16
_TRACE = 3e-4
"""A step of the gradient that lowers R^c in every sample, and by nothing that counts."""
_down = partial(mixture, weak=0.15)
_up = partial(mixture, weak=0.05)


def _all(verdict: str) -> dict[str, str]:
    return dict.fromkeys(_ABOUT_ATTENTION, verdict) | _ORTHOGONAL


class Gradient(nn.Module):
    """The update -kappa grad R^c.

    Args:
        U: (K, d, p), orthonormal. kappa: the step; negative for ascent. at: `none`, at the tokens
            themselves; `released`, at the tokens after LayerNorm, and added to those before it, as
            released code does; `residual`, of R^c(LN(Z)) by the chain rule.
    """

    def __init__(self, U: Tensor, kappa: float, at: str) -> None:
        super().__init__()
        self.register_buffer("U", U)
        self.U: Tensor
        self.kappa = kappa
        self.at = at

    def forward(self, Z: Tensor, X: Tensor) -> Tensor:
        """(B, n, d) twice -> (B, n, d)."""
        gradient = compression_gradient(X, self.U, eps=EPS).to(Z.dtype)
        if self.at == "residual":
            gradient = _before_layer_norm(gradient, Z, X)
        return -self.kappa * gradient


def _before_layer_norm(gradient: Tensor, Z: Tensor, X: Tensor) -> Tensor:
    """A gradient at X = LN(Z), as one at Z: the transposed Jacobian of LayerNorm times it."""
    spread = (Z.var(dim=-1, unbiased=False, keepdim=True) + layer_norm().eps).sqrt()
    along = (gradient * X).mean(dim=-1, keepdim=True)
    return (gradient - gradient.mean(dim=-1, keepdim=True) - X * along) / spread


class Bias(nn.Module):
    """The same vector (d,), or vectors (n, d), added to the tokens of every sample."""

    def __init__(self, vector: Tensor) -> None:
        super().__init__()
        self.register_buffer("vector", vector)
        self.vector: Tensor

    def forward(self, Z: Tensor, X: Tensor) -> Tensor:
        """(B, n, d) twice -> (B, n, d)."""
        return self.vector.to(Z.dtype).expand_as(Z)


class Borrowed(nn.Module):
    """An update from a bank (m, n, d), in place of the sample's own.

    Which one is told by the signs of the sample's tokens, so that it is the same whatever batch the
    sample is in. With `step`, each token's update is scaled to the norm of what `step` would give.
    """

    def __init__(self, bank: Tensor, step: nn.Module | None = None) -> None:
        super().__init__()
        self.register_buffer("bank", bank)
        self.bank: Tensor
        self.step = step

    def forward(self, Z: Tensor, X: Tensor) -> Tensor:
        """(B, n, d) twice -> (B, n, d)."""
        which = (Z > 0).flatten(1).sum(dim=1) % len(self.bank)
        update = self.bank.to(Z.dtype)[which]
        if self.step is None:
            return update
        own = torch.linalg.vector_norm(self.step(Z, X), dim=-1, keepdim=True)
        return update * (own / torch.linalg.vector_norm(update, dim=-1, keepdim=True))


class Turned(nn.Module):
    """A step's update, turned by a fixed rotation of the features."""

    def __init__(self, step: nn.Module, turn: Tensor) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("turn", turn)
        self.turn: Tensor

    def forward(self, Z: Tensor, X: Tensor) -> Tensor:
        """(B, n, d) twice -> (B, n, d)."""
        return self.step(Z, X) @ self.turn.to(Z.dtype)


def _steps(name: str, at: str, sign: int) -> Callable[[int], ProbeModel]:
    """A network whose every attention is the gradient step."""

    def make(seed: int) -> ProbeModel:
        U = frame(seed)
        norm = None if at == "none" else layer_norm
        step = sign * KAPPA[at]
        layers = [Layer(U, Gradient(U, step, at), norm=norm and norm()) for _ in range(LAYERS)]
        return wrapped(layers, name)

    return make


def _bias(seed: int) -> ProbeModel:
    U = frame(seed)
    vector = torch.randn(DIM, generator=generator(seed, 3))
    vector = vector - vector.mean()  # LayerNorm would take the mean away
    vector = 20.0 * vector / torch.linalg.vector_norm(vector)
    return wrapped([Layer(U, Bias(vector), norm=layer_norm()) for _ in range(LAYERS)], "bias")


def _bias_by_place(seed: int) -> ProbeModel:
    """One vector, up at every other token and down at those between: of mean zero over tokens."""
    U = frame(seed)
    vector = torch.randn(DIM, generator=generator(seed, 3))
    vector = vector - vector.mean()
    vector = 2.0 * vector / torch.linalg.vector_norm(vector)
    signs = (torch.arange(TOKENS) % 2 * 2 - 1)[:, None]
    layers = [Layer(U, Bias(signs * vector), norm=layer_norm()) for _ in range(LAYERS)]
    return wrapped(layers, "bias-by-place")


class Both(nn.Module):
    """The sum of two updates."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, Z: Tensor, X: Tensor) -> Tensor:
        """(B, n, d) twice -> (B, n, d)."""
        return self.one(Z, X) + self.other(Z, X)


class Averages(nn.Module):
    """Each token gets a share of the mean of all tokens."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, Z: Tensor, X: Tensor) -> Tensor:
        """(B, n, d) twice -> (B, n, d)."""
        return self.share * Z.mean(dim=-2, keepdim=True).expand_as(Z)


def _averages_and_places(seed: int) -> ProbeModel:
    """A shift that depends on the sample, and one that depends on the place."""
    U = frame(seed)
    vector = torch.randn(DIM, generator=generator(seed, 3))
    vector = vector - vector.mean()
    vector = vector / torch.linalg.vector_norm(vector)
    signs = (torch.arange(TOKENS) % 2 * 2 - 1)[:, None]
    steps = [Both(Averages(0.7), Bias(signs * vector)) for _ in range(LAYERS)]
    return wrapped([Layer(U, step, norm=layer_norm()) for step in steps], "averages-and-places")


def _signs(seed: int) -> ProbeModel:
    """Six layers along the gradient's fall and four against it, in an order of chance."""
    U = frame(seed)
    order = torch.randperm(LAYERS, generator=generator(seed, 6))
    signs = torch.where(order < 6, 1.0, -1.0).tolist()
    layers = [Layer(U, Gradient(U, sign * KAPPA["none"], "none")) for sign in signs]
    return wrapped(layers, "signs-by-chance")


def _bias_and_a_trace(seed: int) -> ProbeModel:
    U = frame(seed)
    vector = torch.randn(DIM, generator=generator(seed, 3))
    vector = vector - vector.mean()
    vector = 5.0 * vector / torch.linalg.vector_norm(vector)
    steps = [Both(Bias(vector), Gradient(U, _TRACE, "residual")) for _ in range(LAYERS)]
    return wrapped([Layer(U, step, norm=layer_norm()) for step in steps], "bias-and-a-trace")


def _other_image(seed: int) -> ProbeModel:
    """The bank's images are run through the true network; each layer has images of its own."""
    U, norm = frame(seed), layer_norm()
    step = Gradient(U, KAPPA["released"], "released")
    layers = []
    for number in range(LAYERS):
        Z = mixture(seed, _BANK, weak=0.15, part=100 + number)
        for _ in range(number):
            Z = Z + step(Z, norm(Z))
        layers.append(Layer(U, Borrowed(step(Z, norm(Z))), norm=layer_norm()))
    return wrapped(layers, "other-image")


def _random(seed: int) -> ProbeModel:
    U, random = frame(seed), generator(seed, 4)
    layers = []
    for _ in range(LAYERS):
        bank = torch.randn(_BANK, TOKENS, DIM, generator=random)
        step = Gradient(U, KAPPA["released"], "released")
        layers.append(Layer(U, Borrowed(bank, step), norm=layer_norm()))
    return wrapped(layers, "random-updates")


def _rotated(seed: int) -> ProbeModel:
    """A quarter turn in random planes: the update is orthogonal to the true one, token by token."""
    U, Q = frame(seed), rotation(generator(seed, 5))
    a, b = Q.chunk(2, dim=1)
    turn = a @ b.T - b @ a.T
    steps = [Turned(Gradient(U, KAPPA["none"], "none"), turn) for _ in range(LAYERS)]
    return wrapped([Layer(U, step) for step in steps], "rotated")


_WHERE = {
    "none": ("", "without a norm"),
    "released": ("-layernorm", "taken after LayerNorm, added before it, as released code does"),
    "residual": ("-residual", "of R^c(LN(Z)), in the residual stream"),
}

_LOWERS = "a small step against the gradient lowers R^c, and U is the same in every layer"
_JACOBIAN = (
    "; LayerNorm's Jacobian is symmetric and has no negative eigenvalue, so that the gradient "
    "behind it points the way of the one in front"
)

NETWORKS = (
    *(
        Reference(
            f"descent{tail}",
            f"attention = -κ∇R^c, {text}",
            _LOWERS + _JACOBIAN * (at == "released"),
            _steps(f"descent{tail}", at, 1),
            _down,
            _all(SUPPORTED),
        )
        for at, (tail, text) in _WHERE.items()
    ),
    *(
        Reference(
            f"ascent{tail}",
            f"attention = +κ∇R^c, {text}",
            "a step along the gradient raises R^c" + _JACOBIAN * (at == "released"),
            _steps(f"ascent{tail}", at, -1),
            _up,
            _all(CONTRADICTED),
        )
        for at, (tail, text) in _WHERE.items()
    ),
    Reference(
        "bias",
        "one constant vector added to every token, before LayerNorm",
        "R^c after LayerNorm falls, since the common part pushes all else aside; no token's update "
        "looks at any token",
        _bias,
        _up,
        _all(NOT_SUPPORTED),
    ),
    Reference(
        "bias-by-place",
        "one constant vector, added to every other token and taken from those between",
        "as with the bias, and its mean over tokens is zero; what it does adds up over the layers",
        _bias_by_place,
        _up,
        _all(NOT_SUPPORTED),
    ),
    Reference(
        "bias-and-a-trace",
        "the bias, and beside it a gradient step of a hundredth of the size that compresses",
        "the bias does the work: what the step does is sure, and less than a thousandth of R^c",
        _bias_and_a_trace,
        _up,
        _all(NOT_SUPPORTED),
    ),
    Reference(
        "averages-and-places",
        "seven tenths of the mean token, and a vector up and down by place",
        "one depends on the sample and the other on the place: no token's update looks at it, and "
        "neither control alone takes off both",
        _averages_and_places,
        _up,
        _all(NOT_SUPPORTED),
    ),
    Reference(
        "signs-by-chance",
        "attention = -κ∇R^c in six layers and +κ∇R^c in four, in an order of chance",
        "ten throws of a coin give six heads or more in four of ten cases",
        _signs,
        _down,
        _all(NOT_SUPPORTED),
    ),
    Reference(
        "other-image",
        "the true update of another image, from a bank",
        "the update is independent of the sample and of mean zero: its cosine with any gradient "
        "is zero on average, and what it does to R^c is of second order",
        _other_image,
        _down,
        _all(NOT_SUPPORTED),
    ),
    Reference(
        "random-updates",
        "random directions, of the norm of the true update of each token",
        "as with another image's update",
        _random,
        _down,
        _all(NOT_SUPPORTED),
    ),
    Reference(
        "rotated",
        "the true update, turned by a quarter in fixed random planes of the features",
        "turned by a quarter, it is orthogonal to the gradient at every token",
        _rotated,
        _down,
        _all(NOT_SUPPORTED),
    ),
)
