"""What CRATE and CBT share: an attention, then an ISTA step, each behind its own norm."""

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from whitebox_probe.models.anatomy import Tap
from whitebox_probe.models.families._official import OfficialISTA, trial
from whitebox_probe.models.families._one_projection import (
    ONE_PROJECTION,
    OneProjectionAnatomy,
    Parts,
    square_grid,
)
from whitebox_probe.models.families._steps import ISTA, PreNorm


class Pairs(nn.Module):
    """The stack of layers; each is an attention with its skip connection, then ISTA without one.

    Args: attention: makes that of one layer.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        attention: Callable[[], nn.Module],
        *,
        step_size: float,
        lam: float,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for _ in range(depth):
            first = PreNorm(dim, attention())
            self.layers.append(nn.ModuleList([first, PreNorm(dim, ISTA(dim, step_size, lam))]))

    def forward(self, x: Tensor) -> Tensor:
        layer: Any
        for layer in self.layers:
            attention, ista = layer
            x = ista(x + attention(x))
        return x


class PairsAnatomy(OneProjectionAnatomy):
    """The pairs of steps of a network of this package, or of one of the official code."""

    absent = {"mlp_hidden": "an ISTA block has no hidden activation"} | ONE_PROJECTION
    network: ClassVar[type[nn.Module]]
    """The network of this package; any other is tried when a model is made."""

    def count(self, module: Any) -> int:
        """The pairs of steps."""
        return len(module.transformer.layers)

    def tokens(self, module: Any) -> int:
        """The class token and the patches."""
        return module.pos_embedding.shape[1]

    def parts(self, module: Any, number: int) -> Parts:
        """Each step stands behind its own norm."""
        first, second = (f"transformer.layers.{number - 1}.{step}" for step in (0, 1))
        taps = {
            "z_in": Tap(first, "input"),
            "attn_in": Tap(f"{first}.fn", "input"),
            "attn_out": Tap(first, "output"),
            "z_half": Tap(second, "input"),
            "mlp_in": Tap(f"{second}.fn", "input"),
            "z_out": Tap(second, "output"),
        }
        return Parts(f"{first}.fn", f"{first}.norm", taps, step=f"{second}.fn")

    def step(self, module: nn.Module, parts: Parts) -> Any:
        """Its own, or one of the official code."""
        found = module.get_submodule(parts.step)
        return found if isinstance(found, ISTA) else OfficialISTA(found)

    def trial(self, module: nn.Module) -> Callable[[], object] | None:
        """The official code's layers are run: they are not of this package."""
        return None if isinstance(module, self.network) else trial(module)

    def prefix_tokens(self, module: nn.Module) -> int:
        """The class token."""
        return 1

    def grid(self, module: Any, inputs: Tensor) -> tuple[int, int] | None:
        """That of the images that the network is built for."""
        known: tuple[int, int] | None = getattr(module, "patch_grid", None)
        return known or square_grid(self.tokens(module), self.prefix_tokens(module))
