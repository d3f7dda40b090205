"""Where the tokens of a fitted basis come from: samples that are not measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from whitebox_probe.data.images import Transform
from whitebox_probe.data.source import Source, open_data
from whitebox_probe.data.text import TextReader
from whitebox_probe.models.hooks import attach
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.forward import run_model

SEED = 1
"""Of the draw of the samples, which is another one than that of the measured ones."""


@dataclass(frozen=True)
class Fit:
    """The samples that bases are fitted on.

    Attributes: data: what is measured. fit_data: other data, or None: samples of the same data that
        are not measured. limit: at most so many.
    """

    model: ProbeModel
    data: Any
    fit_data: Any
    limit: int
    measured: Source
    transform: Transform | TextReader | None
    batch_size: int
    device: torch.device
    fast: bool

    def source(self) -> Source:
        """The samples.

        Raises: DataError when none is left.
        """
        same = self.fit_data is None
        return open_data(
            self.data if same else self.fit_data,
            transform=self.transform,
            limit=self.limit,
            seed=SEED,
            without=self.measured.numbers if same else (),
        )

    def told(self) -> dict[str, Any]:
        """What run.json holds of it, and what a resumed run must share."""
        source = self.source()
        return {
            "name": source.name,
            "fingerprint": source.fingerprint,
            "count": source.count,
            "limit": self.limit,
            "seed": SEED,
            "same data": self.fit_data is None,
        }

    def __call__(self, site: str) -> Iterator[tuple[int, Tensor]]:
        """(layer, tokens) of the samples, a batch at a time."""
        batch: list[tuple[int, Tensor]] = []
        layers = range(1, self.model.layers + 1)

        def keep(_: str, layer: int, tensor: Tensor) -> None:
            batch.append((layer, tensor.clone()))

        with torch.inference_mode(), attach(self.model, [site], layers, keep):
            for item in self.source().batches(self.batch_size, 0):
                run_model(self.model, item.inputs.to(self.device), fast=self.fast)
                yield from batch
                batch.clear()
