"""Look at a few samples from inside: what figures of attention, tokens and colours are drawn of."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whitebox_probe._core.arguments import expect_each, is_whole, plain, text, told
from whitebox_probe._core.errors import DataError, SiteError
from whitebox_probe._core.process import as_found
from whitebox_probe.data.text import open_tokenizer
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.preprocess import Preprocess, TextPreprocess
from whitebox_probe.probing.forward import Reader, opened, ready
from whitebox_probe.probing.probe import as_model
from whitebox_probe.probing.recorder import Recording, layers_of
from whitebox_probe.probing.settings import Execution, Settings
from whitebox_probe.results.view import View

MOST = 64
"""Samples that are held at once: a view is to be looked at, and keeps all that it shows."""
USUAL = ("z_out", "attn_weights")


@as_found()
def view(
    model: ProbeModel | nn.Module | str,
    data: Any,
    *,
    sites: Sequence[str] | str | None = None,
    layers: Sequence[int] | None = None,
    limit: int = 8,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> View:
    """Run a few samples through a model, and hold what its sites hold.

    Args:
        model: a name, a wrapped or a bare module.
        data: as for `probe`; `limit` of it are drawn by `seed`, 64 at most.
        sites: that are held; z_out and attn_weights, where the model has them, if not given.
        layers: counted from 1; all when not given.
        device: where the model runs.

    Raises: ProbeError as `probe` does; SiteError for a site that the model does not have, or that
        does not pass once in each batch; DataError for more than 64 samples, or samples of several
        sizes.
    """
    whole = as_model(model)
    settings = Settings.of(seed=seed)
    device = Execution.of(device=device).device
    limit = plain(limit)
    if not is_whole(limit) or not 1 <= limit <= MOST:
        raise DataError(
            f"limit is {told(limit)}",
            f"a view holds 1 to {MOST} samples",
            f"Use limit={min(8, MOST)}",
        )
    asked = [sites] if isinstance(sites, str) else sites
    names = (
        [name for name in USUAL if name in whole.sites]
        if asked is None
        else expect_each("sites", asked, text, "they are held")
    )
    if not names:
        raise SiteError("no site is named", "there is nothing to look at", "Use sites=['z_out']")
    inputs: list[Tensor] = []
    ids: list[int] = []
    with ready(whole, device) as where:
        source = opened(whole, data, limit=limit, seed=settings.seed)
        every = layers_of(whole, layers)
        recording = Recording(whole, names, every)
        reader = Reader(whole, names, every, recording.keep)
        with reader.attached(), closing(source.batches(limit, 0)) as batches:
            for batch in batches:
                if not len(batch.ids):
                    continue
                unmasked = batch.mask is None or bool(batch.mask.all())
                if not unmasked or (inputs and inputs[0].shape[1:] != batch.inputs.shape[1:]):
                    raise DataError(
                        "the samples are padded, or of several sizes",
                        "a view shows tokens side by side, and these are of several lengths",
                        "Use windows of one length, or samples of one size",
                    )
                reader.run(batch, where, fast=False)
                inputs.append(batch.inputs.cpu().clone())  # a loader may write over it
                ids += [int(n) for n in batch.ids]
        source.expect_whole(np.array(ids, dtype=np.int64))
        if not ids:
            raise DataError(
                f"{source.name} gives no sample", "its batches are empty", "Mend the loader"
            )
        held = {key: recording[key].float().cpu().numpy() for key in recording.keys()}  # noqa: SIM118
    return replace(_seen(whole, torch.cat(inputs), held), ids=tuple(ids))


def _seen(model: ProbeModel, inputs: Tensor, held: dict[tuple[str, int], np.ndarray]) -> View:
    tokens = next((each.shape[-2] for (site, _), each in held.items() if site != "memberships"), 0)
    extra = model.extra_tokens
    images = _pixels(inputs, model.preprocess) if inputs.ndim == 4 else None
    return View(
        model=model.name,
        sites=held,
        images=images,
        texts=_words(inputs, model.preprocess),
        grid=model.grid(inputs) if images is not None else None,
        patches=tuple(n for n in range(tokens) if n not in extra),
        class_index=model.class_index,
    )


def _words(inputs: Tensor, preprocess: Any) -> tuple[tuple[str, ...], ...] | None:
    """What each token stands for; None where the model does not name its tokenizer."""
    if inputs.ndim != 2 or not isinstance(preprocess, TextPreprocess):
        return None
    word = open_tokenizer(preprocess.tokenizer).word
    return tuple(tuple(word(i) for i in row) for row in inputs.tolist())


def _pixels(inputs: Tensor, preprocess: Any) -> np.ndarray:
    """Images as they were before they were normalised: (B, H, W, channels), 0 to 1.

    Of a model that does not say how it normalises, least and most of all become 0 and 1.
    """
    pixels = inputs.float().permute(0, 2, 3, 1).numpy()
    if isinstance(preprocess, Preprocess) and len(preprocess.mean) == pixels.shape[-1]:
        std, mean = (np.asarray(each, np.float32) for each in (preprocess.std, preprocess.mean))
        pixels = pixels * std + mean
    else:
        pixels = (pixels - pixels.min()) / max(float(np.ptp(pixels)), 1e-12)
    shown = pixels if pixels.shape[-1] in (1, 3) else pixels[..., :1]
    clipped: np.ndarray = shown.clip(0, 1)
    return clipped
