"""Whether a module that a user mapped keeps its tokens from padding by the mask that it is given.

The name of a parameter says what its mask means, and not that the code agrees: `mask` is True for
padding to some; and a part that says that it is causal may not be the one that matters. It is tried
on the first batch with padding, in which other tokens are put in the place of padding: what the
last layer makes of the tokens stays as it was.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.data._masks import TAKEN
from whitebox_probe.data.source import Batch, Batches, Source
from whitebox_probe.models.guest import guest
from whitebox_probe.models.hooks import attach
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.padding import UNPADDED, arguments, kept, mask_name, refused
from whitebox_probe.sites import SITES

_STREAM = ("z_out", "z_half", "z_in")
_SLACK = {torch.float32: 1e-4, torch.float64: 1e-4}
_OF_HALF = 2e-3
"""Shares of the tokens' norm: what weights of zero leave of other tokens is nothing at all."""
_MOST = 2
"""So many samples are tried."""


def with_trial(model: ProbeModel, source: Source) -> Source:
    """The source, whose first batch with padding is tried; of a family that is known to heed it."""
    name = mask_name(model.module)
    sites = [each for each in (*_STREAM, *model.sites) if each in model.sites]
    site = next((each for each in sites if SITES[each].role != "map"), None)
    if (model.family is not None and name in (None, "attention_mask")) or site is None:
        return source

    def batches(*given: Any, **more: Any) -> Batches:
        tried = False
        with closing(source.batches(*given, **more)) as stream:
            for batch in stream:
                tried = tried or (len(batch.ids) > 0 and _tried(model, batch, name, site))
                yield batch

    return replace(source, batches=batches)


def _tried(model: ProbeModel, batch: Batch, name: str | None, site: str) -> bool:
    """Whether a batch has padding, and was tried.

    Raises: DataError where what stands there changes other tokens.
    """
    keep = kept(model, batch.inputs, batch.mask, batch.attended)
    if keep is None or batch.inputs.shape[:2] != keep.shape:
        return False
    rows = (~keep).any(dim=1).nonzero()[:_MOST, 0]
    if not len(rows):
        return False
    inputs, keep = batch.inputs[rows].to(model.device), keep[rows].to(model.device)
    mask, attended = (None if each is None else each[rows] for each in (batch.mask, batch.attended))
    more = arguments(model, inputs, mask, (), attended)
    given = name if name in more else None
    one, two = (_passed(model, each, more, site) for each in (inputs, _other(inputs, keep)))
    if one is None and given is not None and _passed(model, inputs, {}, site) is not None:
        raise refused(
            model,
            f"its forward fails where it is given '{given}' of {more[given].dtype}",
            "Have it take 'attention_mask' as whole numbers (1: no padding), or call the parameter "
            "'mask' (True: no padding) or 'key_padding_mask' (True: padding), which are boolean",
        )
    if one is None or two is None or one.shape[:2] != keep.shape:
        return True  # told by the pass itself
    if _moves(one[keep], two[keep]):
        raise _unheeded(model, given)
    return True


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
    """The inputs, (B, n) or (B, n, d), with something else in each place of padding."""
    if inputs.ndim == 2:
        one, two = [*dict.fromkeys([*inputs[keep].unique().tolist()[:2], 0, 1])][:2]
        return inputs.where(keep, torch.where(inputs == one, two, one).to(inputs))
    size = inputs[keep].std() if inputs[keep].numel() > 1 else inputs.new_zeros(())
    # In all directions, as a norm takes off what is one number in each of them; and not beside what
    # stands there, which may be too large for it to be seen.
    random = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0))
    new = torch.where(size > 0, size, 1.0) * random.to(inputs)
    return torch.where(keep.unsqueeze(-1), inputs, new)


def _passed(model: ProbeModel, inputs: Tensor, more: Mapping[str, Tensor], site: str) -> Any:
    """What the last layer makes of the tokens (B, n, ...); None where the pass fails."""
    found: list[Tensor] = []
    layers = range(1, model.layers + 1)  # all, as in a pass: torch's fast paths heed hooks
    auto = torch.autocast(inputs.device.type, enabled=False)
    with auto, guest(model.module):
        try:
            with attach(model, [site], layers, lambda _, __, Z: found.append(Z.clone())):
                model.module(inputs.clone(), **more)
        except Exception:  # whatever the model's own code raises: the pass tells it
            return None
    return found[-1].movedim(SITES[site].token_axis, 1) if len(found) == model.layers else None


def _moves(one: Tensor, two: Tensor) -> bool:
    slack = _SLACK.get(one.dtype, _OF_HALF)
    return bool((one.double() - two.double()).norm() > slack * one.double().norm())
