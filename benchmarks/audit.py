"""What an audit costs: ratios to the bare forward passes of its model and of its null.

    python benchmarks/audit.py

The bare forward is the module under inference_mode, as torch runs it, of the same images, of the
model and of its random weights. Medians of rounds in which the contestants alternate.
"""

import argparse
import statistics
import time

import torch

import whitebox_probe as wp

MODELS = {"ViT-S/16": ("timm:vit_small_patch16_224", 224, 3)}


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def bare(module, images, batch):
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            module(images[start : start + batch])


def vit(images, batch, rounds):
    """An audit of a ViT-S/16 against the forward passes that it runs."""
    name, size, channels = MODELS["ViT-S/16"]
    model = wp.load(name, weights="random", seed=1)
    inputs = torch.randn(images, channels, size, size)
    wp.audit([model], inputs[:2], batch_size=2, progress=False)  # warms up
    forward, audit = [], []
    for _ in range(rounds):
        # The model's images once, and those of its null, which is as large.
        forward.append(2 * seconds(lambda: bare(model.module, inputs, batch)))
        audit.append(seconds(lambda: wp.audit([model], inputs, batch_size=batch, progress=False)))
    forward, audit = statistics.median(forward), statistics.median(audit)
    print(
        f"ViT-S/16, {images} images, batch {batch}: forwards {forward:.2f} s, audit {audit:.2f} s"
    )
    print(f"  audit {audit / forward:.2f} x the bare forwards of model and null (target 6)")


def shipped(images, rounds):
    """The audit of the shipped CRATE, null included."""
    model = wp.load("crate-tiny-fmnist")
    wp.audit([model], "fashion-mnist", limit=32, progress=False)  # warms up
    inputs = torch.randn(images, 1, 28, 28)
    audit, forward = [], []
    for _ in range(rounds):
        forward.append(2 * seconds(lambda: bare(model.module, inputs, 32)))
        audit.append(
            seconds(lambda: wp.audit([model], "fashion-mnist", limit=images, progress=False))
        )
    forward, audit = statistics.median(forward), statistics.median(audit)
    print(f"crate-tiny-fmnist, {images} images: forwards {forward:.2f} s")
    print(f"  audit {audit:.2f} s (target 4)")
    print(f"  audit {audit / forward:.2f} x the bare forwards of model and null")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.manual_seed(0)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    shipped(500, asked.rounds)
    vit(asked.images, asked.batch, asked.rounds)
