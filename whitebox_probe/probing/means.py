"""What a site holds on average over samples, at each place of a window: a control of its own.

An update that is the same for every sample looks at none of them, whatever it does to a rate.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from whitebox_probe.metrics.tokens import MEAN, MEAN_OF
from whitebox_probe.models.anatomy import Anatomy, Dims, Layer
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.models.preprocess import Preprocess
from whitebox_probe.probing.forward import Reader, opened, ready
from whitebox_probe.probing.groups import from_first
from whitebox_probe.probing.padding import left_padding

SITE = "attn_out"


@dataclass(frozen=True)
class Means:
    """The mean update of a model's layers.

    Attributes: of: layer -> (n, d), float64; padding in front has no place. samples: layer ->
        (N, 2): of each sample that it is the mean of, its number, and how many of them have its
        content.
    """

    of: Mapping[int, Tensor]
    samples: Mapping[int, Tensor]


def mean_updates(
    model: ProbeModel,
    data: Any,
    *,
    limit: int | None,
    seed: int = 0,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    fast: bool = True,
    dtype: str = "float32",
    on_error: str = "stop",
) -> Means:
    """Run samples through a model, and average what its attention adds, place by place.

    Windows of fewer tokens than the longest enter at the places that they have; samples whose
    update is not finite do not enter.

    Args: as for `probe`; `limit` draws the samples that `probe` draws.
    """
    sums: dict[int, Tensor] = {}
    counts: dict[int, Tensor] = {}
    read: dict[int, list[Tensor]] = {}
    at_hand: list[Tensor] = []
    mask: list[Tensor | None] = [None]
    left: list[Tensor | None] = [None]

    def add(_: str, layer: int, D: Tensor) -> None:
        D = D.detach().double().cpu()
        here = torch.ones(D.shape[:2]) if mask[0] is None else mask[0].cpu().float()
        D = D.masked_fill(here[..., None] == 0, 0.0)
        D, here = from_first(D, left[0]), from_first(here, left[0])
        whole = D.flatten(1).isfinite().all(dim=1)
        D, here = D[whole], here[whole]
        read.setdefault(layer, []).append(at_hand[0][whole])
        n = D.shape[1]
        longest = max(n, len(sums[layer]) if layer in sums else 0)
        for held, new in ((sums, (D * here[..., None]).sum(dim=0)), (counts, here.sum(dim=0))):
            both = new.new_zeros(longest, *new.shape[1:], dtype=torch.float64)
            if layer in held:
                both[: len(held[layer])] += held[layer]
            both[:n] += new
            held[layer] = both

    source = opened(model, data, limit=limit, seed=seed, on_error=on_error)
    kind = getattr(torch, dtype)
    with ready(model, device) as where:
        half = torch.autocast(where.type, dtype=kind, enabled=kind != torch.float32)
        reader = Reader(model, [SITE], range(1, model.layers + 1), add)
        with half, reader.attached(), closing(source.batches(batch_size, 0)) as batches:
            for batch in batches:
                if len(batch.ids):
                    known = torch.stack([batch.ids, batch.identities], dim=1).cpu()
                    at_hand[:], mask[0] = [known], batch.mask
                    left[0] = left_padding(model, batch.inputs, batch.mask, batch.attended)
                    reader.run(batch, where, fast=fast, seed=seed)
    means = {n: sums[n] / counts[n].clamp_min(1)[:, None] for n in sums}
    return Means(means, {n: _with_copies(torch.cat(of)) for n, of in read.items()})


def _with_copies(read: Tensor) -> Tensor:
    """Numbers and contents of samples (N, 2) -> numbers, and how many have the same content."""
    _, which, counts = read[:, 1].unique(return_inverse=True, return_counts=True)
    return torch.stack([read[:, 0], counts[which]], dim=1)


def with_means(model: ProbeModel, means: Means | None) -> ProbeModel:
    """The model, whose layers tell their mean update as a part of their step; zero if not given."""
    return replace(model, anatomy=_WithMeans(model.anatomy, means))


class _WithMeans(Anatomy):
    """An anatomy as it is, its layers' mean updates beside the operators of their steps."""

    def __init__(self, anatomy: Anatomy, means: Means | None) -> None:
        super().__init__(anatomy.name)
        self._own, self._means = anatomy, means
        self.default_basis, self.absent = anatomy.default_basis, anatomy.absent
        self.says_prefix = anatomy.says_prefix

    def layer(self, module: nn.Module, number: int) -> Layer:
        """As it is, with `mean_update`."""
        found = self._own.layer(module, number)
        if self._means is None:
            told = {MEAN: torch.zeros(0, 0), MEAN_OF: torch.empty(0, dtype=torch.int64)}
        else:
            told = {MEAN: self._means.of[number], MEAN_OF: self._means.samples[number]}
        return replace(found, operators=dict(found.operators) | told)

    def dims(self, module: nn.Module) -> Dims:
        """As it is."""
        return self._own.dims(module)

    def bases(self, module: nn.Module) -> tuple[str, ...]:
        """As they are."""
        return self._own.bases(module)

    def official_site(self, basis: str) -> str | None:
        """As it is."""
        return self._own.official_site(basis)

    def prefix_tokens(self, module: nn.Module) -> int:
        """As they are."""
        return self._own.prefix_tokens(module)

    def grid(self, module: nn.Module, inputs: Tensor) -> tuple[int, int] | None:
        """As it is."""
        return self._own.grid(module, inputs)

    def class_index(self, module: nn.Module) -> int | None:
        """As it is."""
        return self._own.class_index(module)

    def trial(self, module: nn.Module) -> Any:
        """As it is."""
        return self._own.trial(module)

    def preprocess(self, module: nn.Module) -> Preprocess | None:
        """As it is."""
        return self._own.preprocess(module)

    def stated(self) -> Mapping[str, Any]:
        """As it is."""
        return self._own.stated()
