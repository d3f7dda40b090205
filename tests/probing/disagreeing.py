"""Run by torchrun: two processes that were not started alike, in one way after another."""

import sys
from pathlib import Path

import torch

import whitebox_probe as wp
from tests.probing.sharing import IMAGES, LABELLED, model_of
from whitebox_probe._core.errors import ProbeError


def other_weights(rank):
    model = model_of("crate")
    with torch.no_grad():
        next(model.module.parameters()).flatten()[0] += rank * 1e-6
    return model


def one_other_image(rank):
    images = IMAGES.clone()
    images[37] += rank
    return [(image, 0) for image in images]  # a list: only its first sample is known beforehand


def one_other_class(rank):
    return [(image, i % 3 + (i == 37) * rank) for i, image in enumerate(IMAGES)]


CASES = {
    "alike": lambda rank: {},
    "eps": lambda rank: {"eps": 0.1 + rank},
    "lam": lambda rank: {"lam": 0.1 + rank},
    "metrics": lambda rank: {"metrics": ["l0", "hoyer"][: rank + 1]},
    "basis": lambda rank: {"basis": ["native", "random"][rank]},
    "number of bases": lambda rank: {"basis": ["native", "random"][: rank + 1]},
    "sites": lambda rank: {"metrics": ["l0"], "sites": {"l0": ["z_half", "z_out"][rank]}},
    "seed": lambda rank: {"seed": rank, "limit": 9},
    "limit": lambda rank: {"limit": 9 + rank},
    "batch_size": lambda rank: {"batch_size": 4 + rank},
    "class_token": lambda rank: {"class_token": rank == 0},
    "nonfinite": lambda rank: {"nonfinite": ["raise", "drop"][rank]},
    "weights": lambda rank: {"model": other_weights(rank)},
    "family": lambda rank: {"model": model_of(["crate", "vit"][rank]), "metrics": ["l0"]},
    "data": lambda rank: {"data": IMAGES + rank},
    "samples": lambda rank: {"data": one_other_image(rank)},
    "samples' classes": lambda rank: {"data": one_other_class(rank), "metrics": ["class_rate"]},
}


def main(folder):
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    for name, of in CASES.items():
        given = {"model": model_of("crate"), "data": LABELLED, "metrics": ["l0", "compression"]}
        given |= {"batch_size": 4, "progress": False} | of(rank)
        told = "measured"
        try:
            wp.probe(**given)
        except ProbeError as error:
            told = f"{type(error).__name__}: {error}"
        (folder / f"{name}-{rank}").write_text(told)
    torch.distributed.barrier()  # none leaves while another still talks to it
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
