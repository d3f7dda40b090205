"""Sums and lists of a metric that torchmetrics can reduce over processes, whatever each has seen.

torchmetrics reduces state by state and takes it for granted that every process has the same ones,
in the same order and of the same rank. Here a process may have met no sample, or not every class:
before each reduction the processes tell each other what they have, and fill in what they lack.
"""

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.distributed import gather_all_tensors


def gather_text(
    text: str, *, device: torch.device | str = "cpu", group: Any | None = None
) -> list[str]:
    """The text of every process, in the order of their ranks."""
    mine = torch.frombuffer(bytearray(text.encode() or b" "), dtype=torch.uint8).to(device)
    return [bytes(each.cpu().tolist()).decode().strip() for each in gather_all_tensors(mine, group)]


def first_known(stacked: Tensor) -> Tensor:
    """Of one value a process, (N, ...), the first that is not the zero of one that lacks it."""
    known = stacked.flatten(1).any(dim=1).nonzero()
    return stacked[int(known[0, 0]) if len(known) else 0]


def _zeros(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros of that shape, side by side whatever the strides: products round by how rows lie."""
    return torch.zeros(value.shape, dtype=dtype, device=value.device)


class Reducible(Metric):
    """A metric that makes its states alike on all processes before they are reduced."""

    full_state_update = False

    def sync(
        self,
        dist_sync_fn: Callable[..., Any] | None = None,
        process_group: Any | None = None,
        should_sync: bool = True,
        distributed_available: Callable[[], bool] | None = None,
    ) -> None:
        """Reduce the states over the processes, as torchmetrics does."""
        available = distributed_available or self.distributed_available_fn
        if should_sync and not self._is_synced and available is not None and available():
            self._agree(process_group or self.process_group)
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def _agree(self, group: Any | None) -> None:
        """Fill in states that only other processes have."""


class Sums(Reducible):
    """Named float64 sums that come into being with their first value, and lists of rows."""

    def total(self, name: str, value: Tensor) -> None:
        """Add to a sum; its shape is that of the first value."""
        if name not in self._defaults:
            self._declare(name, _zeros(value, torch.float64), "sum")
        getattr(self, name).add_(value)

    def constant(self, name: str, value: Tensor) -> None:
        """Keep what is the same in every batch and on every process."""
        if name not in self._defaults:
            self._declare(name, _zeros(value, value.dtype), "constant")
        setattr(self, name, value.contiguous())

    def sum_of(self, name: str) -> Tensor:
        """A sum, or a constant, so far."""
        value = getattr(self, name)
        assert isinstance(value, Tensor)
        return value

    def names(self, prefix: str) -> list[str]:
        """What follows `prefix` in the names of the sums, sorted by number."""
        found = [n.removeprefix(prefix) for n in self._defaults if n.startswith(prefix)]
        return sorted(found, key=int)

    def states(self) -> dict[str, tuple[str, Tensor]]:
        """Every name -> (kind, value) of a state that has one: a sum, a constant, or rows."""
        found = {}
        for name in self._defaults:
            value = getattr(self, name)
            if isinstance(value, Tensor):
                constant = self._reductions[name] is first_known
                found[name] = ("constant" if constant else "sum", value)
            elif len(value):
                setattr(self, name, [torch.cat(value)])
                found[name] = ("rows", getattr(self, name)[0])
        return found

    def put(self, name: str, kind: str, value: Tensor) -> None:
        """Set a state to what `states` gave."""
        if name not in self._defaults:
            self._declare(name, _zeros(value, value.dtype), kind)
        setattr(self, name, [value] if kind == "rows" else value)

    def _declare(self, name: str, zero: Tensor, kind: str) -> None:
        if kind == "rows":
            self.add_state(name, [], dist_reduce_fx="cat")
        else:
            self.add_state(name, zero, dist_reduce_fx="sum" if kind == "sum" else first_known)

    def _agree(self, group: Any | None) -> None:
        mine = self.states()
        about = {
            name: [kind, list(value.shape), str(value.dtype).removeprefix("torch."), value.is_cuda]
            for name, (kind, value) in mine.items()
        }
        everyone = gather_text(json.dumps(about), device=self.device, group=group)
        told: dict[str, Any] = {}
        for each in everyone:
            for name, what in json.loads(each).items():
                told.setdefault(name, what)
        for name, (kind, shape, dtype, cuda) in told.items():
            if name not in mine:
                size = [0, *shape[1:]] if kind == "rows" else shape
                where = "cuda" if cuda else "cpu"
                self.put(name, kind, torch.zeros(size, dtype=getattr(torch, dtype), device=where))
        # They are reduced in this order, which has to be the same everywhere.
        self._reductions = {name: self._reductions[name] for name in sorted(self._reductions)}
