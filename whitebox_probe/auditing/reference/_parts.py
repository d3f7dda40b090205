"""What the reference networks are made of: tokens on subspaces, a stack of layers, its mapping."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.wrap import wrap

LAYERS = 10
DIM = 32
HEADS = 4
DIM_HEAD = 8
"""K p = d: heads can be orthogonal, and then they fill the space."""
TOKENS = 32
RANK = 3
"""How many directions of each subspace the clusters of the tokens use."""
EPS = 0.1
"""The coding precision of the gradients inside the networks: the default of the measures."""

Draw = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class Reference:
    """A small network whose truth holds by construction.

    Attributes:
        name: what tables call it. text: what it is. truth: why what is expected of it holds.
        make: seed -> the model. draw: (seed, samples) -> its tokens.
        expected: claim -> verdict, of the claims that the construction settles.
        signs: measure -> the sign of its mean in every layer, where no claim is about it.
    """

    name: str
    text: str
    truth: str
    make: Callable[[int], ProbeModel]
    draw: Draw
    expected: Mapping[str, str]
    signs: Mapping[str, int] = field(default_factory=dict)

    def build(self, seed: int = 0) -> ProbeModel:
        """The network, ready for `wp.audit`; the same for the same seed."""
        return self.make(seed)

    def data(self, seed: int = 0, samples: int = 64) -> Tensor:
        """Tokens for the network of that seed, (samples, n, d); what enters its first layer."""
        return self.draw(seed, samples)


def generator(seed: int, part: int) -> torch.Generator:
    """The random numbers of one part of a network: the caller's own stay where they are."""
    return torch.Generator().manual_seed(1000 * seed + part)


def rotation(random: torch.Generator, dim: int = DIM) -> Tensor:
    """A random orthogonal matrix, (dim, dim)."""
    drawn = torch.randn(dim, dim, generator=random, dtype=torch.float64)
    return torch.linalg.qr(drawn)[0].float()


def frame(seed: int) -> Tensor:
    """Orthonormal bases of orthogonal subspaces that fill the space, (K, d, p)."""
    return rotation(generator(seed, 1)).reshape(DIM, HEADS, DIM_HEAD).transpose(0, 1).contiguous()


def mixture(seed: int, samples: int, *, weak: float, part: int = 2) -> Tensor:
    """A mixture on the subspaces of `frame`, one a token, and noise; (samples, n, d).

    A token lies in the first `RANK` directions of its subspace, with norm sqrt(RANK). The noise has
    deviation 0.3 in those directions of every subspace, and `weak` in the others: R^c can fall by
    the noise that goes, and rise by the noise that comes.
    """
    random = generator(seed, part)
    U = frame(seed)
    cluster = torch.randint(HEADS, (samples, TOKENS), generator=random)
    within = torch.randn(samples, TOKENS, RANK, generator=random)
    within = within * RANK**0.5 / torch.linalg.vector_norm(within, dim=-1, keepdim=True)
    noise = torch.randn(samples, TOKENS, HEADS, DIM_HEAD, generator=random)
    noise = noise * torch.where(torch.arange(DIM_HEAD) < RANK, 0.3, weak)
    noise[..., :RANK] += nn.functional.one_hot(cluster, HEADS)[..., None] * within.unsqueeze(2)
    return torch.einsum("kdp,bnkp->bnd", U, noise)


class Layer(nn.Module):
    """Z + attention, then the second step.

    Args:
        U: the subspaces, (K, d, p). attention: a module of (Z, X) that gives the update, X the
            tokens after the norm. norm: in front of the attention. second: the second step, with
            its own `norm`; nothing when not given.
    """

    def __init__(
        self,
        U: Tensor,
        attention: nn.Module,
        *,
        norm: nn.Module | None = None,
        second: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm = norm or nn.Identity()
        K, d, p = U.shape
        # Not drawn first, so that the caller's random numbers stay where they are.
        self.project = skip_init(nn.Linear, d, K * p, bias=False)
        self.project.weight.data = U.mT.reshape(K * p, d).clone()
        self.attention = attention
        self.second = second or Nothing()

    def forward(self, Z: Tensor) -> Tensor:
        """(B, n, d) -> (B, n, d)."""
        X = self.norm(Z)
        self.project(X)  # for the site `heads`
        return self.second(Z + self.attention(Z, X))


class Nothing(nn.Module):
    """A second step that changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.Identity()

    def forward(self, Z: Tensor) -> Tensor:
        """(B, n, d) -> the same."""
        return self.norm(Z)


class Still(nn.Module):
    """An attention that adds zero."""

    def forward(self, Z: Tensor, X: Tensor) -> Tensor:
        """(B, n, d) twice -> (B, n, d)."""
        return torch.zeros_like(Z)


class Stack(nn.Module):
    """Layers, one after the other, and nothing else."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, Z: Tensor) -> Tensor:
        """(B, n, d) -> (B, n, d)."""
        for layer in self.layers:
            Z = layer(Z)
        return Z


def layer_norm() -> nn.LayerNorm:
    """A LayerNorm without parameters."""
    return nn.LayerNorm(DIM, elementwise_affine=False)


_SITES = {
    "z_in": "layers.{layer}:input",
    "attn_in": "layers.{layer}.norm:output",
    "heads": "layers.{layer}.project:output",
    "attn_out": "layers.{layer}.attention:output",
    "z_half": "layers.{layer}.second:input",
    "mlp_in": "layers.{layer}.second.norm:output",
    "z_out": "layers.{layer}:output",
}


def wrapped(
    layers: Sequence[Layer],
    name: str,
    *,
    operators: Mapping[str, Any] | None = None,
    causal: bool = False,
    code: bool = False,
) -> ProbeModel:
    """The layers as a model, all of their sites mapped.

    Args:
        operators: `D`, `lam` and `eta` of a proximal second step. causal: whether the attention has
            a causal mask. code: whether the second step has a site `code`.
    """
    sites = _SITES | ({"code": "layers.{layer}.second.code:output"} if code else {})
    normed = not isinstance(layers[0].norm, nn.Identity)
    return wrap(
        Stack(layers).eval(),
        name=name,
        sites=sites,
        heads=HEADS,
        dim_head=DIM_HEAD,
        dim=DIM,
        subspaces="layers.{layer}.project.weight",
        prenorm="layers.{layer}.norm" if normed else None,
        operators=operators,
        causal=causal,
    )
