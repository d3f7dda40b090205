"""Look at a few samples from inside: what figures of attention, tokens and colours are drawn of."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from whitebox_probe._core.errors import DataError, SiteError
from whitebox_probe.data.source import open_data
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.preprocess import Preprocess
from whitebox_probe.probing.forward import ready, run_batch, transform_of
from whitebox_probe.probing.probe import as_model
from whitebox_probe.probing.recorder import record
from whitebox_probe.results.view import View

MOST = 64
"""Samples that are held at once: a view is to be looked at, and keeps all that it shows."""


def view(
    model: ProbeModel | nn.Module | str,
    data: Any,
    *,
    sites: Sequence[str] | str = ("z_out", "attn_weights"),
    layers: Sequence[int] | None = None,
    limit: int = 8,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> View:
    """Run a few samples through a model, and hold what its sites hold.

    Args:
        model: a name, a wrapped or a bare module.
        data: as for `probe`; `limit` of it are drawn by `seed`, 64 at most.
        sites: that are held; of the two usual ones, those that the model has.
        layers: counted from 1; all when not given.
        device: where the model runs.

    Raises: ProbeError as `probe` does; SiteError for a site that the model does not have;
        DataError for more than 64 samples.
    """
    whole = as_model(model)
    if not 1 <= limit <= MOST:
        raise DataError(
            f"limit is {limit}", f"a view holds 1 to {MOST} samples", f"Use limit={min(8, MOST)}"
        )
    names = [sites] if isinstance(sites, str) else list(sites)
    if sites == ("z_out", "attn_weights"):
        names = [name for name in names if name in whole.sites]
    if not names:
        raise SiteError("no site is named", "there is nothing to look at", "Use sites=['z_out']")
    with ready(whole, device) as where:
        source = open_data(
            data, transform=transform_of(whole, data), limit=limit, seed=seed, batch_size=limit
        )
        batch = next(iter(source))
        with record(whole, names, layers) as recording:
            run_batch(whole, batch.inputs.to(where), mask=batch.mask)
    held = {key: recording[key].float().cpu().numpy() for key in recording.keys()}
    return _seen(whole, batch, held)
