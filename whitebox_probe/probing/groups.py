"""Samples of a batch with the same number of measured tokens: what their masks leave."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Group:
    """Samples with the same number of measured tokens.

    `rows` are their places in the batch (None: all of it); `gather` (g, n) says which tokens are
    measured (None: all), since masked ones are never part of a measure.
    """

    rows: Tensor | None = None
    gather: Tensor | None = None

    def take(self, tensor: Tensor, axis: int) -> Tensor:
        """The measured tokens of the group; `axis` of (B, ...) counts the tokens."""
        if self.rows is None:
            return tensor
        tensor = tensor[self.rows]
        if self.gather is None:
            return tensor
        shape = [1] * tensor.ndim
        shape[0], shape[axis] = self.gather.shape
        return torch.take_along_dim(tensor, self.gather.view(shape), dim=axis)

    def of(self, batch: Tensor) -> Tensor:
        """The group's rows of something that the batch has one of a sample, (B,)."""
        return batch if self.rows is None else batch[self.rows.to(batch.device)]


def groups_of(mask: Tensor | None) -> list[Group]:
    """Sort the samples of a batch by how many tokens are measured; shapes: mask (B, n)."""
    if mask is None or bool(mask.all()):
        return [Group()]
    counts = mask.sum(dim=1)
    found = []
    for n in counts.unique().tolist():
        rows = (counts == n).nonzero()[:, 0]
        gather = mask[rows].nonzero()[:, 1].view(len(rows), n)
        found.append(Group(rows, gather))
    return found
