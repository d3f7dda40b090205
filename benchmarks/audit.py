"""What an audit costs: ratios to the bare forward passes of its samples and of its draws.

    python benchmarks/audit.py                # the shipped models, 500 samples
    python benchmarks/audit.py --large        # ViT-S/16 and CRATE-small, 64 images of 224 px

The bare forward is the module under inference_mode, as torch runs it. The audit of the samples,
other settings included, and that of the draws of random weights are told apart, and together for as
many draws as there usually are. Times are the process' own, of one thread: medians of rounds.
"""

import argparse
import statistics
import time

import torch

import whitebox_probe as wp
from whitebox_probe.auditing.nulls import DRAWS, SAMPLES

SHIPPED = ("crate-tiny-fmnist", "vit-tiny-fmnist")


def seconds(run):
    start = time.process_time()
    run()
    return time.process_time() - start


def bare(module, inputs, batch=32):
    with torch.inference_mode():
        for start in range(0, len(inputs), batch):
            module(inputs[start : start + batch])


def cost(name, model, inputs, data, *, limit, draws, rounds):
    """Print the three ratios."""
    given = {"limit": limit, "progress": False}
    wp.audit(model, data, limit=4, draws=2, null_limit=2, progress=False)  # warms up
    forward, alone, whole = [], [], []
    for _ in range(rounds):
        forward.append(seconds(lambda: bare(model.module, inputs)) / len(inputs))
        alone.append(seconds(lambda: wp.audit(model, data, null=False, **given)))
        whole.append(seconds(lambda: wp.audit(model, data, draws=draws, **given)))
    forward, alone, whole = map(statistics.median, (forward, alone, whole))
    drawn = (draws + draws // 2) * SAMPLES
    of_samples, of_draws = alone / (forward * limit), (whole - alone) / (forward * drawn)
    usually = (DRAWS + DRAWS // 2) * SAMPLES
    together = (of_samples * limit + of_draws * usually) / (limit + usually)
    print(
        f"{name}, {limit} samples: {of_samples:.1f} x the bare forwards of the samples, "
        f"{of_draws:.1f} x those of the draws, together {together:.1f} x (target 10)",
        flush=True,
    )


def shipped(rounds):
    for name in SHIPPED:
        model, inputs = wp.load(name), torch.randn(256, 1, 28, 28)
        cost(name, model, inputs, "fashion-mnist", limit=500, draws=DRAWS, rounds=rounds)


def large(images, rounds):
    inputs = torch.randn(images, 3, 224, 224)
    for name in ("timm:vit_small_patch16_224", "crate-small-in1k"):
        model = wp.load(name, weights="random", seed=1)
        cost(name, model, inputs, inputs, limit=images, draws=4, rounds=rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", action="store_true", help="ViT-S/16 and CRATE-small")
    parser.add_argument("--images", type=int, default=64, help="of --large")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread")
    if asked.large:
        large(asked.images, asked.rounds)
    else:
        shipped(asked.rounds)
