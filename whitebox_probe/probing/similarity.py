"""Similarity of layers, within a model or between two, on the same data.

    found = wp.similarity(wp.load("crate-tiny-fmnist"), wp.load("vit-tiny-fmnist"), "fashion-mnist")
    found.cka[2, 5]  # of layer 3 of the first and layer 6 of the second

A sample's feature is the mean of its measured tokens. Everything comes from streamed sums of
products, so that neither batch size nor order shows, and memory does not grow with the number of
samples.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from whitebox_probe._core.arguments import expect, text, whole
from whitebox_probe._core.errors import DataError, NonFiniteError, ProbeError
from whitebox_probe._core.process import as_found
from whitebox_probe._core.progress import bar
from whitebox_probe.data.given import expected
from whitebox_probe.data.source import Batch
from whitebox_probe.metrics._linalg import rounding, upcast
from whitebox_probe.metrics.similarity import (
    SAMPLES_PER_DIRECTION,
    Moments,
    cka_of,
    procrustes_of,
    subspace_overlap_of,
)
from whitebox_probe.models.guest import held_alone
from whitebox_probe.models.model import ProbeModel, expect_model
from whitebox_probe.probing.forward import Reader, opened, ready
from whitebox_probe.probing.groups import expect_some, measured_mean
from whitebox_probe.probing.settings import Execution, Settings
from whitebox_probe.results.similarity import Similarity

FEWEST = 4


class FewSamplesWarning(UserWarning):
    """Samples are too few for a number, which is NaN; one line, as an error is."""


@as_found()
def similarity(
    first: ProbeModel,
    second: ProbeModel,
    data: Any,
    *,
    site: str = "z_out",
    rank: int = 10,
    limit: int | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Similarity:
    """Compare every layer of a model with every layer of another, or of itself.

    Args:
        first, second: may be the same model. data: as for `probe`; each model gets it prepared as
            it was trained.
        site: where tokens are taken. rank: of the leading subspaces that `overlap` compares; with
            fewer than three samples a direction it is NaN, and a warning says so.
        limit, batch_size, device, seed, progress: as for `probe`.

    Raises: SettingError for an argument that cannot be; DataError for fewer than four samples, or
        fewer than the data promise; SiteError for a site that does not pass once in each batch;
        ProbeError as `probe` does.
    References: Kornblith et al. 2019, arXiv:1905.00414 (CKA); Song et al. 2012 (the unbiased
        estimate); Ding, Denain and Steinhardt 2021, arXiv:2108.01661 (Procrustes).
    """
    models = (first, second)
    for model in models:
        expect_model(model, ProbeModel, "what wp.load or wp.wrap gives")
    expect("site", site, text, "tokens are taken there")
    rank = expect("rank", rank, whole(1), "so many leading directions are compared")
    settings = Settings.of(limit=limit, seed=seed)
    execution = Execution.of(batch_size=batch_size, device=device, progress=progress)
    data = expected(data)
    sources = [opened(m, data, limit=settings.limit, seed=settings.seed) for m in models]
    same = first is second
    shape = (first.layers, second.layers)
    pairs = [(i, j) for i in range(shape[0]) for j in range(shape[1]) if not same or i <= j]
    moments = {pair: Moments() for pair in pairs}
    shares = [0.0]  # of tokens: their means are in float64
    features: tuple[dict[int, list[Tensor]], dict[int, list[Tensor]]] = ({}, {})
    masks: dict[int, Tensor | None] = {}

    def keep(which: int) -> Any:
        def sink(_: str, layer: int, Z: Tensor) -> None:
            mean = measured_mean(upcast(Z), masks[which])
            features[which].setdefault(layer - 1, []).append(mean)
            if not bool(mean.isfinite().all()):
                raise _not_finite(models[which], site, layer)
            shares[0] = max(shares[0], rounding(Z))

        return sink

    read: list[Tensor] = [torch.empty(0, dtype=torch.int64)]
    contents: set[int] = set()
    used = models[:1] if same else models
    shown = bar(progress=execution.progress, total=sources[0].count, unit="sample")
    with shown, ExitStack() as stack:
        stack.enter_context(held_alone(*(model.module for model in used)))
        places = [stack.enter_context(ready(model, execution.device)) for model in used]
        # Two models may be of one module, whose passes are then each one's own.
        readers = [
            Reader(model, [site], range(1, model.layers + 1), keep(which))
            for which, model in enumerate(used)
        ]
        for reader in readers:
            stack.enter_context(reader.attached())
        streams = [
            stack.enter_context(closing(source.batches(execution.batch_size, 0)))
            for source in sources[: len(used)]
        ]
        for given in _together([_taken_apart(stream) for stream in streams]):
            read_now = [_put_together(parts) for parts in given]
            if not any(len(each.ids) for each in read_now):
                continue  # as a loader's own way of putting samples together may give
            _expect_same_samples(read_now)
            for which, (reader, parts) in enumerate(zip(readers, given, strict=True)):
                features[which].clear()
                for batch in parts:
                    expect_some(batch.mask, batch.ids)
                    masks[which] = batch.mask
                    reader.run(batch, places[which])
            left, right = (
                {n: torch.cat(held)[_order(parts)] for n, held in of.items()}
                for of, parts in zip(features, (given[0], given[-1]), strict=True)
            )
            right = left if same else right
            fresh = _fresh(read_now[0].identities, contents)
            for (i, j), sums in moments.items():
                if bool(fresh.any()):
                    sums.add(left[i][fresh], right[j][fresh])
                sums.share = max(sums.share, shares[0])
            read.append(read_now[0].ids)
            shown.update(len(read_now[0].ids))
    ids = torch.cat(read).numpy()
    sources[0].expect_whole(ids)
    count = len(contents)
    _tell_copies(len(ids), count)
    if count < FEWEST:
        raise DataError(
            f"{count} samples are too few", f"CKA needs {FEWEST} or more", "Use more samples"
        )
    out = {name: np.full(shape, np.nan) for name in ("cka", "overlap", "procrustes")}
    for (i, j), sums in moments.items():
        values = {
            "cka": cka_of(sums),
            "overlap": subspace_overlap_of(sums, rank=rank),
            "procrustes": procrustes_of(sums),
        }
        for name, value in values.items():
            out[name][i, j] = value
            if same:
                out[name][j, i] = value
    _tell_few(out, count, rank)
    _tell_same(out["cka"], models)
    return Similarity(first=first.name, second=second.name, count=count, **out)


def _not_finite(model: ProbeModel, site: str, layer: int) -> NonFiniteError:
    return NonFiniteError(
        f"features of {model.name} at {site} of layer {layer} are not finite",
        "a similarity would be of no numbers",
        "Check the weights, the dtype (float16 overflows), and the samples",
    )


def _fresh(identities: Tensor, known: set[int]) -> Tensor:
    """Whether each sample of a batch (B,) is no copy of one before it; those are then `known`."""
    found = []
    for each in identities.tolist():
        found.append(each not in known)
        known.add(each)
    return torch.tensor(found, dtype=torch.bool)


class CopiesWarning(UserWarning):
    """Samples that are there more than once, and count once."""


def _tell_copies(count: int, contents: int) -> None:
    if contents < count:
        told = ProbeError(
            f"{count - contents} of {count} samples are copies of others, and are left out",
            "what they have in common would pass for what features have in common",
            "Use samples that differ",
        )
        warnings.warn(CopiesWarning(str(told)), stacklevel=4)


class SameFeaturesWarning(UserWarning):
    """Features that are the same for all samples, of which no similarity can be told."""


def _tell_same(cka: np.ndarray, models: Sequence[ProbeModel]) -> None:
    """Warn of layers whose similarity to every other one is NaN: their features do not differ."""
    nothing = np.isnan(cka)
    if not nothing.any():
        return
    # All of one model's dead layers are NaN with every layer of the other.
    rows, columns = np.flatnonzero(nothing.all(axis=1)), np.flatnonzero(nothing.all(axis=0))
    of_second = len(rows) == 0 or len(rows) == len(cka) > len(columns) > 0
    dead, model = (columns, models[1]) if of_second else (rows, models[0])
    told = ProbeError(
        f"similarities of layer {', '.join(str(n + 1) for n in dead)} of {model.name} are NaN",
        "its features are the same for all samples",
        "Look at that layer: it may be dead",
    )
    warnings.warn(SameFeaturesWarning(str(told)), stacklevel=4)


def _tell_few(found: dict[str, np.ndarray], count: int, rank: int) -> None:
    """Warn where overlaps alone are NaN, which they are for want of samples."""
    if not (np.isnan(found["overlap"]) & ~np.isnan(found["procrustes"])).any():
        return
    told = ProbeError(
        f"the overlap of {rank} leading directions is NaN for want of samples",
        f"there are {count}, and unrelated features would have much of {rank} directions in common",
        f"Use {SAMPLES_PER_DIRECTION * rank} samples or more, or a smaller rank",
    )
    warnings.warn(FewSamplesWarning(str(told)), stacklevel=4)


class _Read(NamedTuple):
    """The samples of a batch as they were read: their numbers and contents, each (B,)."""

    ids: Tensor
    identities: Tensor


def _taken_apart(stream: Iterable[Batch]) -> Iterator[list[Batch]]:
    """Of each batch its parts, one where it was not taken apart."""
    parts: list[Batch] = []
    for batch in stream:
        parts.append(batch)
        if batch.ends:
            yield parts
            parts = []


def _order(parts: Sequence[Batch]) -> Tensor:
    """Where each sample of a batch stands among its parts, (B,)."""
    rows = [torch.arange(len(each.ids)) if each.rows is None else each.rows for each in parts]
    return torch.cat(rows).argsort()


def _put_together(parts: Sequence[Batch]) -> _Read:
    """The samples of a batch, in its order."""
    ids, identities = zip(*((each.ids, each.identities) for each in parts), strict=True)
    order = _order(parts)
    return _Read(torch.cat(ids)[order], torch.cat(identities)[order])


def _together(
    streams: Sequence[Iterator[list[Batch]]],
) -> Iterator[tuple[list[Batch], ...]]:
    """The batches of the models, side by side.

    Raises: DataError where one is given fewer than the other.
    """
    for batches in zip_longest(*streams):
        if None in batches:
            raise DataError(
                "the two models are not given the same samples",
                "the data end sooner when they are read again",
                "Pass data that do not shuffle or draw, such as the loader's Dataset",
            )
        yield batches


def _expect_same_samples(batches: Sequence[_Read]) -> None:
    """Check that both models are given the same samples, in one order.

    Raises: DataError for a loader that shuffles, say.
    """
    if any(not torch.equal(each.identities, batches[0].identities) for each in batches[1:]):
        first = min(int(each.ids[0]) for each in batches if len(each.ids))
        raise DataError(
            f"the two models are not given the same samples from sample {first} on",
            "the data come in another order, or with other content, when they are read again",
            "Pass data that do not shuffle or draw, such as the loader's Dataset",
        )
