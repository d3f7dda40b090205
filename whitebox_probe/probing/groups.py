"""Which tokens are measured: what the masks of a batch leave. All that uses tokens gets them here.

Samples with the same number of measured tokens are taken together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whitebox_probe._core.errors import DataError, ShapeError, SiteError
from whitebox_probe.sites import SITES

NOT_ONCE = (
    "a module that it is read from was not called exactly once by the model, or the model took its "
    "hooks off",
    "Map a module that is called once in a pass; of a model whose family is known here, report it "
    "with the model's name",
)
"""Why a site that passed several times, or not at all, cannot be measured, and what to do."""


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

    def rank(self, place: int | None, first: Tensor | None = None) -> Tensor | None:
        """Which of the measured tokens stands at a place of the window, (g,); -1: it is left out.

        Args: first: where each window of the batch begins, (B,); at 0 when not given.
        Returns: None without a place, or where all tokens are measured.
        """
        places = self.places(first)
        if place is None or places is None:
            return None
        found = places == place
        return torch.where(found.any(dim=1), found.long().argmax(dim=1), -1)

    def places(self, first: Tensor | None = None) -> Tensor | None:
        """Where each measured token stands, counted from where its window begins: (g, n).

        Args: first: as for `rank`.
        Returns: None where all tokens are measured.
        """
        if self.gather is None or first is None:
            return self.gather
        return self.gather - self.of(first)[:, None].to(self.gather.device)

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


def at_places(mask: Tensor, places: Sequence[int], first: Tensor | None = None) -> Tensor:
    """Whether a token stands at one of the places of its window; shapes: mask (B, n) -> (B, n).

    Args: first: where each window begins, (B,); at 0 when not given.
    """
    of_window = torch.arange(mask.shape[1])[None]
    if first is not None:
        of_window = of_window - first.cpu()[:, None]
    return torch.isin(of_window, torch.tensor(places)).expand_as(mask).to(mask.device)


def from_first(tokens: Tensor, first: Tensor | None) -> Tensor:
    """Something of each token of a batch, moved to where its window begins; zeros behind it.

    Shapes: tokens (B, n, ...); first: where each window begins, (B,); at 0 when not given.
    """
    if first is None:
        return tokens
    n = tokens.shape[1]
    at = torch.arange(n)[None] + first.cpu()[:, None]
    beside = (..., *[None] * (tokens.ndim - 2))
    moved = tokens.take_along_dim(at.clamp_max(n - 1)[beside].to(tokens.device), dim=1)
    return moved.masked_fill((at >= n)[beside].to(tokens.device), 0)


def without(tensor: Tensor, axis: int, places: Sequence[int]) -> Tensor:
    """The tokens of whole windows that stand elsewhere; `axis` counts the tokens."""
    count = tensor.shape[axis]
    if list(places) == list(range(len(places))):
        return tensor.narrow(axis, len(places), count - len(places))
    kept = [place for place in range(count) if place not in places]
    return tensor.index_select(axis, torch.tensor(kept, device=tensor.device))


def measured_rows(Z: Tensor, mask: Tensor | None) -> Tensor:
    """All measured tokens of a batch, sample after sample; shapes: Z (B, n, d) -> (N, d)."""
    expect_fits(mask, Z.shape[1])
    return Z.flatten(0, 1) if mask is None else Z[mask.to(Z.device)]


def measured_mean(Z: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of each sample's measured tokens; shapes: Z (B, n, d) -> (B, d)."""
    expect_fits(mask, Z.shape[1])
    found = Z.new_empty(Z.shape[0], Z.shape[2])
    for group in groups_of(mask):
        found[slice(None) if group.rows is None else group.rows] = group.take(Z, 1).mean(dim=1)
    return found


def expect_rows(tensor: Tensor, site: str, layer: int, samples: int) -> None:
    """Check that a site holds a row for each sample of the batch, and something in it.

    Raises: SiteError; of other rows none would be known to be of which sample.
    """
    rows = tensor.size(0) if tensor.ndim else 0
    if rows != samples:
        raise SiteError(
            f"'{site}' of layer {layer} holds {rows} rows for {samples} samples",
            "the model's forward pass drops, joins or doubles samples in front of it, and each "
            "row is to be a sample's own",
            "Map a module that is given whole batches, or mend the forward pass",
        )
    if not tensor.numel():
        raise SiteError(
            f"'{site}' of layer {layer} holds no token",
            f"what passes there has the shape {tuple(tensor.shape)}",
            "Leave samples without tokens out, or mend the forward pass",
        )


def expect_same_tokens(sites: Mapping[str, Tensor], layer: int, measure: str) -> None:
    """Check that a measure of several sites of a layer finds the same tokens at each.

    Raises: ShapeError; of a layer that drops, joins or adds tokens none is known to be which.
    """
    counts = {
        site: Z.shape[SITES[site].token_axis]
        for site, Z in sorted(sites.items())
        if SITES[site].role != "map"  # of whole windows, masked or not
    }
    if len(set(counts.values())) > 1:
        held = ", ".join(f"{n} at '{site}'" for site, n in counts.items())
        raise ShapeError(
            f"'{measure}' cannot be measured in layer {layer}",
            f"it follows tokens, and the layer drops, joins or adds some: it has {held}",
            "Leave it out",
        )


def expect_fits(mask: Tensor | None, count: int) -> None:
    """Raises: DataError for masks of another number of tokens than the model's layers have."""
    if mask is not None and mask.shape[1] != count:
        raise DataError(
            f"the samples' masks are of {mask.shape[1]} tokens",
            f"the model's layers have {count}",
            "Give one boolean a token, those before the patches included; or pass samples without "
            "padding, of several lengths with a batch size of 1",
        )


def expect_some(
    mask: Tensor | None, ids: Tensor, why: str = "its mask leaves all of them out"
) -> None:
    """Raises: DataError for a sample of which no token is measured."""
    if mask is not None and not bool(mask.any(dim=1).all()):
        raise DataError(
            f"sample {int(ids[~mask.any(dim=1)][0])} has no token to measure",
            why,
            "Remove that sample, or mend its mask",
        )
