"""What reading JPEG files costs: a folder at 224 px against the same images in memory.

python benchmarks/folder.py --images 2000 --workers 1
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import whitebox_probe as wp
from whitebox_probe.data import open_data
from whitebox_probe.probing.forward import transform_of


def make(folder, count):
    """JPEGs of 256 x 256 with some structure, so that decoding costs what photographs do."""
    random = np.random.default_rng(0)
    for i in range(count):
        coarse = random.integers(0, 255, (16, 16, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)
        noisy = np.asarray(image) // 2 + random.integers(0, 64, (256, 256, 3), dtype=np.uint8)
        Image.fromarray(noisy.astype(np.uint8)).save(folder / f"{i:05d}.jpg", quality=90)


def main(args):
    model = wp.load(f"timm:{args.model}", weights="random")
    with tempfile.TemporaryDirectory() as name:
        make(Path(name), args.images)
        source = open_data(name, transform=transform_of(model.preprocess))
        images = torch.cat([batch.inputs for batch in source.batches(64, 0)])
        options = {"batch_size": 16, "progress": False}
        runs = {
            "memory": lambda: wp.probe(model, images, **options),
            "folder": lambda: wp.probe(model, name, workers=args.workers, **options),
        }
        wp.probe(model, images[:64], **options)  # warm
        taken = {which: [] for which in runs}
        for _ in range(args.rounds):
            for which, run in runs.items():
                start = time.perf_counter()
                run()
                taken[which].append(time.perf_counter() - start)
    middle = {which: statistics.median(values) for which, values in taken.items()}
    ratio = middle["folder"] / middle["memory"]
    print(f"{args.images} JPEGs, {args.workers} workers: {ratio:.3f} x the same from memory")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="vit_small_patch16_224")
    main(parser.parse_args())
