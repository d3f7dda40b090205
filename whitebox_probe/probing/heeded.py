"""Whether a module that a user mapped keeps its tokens from padding by the mask that it is given.

The name of a parameter says what its mask means, and not that the code agrees: `mask` is True for
padding to some. It is tried on the first batch with padding, in which other tokens are put in the
place of padding: what the last layer makes of the tokens stays as it was.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from whitebox_probe.data._masks import TAKEN
from whitebox_probe.data.source import Batch, Batches, Source
from whitebox_probe.models.guest import guest
from whitebox_probe.models.hooks import attach
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.padding import UNPADDED, arguments, kept, mask_name, refused

_STREAM = ("z_out", "z_half", "z_in")
_MOST = 2
"""So many samples are tried."""


def with_trial(model: ProbeModel, source: Source) -> Source:
    """The source, whose first batch with padding is tried; of a family that is known to heed it."""
    name = mask_name(model.module)
    site = next((each for each in _STREAM if each in model.sites), None)
    known = model.family is not None and name == "attention_mask"
    if known or name is None or site is None:
        return source

    def batches(*given: Any, **more: Any) -> Batches:
        tried = False
        with closing(source.batches(*given, **more)) as stream:
            for batch in stream:
                tried = tried or (len(batch.ids) > 0 and _tried(model, batch, name, site))
                yield batch

    return replace(source, batches=batches)


def _tried(model: ProbeModel, batch: Batch, name: str, site: str) -> bool:
    """Whether a batch has padding of which the model is told, and was tried.

    Raises: DataError where what stands there changes other tokens.
    """
    keep = kept(model, batch.inputs, batch.mask, batch.attended)
    if keep is None or batch.inputs.shape[:2] != keep.shape:
        return False
    rows = (~keep).any(dim=1).nonzero()[:_MOST, 0]
    inputs, keep = batch.inputs[rows].to(model.device), keep[rows].to(model.device)
    mask, attended = (None if each is None else each[rows] for each in (batch.mask, batch.attended))
    more = arguments(model, inputs, mask, (), attended) if len(rows) else {}
    if name not in more:
        return False
    first = inputs[torch.arange(len(rows)), keep.long().argmax(dim=1)].unsqueeze(1)
    hidden = ~keep if inputs.ndim == 2 else ~keep.unsqueeze(-1)
    other = torch.where(hidden, first.expand_as(inputs), inputs)
    one, two = (_passed(model, each, more, site) for each in (inputs, other))
    if one is None or two is None or one.shape[:2] != keep.shape:
        return True  # told by the pass itself
    if _moves(one[keep], two[keep]):
        meant = "padding" if TAKEN[name] else "what is attended to"
        raise refused(
            model,
            f"what stands in padding changes its tokens, though its '{name}' says where that is",
            f"Have its forward heed '{name}', as True (or 1) for {meant}. {UNPADDED}",
        )
    return True


def _passed(model: ProbeModel, inputs: Tensor, more: Mapping[str, Tensor], site: str) -> Any:
    """What the last layer makes of the tokens (B, n, d); None where the pass fails."""
    found: list[Tensor] = []
    layers = range(1, model.layers + 1)  # all, as in a pass: torch's fast paths heed hooks
    auto = torch.autocast(inputs.device.type, enabled=False)
    with auto, guest(model.module):
        try:
            with attach(model, [site], layers, lambda _, __, Z: found.append(Z.clone())):
                model.module(inputs.clone(), **more)
        except Exception:  # whatever the model's own code raises: the pass tells it
            return None
    return found[-1] if len(found) == model.layers else None


def _moves(one: Tensor, two: Tensor) -> bool:
    slack = 1e-3 if one.dtype in (torch.float32, torch.float64) else 5e-2
    return bool((one.double() - two.double()).norm() > slack * one.double().norm())
