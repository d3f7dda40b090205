"""Run by torchrun: several processes share each of these passes; the first one saves the results.

Imported, it gives the same passes to a single process.
"""

import json
import sys
from functools import cache
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

import whitebox_probe as wp
from tests.conftest import small_crate, small_vit
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.metrics.catalogue import catalogue

G = torch.Generator().manual_seed(4)
IMAGES = torch.randn(61, 3, 12, 12, generator=G)
LABELS = (torch.arange(61) // 4) % 5  # a batch of 4 is of one class: each process lacks some
TOKENS = torch.randn(10, 6, 8, generator=G)
LABELLED = TensorDataset(IMAGES, LABELS)
MEASURES = "measures.json"
ALONE = ("official", "pca")  # of a single process under torchrun


def model_of(kind):
    torch.manual_seed(0)
    return wp.wrap({"crate": small_crate, "vit": small_vit}[kind](), name=kind)


@cache
def of_kind(kind, convention):
    """Every measure of the catalogue that a model of this kind has: asked of it once a process."""
    model, found = model_of(kind), []
    for name, measure in catalogue().items():
        if convention in getattr(measure, "site", {convention: ""}):
            try:
                wp.probe(model, IMAGES[:2], [name], convention=convention, distributed=False)
            except ProbeError as error:
                if "no labels" not in str(error):
                    continue
            found.append(name)
    return tuple(found)


def metrics_of(model, convention="paper"):
    """Every measure of the catalogue that this model has."""
    return list(of_kind(model.name, convention))


def measures():
    """Kind of model -> every measure that it has, for processes that need not ask again."""
    return {kind: metrics_of(model_of(kind)) for kind in ("crate", "vit")}


def passes(measures):
    """Name -> a function that probes, with the measures of each kind.

    Of every measure there are fewer samples, whose last batch is not full either.
    """
    crate, vit = model_of("crate"), model_of("vit")
    common = {"batch_size": 4, "progress": False}
    every = common | {"limit": 33}
    of_crate, of_vit = measures["crate"], measures["vit"]
    return {
        "crate": lambda: wp.probe(crate, LABELLED, of_crate, **every),
        "vit": lambda: wp.probe(vit, LABELLED, of_vit, orthonormal=True, **every),
        "official": lambda: wp.probe(crate, LABELLED, convention="official", **common),
        "pca": lambda: wp.probe(vit, IMAGES, basis="pca", limit=30, fit_limit=20, **common),
        "null": lambda: wp.probe(vit, IMAGES, null="gaussian", eps=[0.1, 0.5], **common),
        "five samples": lambda: wp.probe(crate, LABELLED, of_crate, limit=5, **common),
        "one batch": lambda: wp.probe(vit, LABELLED, of_vit, limit=9, progress=False),
    }


def main(folder, some=()):
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    measures = json.loads((folder / MEASURES).read_text())
    runs = passes(measures)
    for name in some or runs:
        result = runs[name]()
        if rank == 0:
            result.save(folder / name)
        result.samples.to_pickle(folder / f"{name}-{rank}")
    loader = DataLoader(LABELLED, batch_size=4)
    try:
        wp.probe(model_of("vit"), loader, progress=False)
    except ProbeError as error:
        (folder / f"loader-{rank}").write_text(str(error))
    alone = wp.probe(model_of("vit"), loader, progress=False, distributed=False)
    assert len(alone.samples) == 61
    as_metrics(folder / f"metrics-{rank}.pt")
    torch.distributed.barrier()  # none leaves while another still talks to it
    torch.distributed.destroy_process_group()


def as_metrics(path):
    """Metrics by themselves, as torchmetrics users have them; one process has seen less."""
    rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
    sample, classes = wp.metrics.CodingRate(), wp.metrics.ClassRate()
    found = []
    for part in (range(7), range(7, 10)):  # after a reduction they go on
        for i in part[rank::count]:
            sample.update(TOKENS[i : i + 1], ids=torch.tensor([i]))
            classes.update(TOKENS[i : i + 1], labels=torch.tensor([i % 3]))
        found += [float(sample.compute()), classes.compute()]
    torch.save(found, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
