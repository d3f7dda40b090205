"""Two processes that reduce every measure as torchmetrics does; imported, their data.

Run: python -m tests.contract.joining FOLDER. Both are forks of one that has imported all they need.
"""

import multiprocessing
import sys
from pathlib import Path

import torch

import whitebox_probe as wp
from tests.conftest import measured
from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.metrics.measure import SampleMeasure, WeightMeasure

MEASURES = list(catalogue().values())
G = torch.Generator().manual_seed(3)
# 24 samples a batch: an intrinsic dimension needs 20 different points.
BATCHES = [torch.randn(24, 6, 8, dtype=torch.float64, generator=G).relu() for _ in range(3)]
U = torch.randn(2, 8, 3, dtype=torch.float64, generator=G)


def made(kind, **options):
    return getattr(wp.metrics, kind.__name__)(**options)


def batch(kind, number):
    """Keyword arguments of `update` for one of the batches; its classes are its own."""
    return measured(kind, BATCHES[number], U, labels=torch.arange(24) % 3 + number)


def numbered(kind, number):
    """The same, with the samples' numbers; weights have none."""
    ids = torch.arange(24 * number, 24 * (number + 1))
    return batch(kind, number) | ({} if issubclass(kind, WeightMeasure) else {"ids": ids})


def main(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    found = {}
    for kind in MEASURES:
        metric = made(kind)
        if rank == 1:  # the first process has seen nothing
            metric.update(**numbered(kind, 0))
        first = metric.compute()
        metric.update(**numbered(kind, 2 if rank == 0 else 1))
        found[kind.name] = [first, metric.compute()]
        if issubclass(kind, SampleMeasure):
            assert len(metric.samples()) == 24 * (1 + rank)  # its own again
        metric.reset()
        try:
            metric.compute()
        except wp.ProbeError as error:
            found[kind.name].append(str(error))
        metric.update(**numbered(kind, 0))  # what failed on all leaves nobody's states behind
    try:
        made_of = {"eps": 0.1 + rank}
        metric = wp.metrics.CodingRate(**made_of)
        metric.update(BATCHES[0])
        metric.compute()
    except wp.ProbeError as error:
        found["different"] = str(error)
    torch.save(found, folder / f"{rank}.pt")
    torch.distributed.barrier()  # none leaves while another still talks to it
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    made(MEASURES[0])  # imports torchmetrics
    fork = multiprocessing.get_context("fork")
    both = [fork.Process(target=main, args=(rank, Path(sys.argv[1]))) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    sys.exit(any(process.exitcode for process in both))
