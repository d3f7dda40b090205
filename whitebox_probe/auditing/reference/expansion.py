"""Networks whose R is known on the way: tokens that collapse, and come back."""

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
    mixture,
    wrapped,
)
from whitebox_probe.auditing.verdicts import CONTRADICTED, NOT_SUPPORTED, SUPPORTED
from whitebox_probe.models.model import ProbeModel

SQUASHED = 30
"""How many of the axes are squashed, of d."""
_BY = 1e-2


class Scale(nn.Module):
    """Each feature times a number of its own."""

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.norm = nn.Identity()
        self.register_buffer("factors", factors)
        self.factors: Tensor

    def forward(self, Z: Tensor) -> Tensor:
        """(B, n, d) -> (B, n, d)."""
        return self.norm(Z) * self.factors.to(Z.dtype)


def _scaling(name: str, powers: Sequence[int]) -> Callable[[int], ProbeModel]:
    """Layers that squash the axes (1), give them back (-1), or do nothing (0)."""

    def make(seed: int) -> ProbeModel:
        squashed = (torch.arange(DIM) < SQUASHED).float()
        factors = [(_BY**power - 1) * squashed + 1 for power in powers]
        layers = [Layer(frame(seed), Still(), second=Scale(each)) for each in factors]
        return wrapped(layers, name)

    return make


_STILL = [0] * LAYERS
_ROWS: tuple[tuple[str, str, list[int], str], ...] = (
    ("collapse", "are squashed in the fourth layer", [0, 0, 0, 1, 0, 0, 0, 0, 0, 0], CONTRADICTED),
    (
        "collapse-at-the-end",
        "are squashed in the last layer",
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        CONTRADICTED,
    ),
    (
        "collapse-and-return",
        "are squashed in the fourth layer, and given back in the last but one",
        [0, 0, 0, 1, 0, 0, 0, 0, -1, 0],
        NOT_SUPPORTED,
    ),
    ("keeps", "are left as they are", _STILL, SUPPORTED),
)

NETWORKS = tuple(
    Reference(
        name,
        f"all axes but two {text}",
        "R is that of the tokens on two axes where the others are squashed",
        _scaling(name, powers),
        partial(mixture, weak=0.15),
        {"keeps_expanding": verdict, "incoherent_subspaces": SUPPORTED},
    )
    for name, text, powers, verdict in _ROWS
)
