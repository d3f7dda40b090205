"""What families whose queries, keys and values are one projection share: how they are read."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from whitebox_probe.models.anatomy import Anatomy, Dims, Layer, Tap
from whitebox_probe.models.families._steps import OneProjection

_ONE = "queries, keys and values are one projection, recorded as 'heads'"
ONE_PROJECTION = {"heads_q": _ONE, "heads_k": _ONE, "heads_v": _ONE}
"""Why a family of one projection has no separate queries, keys and values."""


def square_grid(tokens: int | None, prefix: int) -> tuple[int, int] | None:
    """The grid of a network that takes square images; None for text."""
    if tokens is None:
        return None
    side = math.isqrt(tokens - prefix)
    return side, side


@dataclass(frozen=True)
class Parts:
    """Where the parts of a layer are, as paths.

    Attributes:
        attention: the `OneProjection`. norm: the normalisation in front of it.
        taps: of every site but the attention's own ones.
        step: the proximal step, which tells its `operators`; empty where the layer has none.
        exempt, causal: as of `Layer`.
    """

    attention: str
    norm: str
    taps: Mapping[str, Tap]
    step: str = ""
    exempt: Mapping[str, str] = field(default_factory=dict)
    causal: bool = False


class OneProjectionAnatomy(Anatomy):
    """One projection, and perhaps a proximal step after it; a subclass says where its parts are."""

    default_basis = "native"
    absent = ONE_PROJECTION

    @abstractmethod
    def count(self, module: Any) -> int:
        """How many layers there are."""

    @abstractmethod
    def parts(self, module: Any, number: int) -> Parts:
        """Where the parts of a layer (counted from 1) are."""

    def tokens(self, module: Any) -> int | None:
        """How many tokens there are; None where a window may have any length."""
        return None

    def dims(self, module: nn.Module) -> Dims:
        """Read the sizes from the first layer's attention."""
        K, d, p = self.attention(module, self.parts(module, 1)).subspaces().shape
        return Dims(self.count(module), dim=d, heads=K, dim_head=p, tokens=self.tokens(module))

    def layer(self, module: nn.Module, number: int) -> Layer:
        """The attention's own sites are read where its projection leaves."""
        parts = self.parts(module, number)
        attention = self.attention(module, parts)
        projected = f"{parts.attention}.{attention.projection}"
        own = {site: Tap(projected, "output", of) for site, of in attention.sites().items()}
        step = self.step(module, parts) if parts.step else None
        return Layer(
            number,
            {**parts.taps, **own},
            norm=module.get_submodule(parts.norm),
            bases=lambda basis: attention.subspaces(),
            operators={} if step is None else step.operators(),
            exempt=parts.exempt,
            causal=parts.causal,
            out=self.out(module, parts),
            update=self.update(module, parts),
        )

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """Its own subspaces, and no separate queries, keys and values."""
        return ("native",)

    def official_site(self, basis: str) -> str:
        """The output of the projection, as the release of CRATE hooks it."""
        return "heads"

    def attention(self, module: nn.Module, parts: Parts) -> OneProjection:
        """What reads the attention: itself, where it is this package's own."""
        found = module.get_submodule(parts.attention)
        assert isinstance(found, OneProjection)
        return found

    def step(self, module: nn.Module, parts: Parts) -> Any:
        """What tells the operators of the proximal step: itself, likewise."""
        return module.get_submodule(parts.step)

    def out(self, module: nn.Module, parts: Parts) -> nn.Module | None:
        """The attention's output map, where it is to be tried."""
        return None

    def update(self, module: nn.Module, parts: Parts) -> Callable[[Tensor], Tensor] | None:
        """What the attention is to make of its input, where that is to be tried."""
        return None
