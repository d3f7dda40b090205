"""The values of a pass: one float64 number for each sample, layer and measure."""

import numpy as np
import torch
from torch import Tensor

NOTHING = -np.inf
"""In place of a value that a sample does not have, which is no fault of its tokens, as NaN is."""


class Table:
    """Preallocated float64 values, one row a sample and one column a layer and measure.

    Small tensors kept from inside hooks would fragment the heap; here each batch writes in place.
    """

    def __init__(self, width: int, layers: int, count: int | None) -> None:
        self.width = width
        rows = count or 1024
        self.values = np.full((rows, layers * width), np.nan)
        self.ids = np.empty(rows, dtype=np.int64)
        self.identities = np.empty(rows, dtype=np.int64)
        self.used = 0
        self._written: set[int] = set()
        self._on_device: list[tuple[int, Tensor | None, Tensor]] = []

    def open(self, ids: Tensor, identities: Tensor) -> None:
        """Make room for a batch; `identities` tell its samples apart."""
        needed = self.used + len(ids)
        while needed > len(self.ids):
            self.values = np.concatenate([self.values, np.full_like(self.values, np.nan)])
            self.ids = np.concatenate([self.ids, np.empty_like(self.ids)])
            self.identities = np.concatenate([self.identities, np.empty_like(self.identities)])
        self.ids[self.used : needed] = ids.numpy()
        self.identities[self.used : needed] = identities.numpy()
        self._written.clear()

    def write(self, layer: int, column: int, values: Tensor, rows: Tensor | None) -> None:
        """Write one measure of one layer for the batch that is open, or for some of its rows."""
        at = (layer - 1) * self.width + column
        self._written.add(at)
        if values.device.type == "cpu":
            self._put(at, rows, values.numpy(force=True))
        else:
            self._on_device.append((at, rows, values.double()))

    def _put(self, at: int, rows: Tensor | None, values: np.ndarray) -> None:
        where = slice(self.used, self.used + len(values))
        target = where if rows is None else self.used + rows.numpy(force=True)
        self.values[target, at] = values

    def fetch(self, rows: int) -> bool:
        """Bring what was measured on a device, all at once; whether the open batch is finite."""
        if self._on_device:
            together = torch.cat([values for _, _, values in self._on_device]).numpy(force=True)
            start = 0
            for at, some, values in self._on_device:
                self._put(at, some, together[start : start + len(values)])
                start += len(values)
            self._on_device.clear()
        # A measure that a layer does not have leaves its column empty.
        batch = self.values[self.used : self.used + rows, sorted(self._written)]
        return bool((np.isfinite(batch) | (batch == NOTHING)).all())

    def close(self, rows: int) -> None:
        """Keep the batch."""
        self.used += rows

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Ids and values, sorted by id."""
        order = np.argsort(self.ids[: self.used], kind="stable")
        return self.ids[: self.used][order], self.values[: self.used][order]

    def kept(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ids, identities and values so far, in the order in which they came."""
        return self.ids[: self.used], self.identities[: self.used], self.values[: self.used]

    def put_back(self, ids: np.ndarray, identities: np.ndarray, values: np.ndarray) -> None:
        """Hold these samples, and no others."""
        self.used = 0
        self.open(*(torch.from_numpy(np.ascontiguousarray(each)) for each in (ids, identities)))
        self.used = len(ids)
        self.values[: self.used] = values
