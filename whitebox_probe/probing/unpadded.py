"""Samples without their padding, for a module that a user mapped.

Of a family that is known here its own mask is told to it, which its code heeds. Of any other module
nothing is known: the name of a parameter says what a mask means, and not that the code agrees; a
part that says that it is causal may not be the one that matters; positions may count padding. So
each sample is given as long as it is, beside those of its length, as if it had come so.

A module that takes windows of one length alone is given the mask, as it is where tokens are left
out in the midst of a sample. In every such batch other tokens are put in the place of padding: no
site of any layer may hold anything else for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.data._masks import TAKEN
from whitebox_probe.data.source import Batch, Batches, Source
from whitebox_probe.models.guest import guest
from whitebox_probe.models.hooks import Sink, attach
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.padding import UNPADDED, arguments, is_text, kept, mask_name, refused
from whitebox_probe.sites import SITES


def without_padding(model: ProbeModel, source: Source) -> Source:
    """The source as a model is given it: of a family that is known to heed its mask, as it is."""
    name = mask_name(model.module)
    if model.family is not None and name in (None, "attention_mask"):
        return source

    def batches(*given: Any, **more: Any) -> Batches:
        taking = _Taking(model, name)
        with closing(source.batches(*given, **more)) as stream:
            for batch in stream:
                # All of them first: an error leaves no batch that is measured in part.
                yield from list(taking.parts(batch))

    return replace(source, batches=batches)


@dataclass
class _Taking:
    """How a module takes samples of several lengths.

    Attributes: name: of its mask, if it has one. fits: length -> whether it takes it.
    """

    model: ProbeModel
    name: str | None
    fits: dict[int, bool] = field(default_factory=dict)

    def parts(self, batch: Batch) -> Iterator[Batch]:
        """A batch, taken apart where it has padding.

        Raises: DataError where padding cannot be taken away, and changes other tokens.
        """
        keep = self._kept(batch)
        if keep is None:
            yield batch
            return
        n = keep.shape[1]
        rows: dict[tuple[int, int], list[int]] = {}
        whole: list[int] = []
        for row, places in enumerate(keep):
            at = places.nonzero()[:, 0]
            first, last = int(at[0]), int(at[-1]) + 1
            (whole if len(at) < last - first else rows.setdefault((first, last), [])).append(row)
        cut = []
        for (first, last), some in sorted(rows.items(), key=lambda each: each[1]):
            part = _cut(batch, some, first, last)
            if last - first == n or self._fits(part, last - first, batch):
                cut.append(part)
            else:
                whole += some
        if whole:
            rest = _rows(batch, sorted(whole))
            self._expect_heeded(rest)
            cut.append(rest)
        yield from (replace(part, ends=part is cut[-1]) for part in cut)

    def _kept(self, batch: Batch) -> Tensor | None:
        """Which tokens are no padding, (B, n); None where none is, or nothing can be measured."""
        if len(batch.ids) == 0:
            return None
        keep = kept(self.model, batch.inputs, batch.mask, batch.attended)
        if keep is None or batch.inputs.shape[:2] != keep.shape or bool(keep.all()):
            return None
        return keep if bool(keep.any(dim=1).all()) else None

    def _fits(self, part: Batch, length: int, batch: Batch) -> bool:
        """Whether the module takes samples of a length, and its layers hold tokens of theirs alone.

        They have one token for each, or as many more as for whole windows, such as a class token,
        or the same share of them. A module that pads to a length of its own is given the mask.
        """
        if length not in self.fits:
            count, n = self._count(part), batch.inputs.shape[1]
            self.fits[length] = count == length
            if count not in (None, length):
                whole = self._count(_cut(batch, [0], 0, n)) or 0
                self.fits[length] = count - length == whole - n or count * n == whole * length
        return self.fits[length]

    def _count(self, batch: Batch) -> int | None:
        """How many tokens the layers hold; None where they differ, or the pass fails."""
        counts: set[int] = set()
        sites = self._streams() or self.model.sites
        more = self._more(batch)
        ran = self._pass(batch.inputs, more, lambda _, __, Z: counts.add(Z.shape[1]), sites)
        return counts.pop() if ran and len(counts) == 1 else None

    def _streams(self) -> list[str]:
        return [site for site in self.model.sites if SITES[site].role != "map"]

    def _expect_heeded(self, batch: Batch) -> None:
        """Raises: DataError where what stands in the place of padding changes other tokens."""
        keep = self._kept(batch)
        if keep is None:
            return
        if is_text(batch.inputs) and not bool(keep[:, 0].all()):
            why = "it takes windows of one length, and padding on the left may shift its positions"
            raise refused(self.model, why, UNPADDED)
        more = self._more(batch)
        given = self.name if self.name in more else None
        before: dict[tuple[str, int], Tensor] = {}
        moved: list[str] = []

        def hold(site: str, layer: int, Z: Tensor) -> None:
            before[site, layer] = Z.clone()

        def compare(site: str, layer: int, Z: Tensor) -> None:
            was = before[site, layer]
            if Z.shape[:2] == keep.shape and _moved(was, Z, keep.to(Z.device)):
                moved.append(site)

        if not self._pass(batch.inputs, more, hold):
            if given is not None:
                self._expect_taken(batch, given, more[given])  # else told by the pass itself
        elif not self._pass(_other(batch.inputs, keep), more, compare) or moved:
            raise _unheeded(self.model, given)

    def _expect_taken(self, batch: Batch, name: str, mask: Tensor) -> None:
        """Raises: DataError for a module that runs, and not with the mask as it is given."""
        if self._pass(batch.inputs, {}, lambda *_: None):
            raise refused(
                self.model,
                f"its forward fails where it is given '{name}' of {mask.dtype}",
                "Have it take 'attention_mask' as whole numbers (1: no padding), or call the "
                "parameter 'mask' (True: no padding) or 'key_padding_mask' (True: padding), which "
                "are boolean",
            )

    def _more(self, batch: Batch) -> Mapping[str, Tensor]:
        inputs = batch.inputs.to(self.model.device)
        return arguments(self.model, inputs, batch.mask, (), batch.attended)

    def _pass(
        self, inputs: Tensor, more: Mapping[str, Tensor], sink: Sink, sites: Sequence[str] = ()
    ) -> bool:
        """Run a batch; `sink` gets each site's tokens, (B, n, ...). Whether the pass went through.

        Args: more: what the module is given beside. sites: all but maps of tokens by tokens, if
            not given.
        """
        model, sites = self.model, sites or self._streams()
        layers = range(1, model.layers + 1)  # all, as in a pass: torch's fast paths heed hooks
        inputs = inputs.to(model.device, copy=True)

        def take(site: str, layer: int, Z: Tensor) -> None:
            sink(site, layer, Z.movedim(SITES[site].token_axis, 1))

        with torch.autocast(inputs.device.type, enabled=False), guest(model.module):
            try:
                with attach(model, sites, layers, take):
                    model.module(inputs, **more)
            except Exception:  # whatever the model's own code raises: the pass tells it
                return False
        return True


def _rows(batch: Batch, rows: list[int]) -> Batch:
    """Some rows of a batch."""

    def some(of: Tensor | None) -> Any:
        return None if of is None else of[torch.tensor(rows, device=of.device)]

    return replace(
        batch,
        ids=some(batch.ids),
        inputs=some(batch.inputs),
        identities=some(batch.identities),
        labels=some(batch.labels),
        mask=some(batch.mask),
        attended=some(batch.attended),
        rows=torch.tensor(rows),
    )


def _cut(batch: Batch, rows: list[int], first: int, last: int) -> Batch:
    """Some rows of a batch, from their first token that is no padding to their last one."""
    part = _rows(batch, rows)
    inputs = part.inputs[:, first:last]
    mask = None if part.mask is None else part.mask[:, first:last]
    if mask is not None and bool(mask.all()):
        mask = None  # the layers may have other tokens too, such as a class token
    # Said, as special tokens at the ends might pass for padding once more.
    attended = torch.ones(inputs.shape[:2], dtype=torch.bool)
    return replace(part, inputs=inputs, mask=mask, attended=attended)


def _unheeded(model: ProbeModel, name: str | None) -> ProbeError:
    if name is None:
        return refused(model, "what stands in padding changes its tokens", UNPADDED)
    meant = "padding" if TAKEN[name] else "what is attended to"
    return refused(
        model,
        f"what stands in padding changes its tokens, though its '{name}' says where that is",
        f"Have its forward heed '{name}', as True (or 1) for {meant}. {UNPADDED}",
    )


def _other(inputs: Tensor, keep: Tensor) -> Tensor:
    """The inputs, (B, n) or (B, n, d), with another token in each place of padding.

    One of those that are none, which the module is made for.
    """
    known, before = inputs[keep], inputs[~keep]  # (m) or (m, d)
    drawn = torch.randint(len(known), (len(before),), generator=torch.Generator().manual_seed(0))
    new = known[drawn]
    if inputs.ndim == 2:
        one, two = [*dict.fromkeys([*known.unique().tolist()[:2], 0, 1])][:2]
        other = torch.where(before == one, two, one).to(inputs)
        new = torch.where(new == before, other, new)
    else:
        alike = (new == before).all(dim=-1, keepdim=True)
        new = torch.where(alike, new.roll(1, dims=-1) + 1, new)
    out = inputs.clone()
    out[~keep] = new
    return out


def _moved(one: Tensor, two: Tensor, keep: Tensor) -> bool:
    """Whether tokens that are no padding, (B, n), moved by more than a last digit of theirs.

    One pass is as another to the last bit; what weights of zero leave of padding is nothing.
    """
    slack = torch.finfo(one.dtype).eps if one.is_floating_point() else 0.0
    one, two = (each[keep].flatten(1).double() for each in (one, two))  # (m, ...)
    same = (one == two) | (one.isnan() & two.isnan())
    apart = (one - two).masked_fill(same, 0.0).norm(dim=1)
    return not bool((apart <= slack * one.norm(dim=1)).all())
