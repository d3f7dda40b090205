"""Where the tokens of a fitted basis come from: samples that are not measured."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whitebox_probe._core.errors import DataError
from whitebox_probe.data._digest import combined
from whitebox_probe.data.source import Batch, Source
from whitebox_probe.models.model import ProbeModel
from whitebox_probe.probing.forward import Reader, opened
from whitebox_probe.probing.groups import measured_rows

SEED = 1
"""Of the draw of the samples, which is another one than that of the measured ones."""


@dataclass(frozen=True)
class Fit:
    """The samples that bases are fitted on.

    Attributes: data: what is measured. fit_data: other data, or None: samples of the same data that
        are not measured. limit: at most so many. read: what tells the samples apart that were read.
    """

    model: ProbeModel
    data: Any
    fit_data: Any
    limit: int
    measured: Source
    batch_size: int
    device: torch.device
    fast: bool
    on_error: str = "stop"
    read: dict[int, int] = field(default_factory=dict)

    def source(self) -> Source:
        """The samples.

        Raises: DataError when none is left.
        """
        same = self.fit_data is None
        return opened(
            self.model,
            self.data if same else self.fit_data,
            limit=self.limit,
            seed=SEED,
            on_error=self.on_error,
            without=self.measured.numbers if same else (),
        )

    def told(self) -> dict[str, Any]:
        """What run.json holds of it, and what a resumed run must share; once bases are fitted."""
        source = self.source()
        ids, identities = (
            np.array(list(x), dtype=np.int64) for x in (self.read, self.read.values())
        )
        return {
            "name": source.name,
            "fingerprint": combined(ids, identities),
            "count": len(ids),
            "limit": self.limit,
            "seed": SEED,
            "same data": self.fit_data is None,
        }

    def __call__(self, site: str) -> Generator[tuple[int, Tensor], None, None]:
        """(layer, measured tokens (1, N, d)) of the samples, a batch at a time.

        Raises: DataError for fewer samples than the data promise.
        """
        batch: list[tuple[int, Tensor]] = []
        layers = range(1, self.model.layers + 1)
        masks: list[Tensor | None] = [None]

        def keep(_: str, layer: int, tensor: Tensor) -> None:
            rows = measured_rows(tensor, masks[0])
            batch.append((layer, rows.clone()[None]))

        reader = Reader(self.model, [site], layers, keep)
        with reader.attached():
            source, skipped = self.source(), set[int]()
            got = [torch.empty(0, dtype=torch.int64)]
            with closing(source.batches(self.batch_size, 0)) as items:
                for item in items:
                    got.append(item.ids)
                    skipped |= item.skipped.keys()
                    if len(item.ids) == 0:
                        continue  # none of them can be read
                    self._note(item)
                    masks[0] = item.mask
                    reader.run(item, self.device, fast=self.fast)
                    yield from batch
                    batch.clear()
        source.expect_whole(torch.cat(got).numpy(), skipped)

    def _note(self, batch: Batch) -> None:
        """Keep what tells the samples apart; each basis reads them anew.

        Raises: DataError where they are not the same again.
        """
        for number, identity in zip(batch.ids.tolist(), batch.identities.tolist(), strict=True):
            if self.read.setdefault(number, identity) != identity:
                raise DataError(
                    f"sample {number} of the data that bases are fitted on has changed",
                    "it was read twice, with another content or in another order",
                    "Pass fit_data that do not shuffle or draw, such as the loader's Dataset",
                )
