"""What an audit costs: ratios to the bare forward passes of its samples and of its draws.

    python benchmarks/audit.py                # the shipped models, 500 samples
    python benchmarks/audit.py --large        # ViT-S/16 and CRATE-small, 64 images of 224 px
    python benchmarks/audit.py --reading      # what it gains by reading layers once, and unrouted

The bare forward is the module under inference_mode, as torch runs it. The audit of the samples,
other settings included, and that of the draws of random weights are told apart, and together for as
many draws as there usually are. Times are the process' own, of one thread: medians of rounds.
"""

import argparse
import statistics
import time
from contextlib import nullcontext
from functools import partial
from unittest.mock import patch

import torch

import whitebox_probe as wp
from whitebox_probe.auditing.nulls import DRAWS, SAMPLES
from whitebox_probe.models import hooks
from whitebox_probe.models import model as models

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


def anew():
    """As if each layer were read each time, and what is measured were routed as the model is."""
    return patch.object(models, "_read", Nothing()), patch.object(hooks, "unrouted", nullcontext)


class Nothing:
    """In place of what holds the layers that were read: it holds none."""

    def get(self):
        return None

    def set(self, value):
        return None

    def reset(self, token):
        pass


def small_gpt2():
    import transformers

    config = transformers.GPT2Config(
        n_embd=64, n_layer=12, n_head=4, vocab_size=50, n_positions=64,
        bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    return wp.wrap(transformers.AutoModel.from_config(config, attn_implementation="eager").eval())


def reading(rounds):
    """Print what audits take, as a share of what they would take."""
    found = {name: (wp.load(name), "fashion-mnist") for name in SHIPPED}
    found |= {
        name: (known.build(0), known.data(0))
        for name, known in list(wp.reference.networks().items())[:4]
    }
    found["gpt2 of 12 layers, width 64"] = (small_gpt2(), torch.randint(0, 50, (64, 16)))
    for name, (model, data) in found.items():
        given = {"limit": 64, "draws": 4, "null_limit": 8, "progress": False}
        judged = partial(wp.audit, model, data, **given)
        judged()
        shares = []
        for _ in range(rounds):
            now = seconds(judged)
            layers, operations = anew()
            with layers, operations:
                before = seconds(judged)
            shares.append(now / before)
        print(f"{name}: {statistics.median(shares):.2f} of the time", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--large", action="store_true", help="ViT-S/16 and CRATE-small")
    parser.add_argument("--reading", action="store_true", help="with and without what it holds")
    parser.add_argument("--images", type=int, default=64, help="of --large")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread")
    if asked.reading:
        reading(asked.rounds)
    elif asked.large:
        large(asked.images, asked.rounds)
    else:
        shipped(asked.rounds)
