"""What the families of Token Statistics Transformers share: their attention, and its sites."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from whitebox_probe.models.anatomy import Tap
from whitebox_probe.models.families._one_projection import (
    ONE_PROJECTION,
    OneProjectionAnatomy,
    Parts,
)
from whitebox_probe.models.families._steps import OneProjection, head_width

MASS_EPS = 1e-8  # beside the tokens that a head takes


class TokenStatistics(OneProjection, ABC):
    """What the token statistics attentions share, between their two linear maps.

    W are the projected tokens, head by head;  Pi = softmax over heads of temp_k sum_c s_knc, with
    s the channels' shares of energy;  out = -Pi_kn w_knc / (1 + m_knc), with m the second moments.
    A subclass says over which tokens shares and moments are taken.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(heads, head_width(dim, heads))
        self.temp = nn.Parameter(torch.ones(heads, 1))

    @abstractmethod
    def shares(self, W: Tensor) -> Tensor:
        """Each token's share of each channel's energy: (B, K, n, p) -> (B, K, n, p)."""

    @abstractmethod
    def moments(self, W: Tensor, Pi: Tensor) -> Tensor:
        """Second moments of the channels, by memberships Pi (B, K, n, 1): -> (B, K, 1 or n, p)."""

    def memberships(self, projected: Tensor) -> Tensor:
        """How much of each token each head takes; 1 over the heads: (B, n, K*p) -> (B, K, n)."""
        shares = self.shares(self.split(projected)).sum(dim=-1)  # (B, K, n)
        return (shares * self.temp).softmax(dim=1)

    def step(self, projected: Tensor) -> Tensor:
        """The tokens' step against the gradient, before the last map: (B, n, K*p), as it came."""
        W = self.split(projected)  # (B, K, n, p)
        Pi = self.memberships(projected)[..., None]  # (B, K, n, 1)
        out = -Pi * W / (1 + self.moments(W, Pi))
        return out.transpose(1, 2).flatten(2)

    def sites(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """The projections w, bias included, and how the heads share each token."""
        return super().sites() | {"memberships": self.memberships}


class TokenStatisticsAnatomy(OneProjectionAnatomy):
    """Token statistics attention, then an MLP; a subclass says how its release names the parts.

    `heads` holds the projections w, bias included; `memberships` how the heads share each token;
    `attn_out` is the update scaled by gamma1.
    """

    absent = {
        "attn_weights": "its attention makes no n x n weights; record 'memberships'",
        "code": "its MLP makes no sparse code; record 'mlp_hidden'",
    } | ONE_PROJECTION
    blocks: ClassVar[str]
    """Path of the list of blocks."""
    norms: ClassVar[tuple[str, str]]
    """The norms in front of the attention and of the MLP."""
    down: ClassVar[str]
    """The MLP's last linear map."""
    causal: ClassVar[bool] = False
    """Whether a token is judged by itself and the tokens before it alone."""

    def count(self, module: nn.Module) -> int:
        """The blocks; n is not fixed."""
        return len(module.get_submodule(self.blocks))  # type: ignore[arg-type]

    def parts(self, module: nn.Module, number: int) -> Parts:
        """Where the release has them."""
        path = f"{self.blocks}.{number - 1}"
        block: Any = module.get_submodule(path)

        def scaled(update: Tensor) -> Tensor:
            return block.gamma1 * update

        taps = {
            "z_in": Tap(path, "input"),
            "attn_in": Tap(f"{path}.attn", "input"),
            "attn_out": Tap(f"{path}.attn", "output", scaled),
            "z_half": Tap(f"{path}.{self.norms[1]}", "input"),
            "mlp_in": Tap(f"{path}.mlp", "input"),
            "mlp_hidden": Tap(f"{path}.mlp.{self.down}", "input"),
            "z_out": Tap(path, "output"),
        }
        biased = {"heads_without_bias": "its projection has a bias, which U leaves out"}
        projection: Any = block.attn.get_submodule(block.attn.projection)
        exempt = {} if getattr(projection, "bias", None) is None else biased
        return Parts(
            f"{path}.attn", f"{path}.{self.norms[0]}", taps, exempt=exempt, causal=self.causal
        )

    def prefix_tokens(self, module: nn.Module) -> int:
        """None: an image's class token joins after the measured layers, a window is all text."""
        return 0
