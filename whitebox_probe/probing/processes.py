"""One pass shared by the processes of torchrun: who takes what, and how it is put together.

The batches are those of a single process, dealt out in turn: a batch is the same on any number of
processes, and so is every bit of its samples' values. At the end values are gathered and sorted by
sample, and sums are added up in the order of the processes.
"""

import atexit
import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed as dist

from whitebox_probe._core import launch
from whitebox_probe._core.errors import DataError, ProcessError
from whitebox_probe._core.hashing import digest_of
from whitebox_probe.data.source import Source
from whitebox_probe.probing.bases import Bases
from whitebox_probe.probing.collector import Collector
from whitebox_probe.probing.identity import HASHES

LINGER = 2.0  # seconds that a process with an error stays for others that may have it too


@dataclass(frozen=True)
class Processes:
    """The processes that share a pass, and which of them this one is."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that prints and saves."""
        return self.rank == 0

    def check(self, source: Source) -> None:
        """Raises: DataError for data whose batches cannot be dealt out."""
        if self.count > 1 and not source.numbers:
            raise DataError(
                f"{source.name} cannot be shared by {self.count} processes",
                "its samples have no numbers, and each process would get all of them",
                "Pass a loader's Dataset, a list or files, or distributed=False",
            )

    def samples(self, source: Source, batch_size: int) -> int | None:
        """How many samples this process takes; None when their number is not known."""
        if source.count is None or self.count == 1:
            return source.count
        starts = range(self.rank * batch_size, source.count, self.count * batch_size)
        return sum(min(batch_size, source.count - start) for start in starts)

    def wait(self) -> None:
        """Wait for all processes."""
        if self.count > 1:
            with _together():
                dist.barrier()

    @contextmanager
    def one_a_machine_first(self) -> Iterator[None]:
        """Let one process of each machine do it before the others, who find its files."""
        if launch.local_rank() > 0:
            self.wait()
        try:
            yield
        finally:
            if launch.local_rank() == 0:
                self.wait()

    def agree(self, told: Callable[[], Mapping[str, Any]]) -> None:
        """Compare all that a number depends on, before the first batch.

        Args: told: `identity`, which is made only where there are several processes.
        Raises: ProcessError, the same on each of them, that names what differs.
        """
        if self.count == 1:
            return
        mine = {name: json.dumps(value, sort_keys=True) for name, value in told().items()}
        kept = {n: digest_of(v) if n.startswith(HASHES) else v for n, v in mine.items()}
        everyone: list[Any] = [None] * self.count
        with _together():
            dist.all_gather_object(everyone, kept)
        changed = [
            _differing(name, [each.get(name) for each in everyone])
            # Settings first: the line is cut where too much differs.
            for name in sorted(
                dict.fromkeys(name for each in everyone for name in each),
                key=lambda name: "." in name or name.startswith(HASHES),
            )
            if len({each.get(name) for each in everyone}) > 1
        ]
        if changed:
            raise ProcessError(
                "the processes of this run were not started alike",
                f"they differ in {', '.join(changed)}",
                "Start all processes with the same model, data and arguments",
            )

    def same(self, bases: Bases) -> Bases:
        """The first process' bases: a fit may round differently on another machine."""
        if self.count == 1:
            return bases
        theirs = {key: {n: U.clone() for n, U in of.items()} for key, of in bases.items()}
        with _together(), torch.no_grad():
            for of in theirs.values():
                for U in of.values():  # as it lies in memory: products round so
                    sent = U.cpu().contiguous()  # two processes may share a GPU, which NCCL refuses
                    dist.broadcast(sent, 0)
                    U.copy_(sent)
        return theirs

    def reduce(self, collector: Collector) -> None:
        """Give every process what all of them have measured.

        Raises: ProcessError when a process has gone.
        """
        if self.count == 1:
            return
        states: list[Any] = [None] * self.count
        with _together():
            dist.all_gather_object(states, collector.state())
        collector.merge(states)


def _differing(name: str, values: Sequence[str | None]) -> str:
    """What differs, and how the first process that is unlike the first one has it."""
    other = next(rank for rank, value in enumerate(values) if value != values[0])
    if name.startswith(HASHES):
        return f"{name} (ranks 0 and {other})"
    return f"{name} ({values[0]} on rank 0, {values[other]} on rank {other})"


@contextmanager
def _together() -> Iterator[None]:
    """Communication, where the end of another process comes to light."""
    try:
        yield
    except RuntimeError as error:
        # gloo's and nccl's own classes all derive from it, and say "closed by peer" and the like.
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise ProcessError(
            "another process of this run has ended",
            lines[0] if lines else type(error).__name__,
            "Look for its own message; run --resume DIR goes on from what was saved",
        ) from error


def join() -> Processes:
    """Join the processes that a launcher started, if it did; used by the command."""
    if not launch.launched():
        return Processes()
    if torch.cuda.is_available():
        torch.cuda.set_device(launch.local_rank() % torch.cuda.device_count())
    if not dist.is_initialized():  # by an earlier run of this command
        launch.follow(signal.SIGKILL)  # nothing is begun, and joining listens to no other
        with _together():
            dist.init_process_group("gloo")
        launch.follow(signal.SIGTERM)
        atexit.register(_leave)
    return current(wanted=True)


def _leave() -> None:
    """Leave together: gloo aborts a process whose neighbour closes its connections first.

    One that waits elsewhere learns of it by the connection that closes. It is not waited for by a
    barrier, which holds on to such a one for as long as any exchange may take.
    """
    if not dist.is_initialized() or launch.is_left():
        return
    with suppress(RuntimeError):  # the store has gone with another
        _met("left")
    dist.destroy_process_group()


def _met(key: str) -> int:
    """Count in the store who comes here, and wait a little for the others; gives the number."""
    store: Any = dist.distributed_c10d._get_default_store()
    number = int(store.add(key, 1))
    end = time.monotonic() + LINGER
    while store.add(key, 0) < dist.get_world_size() and time.monotonic() < end:
        time.sleep(0.05)
    return number


def current(*, wanted: bool) -> Processes:
    """The processes that share a pass: those of torch.distributed, if it is set up and wanted.

    Raises: ProcessError when they cannot exchange tensors of the CPU.
    """
    if not wanted or not dist.is_available() or not dist.is_initialized():
        return Processes()
    backend = str(dist.get_backend_config())
    if dist.get_world_size() > 1 and "cpu:" not in backend:
        raise ProcessError(
            f"the processes are joined by {backend} only",
            "values of samples are gathered on the CPU",
            "Use init_process_group('cpu:gloo,cuda:nccl')",
        )
    return Processes(dist.get_rank(), dist.get_world_size())


def first_to_say(line: str) -> bool:
    """Whether no other process has asked for this line before: it is printed once."""
    if not dist.is_initialized():
        return launch.rank() == 0
    key = f"said/{hashlib.sha256(line.encode()).hexdigest()}"
    try:
        # The store goes with the first process: the others ask before it does.
        return _met(key) == 1
    except RuntimeError:  # it has gone; better twice than never
        return True
