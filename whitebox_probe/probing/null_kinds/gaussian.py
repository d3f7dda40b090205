"""Gaussian tokens in place of the model's."""

import torch
from torch import Tensor

from whitebox_probe.probing.null import Null


class Gaussian(Null):
    """Independent Gaussian tokens, each scaled to the norm of the token that it stands in for."""

    kind = "gaussian"
    text = "Gaussian tokens of the same number, width and norms"
    line = ":"
    replaces = "tokens"
    usual = True

    def tokens(self, z: Tensor, random: torch.Generator) -> Tensor:
        """Of the same norms, token by token."""
        noise = torch.randn(z.shape, generator=random, dtype=torch.float32).to(z)
        norms = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
        return noise / torch.linalg.vector_norm(noise, dim=-1, keepdim=True) * norms
