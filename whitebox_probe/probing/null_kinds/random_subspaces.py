"""Random subspaces in place of the model's."""

import torch
from torch import Tensor

from whitebox_probe.metrics._linalg import orthonormalise
from whitebox_probe.probing.null import Null


class RandomSubspaces(Null):
    """The model's tokens in orthonormal bases of uniformly drawn subspaces of the same sizes."""

    kind = "random_subspaces"
    text = "the model's tokens in uniformly drawn subspaces"
    line = (0, (1, 1, 3, 1))
    replaces = "subspaces"
    usual = True

    def subspaces(self, U: Tensor, random: torch.Generator) -> Tensor:
        """Of the sizes of U."""
        return orthonormalise(torch.randn(U.shape, generator=random, dtype=torch.float32))
