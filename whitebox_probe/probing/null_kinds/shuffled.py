"""The model's tokens with each feature in another order."""

import torch
from torch import Tensor

from whitebox_probe.probing.null import Null


class Shuffled(Null):
    """Each feature keeps its values, in another order over the tokens of its sample."""

    kind = "shuffled"
    text = "each feature's values in another order over the tokens of its sample"
    replaces = "tokens"

    def tokens(self, z: Tensor, random: torch.Generator) -> Tensor:
        """One order a feature."""
        drawn = torch.rand(z.shape, generator=random, dtype=torch.float32)
        order = drawn.argsort(dim=-2).to(z.device)
        return torch.take_along_dim(z, order, dim=-2)
