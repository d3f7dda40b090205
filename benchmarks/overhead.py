"""What probing costs on top of the bare forward pass: time and memory, in ratios.

    python benchmarks/overhead.py                 # ViT-S/16 and CRATE-small, both conventions
    python benchmarks/overhead.py --metrics       # the added cost of each metric of the catalogue
    python benchmarks/overhead.py --memory        # peak memory of 256 against 4,096 images
    python benchmarks/overhead.py --device cuda   # ViT-B/16 and CRATE-base, bf16, batch 256

Each ratio is of medians over rounds in which the contestants alternate, in one process. What is
timed is the whole pass over tensors in memory: the probe's with its table and statistics, the bare
one's under inference_mode.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Subset, TensorDataset

import whitebox_probe as wp
from whitebox_probe import checkpoints
from whitebox_probe._core import onednn
from whitebox_probe._core.errors import ProbeError
from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.models.registry import build

BATCH = 16


def vit(name="vit_small_patch16_224"):
    torch.manual_seed(0)
    return wp.load(f"timm:{name}", weights="random")


def crate(name="crate_small"):
    torch.manual_seed(0)
    family, arch = checkpoints.architecture(name)
    return wp.wrap(build(family, arch, source=name), name=name)


class Plain(nn.Module):
    """CRATE as its equations are written: three products a step, attention maps formed."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        net = self.network
        x = net.to_patch_embedding(images)
        x = torch.cat([net.cls_token.expand(len(x), -1, -1), x], dim=1) + net.pos_embedding
        for attention, ista in net.transformer.layers:
            x = x + self.mssa(attention.fn, attention.norm(x))
            x = self.ista(ista.fn, ista.norm(x))
        return net.mlp_head(x[:, 0])

    @staticmethod
    def mssa(step, x):
        B, n, _ = x.shape
        V = step.qkv(x).view(B, n, step.heads, step.dim_head).transpose(1, 2)
        A = (V @ V.mT * step.dim_head**-0.5).softmax(dim=-1)
        return step.to_out((A @ V).transpose(1, 2).reshape(B, n, -1))

    @staticmethod
    def ista(step, y):
        D = step.weight
        coded = F.linear(F.linear(y, D), D.T)
        return F.relu(y + step.step_size * (F.linear(y, D.T) - coded) - step.step_size * step.lam)


def hook_script(model, images):
    """As the release's script: logdet of n x n matrices of each head, by eigenvalues.

    By eigenvalues and not by LU, which is wrong on some machines with two threads.
    """
    kept = []
    layers = [attention.fn for attention, _ in model.module.transformer.layers]
    handles = [f.qkv.register_forward_hook(lambda m, i, o: kept.append(o)) for f in layers]
    with torch.inference_mode():
        for batch in images.split(BATCH):
            model.module(batch)
            for projected, fn in zip(kept, layers, strict=True):
                B, n, _ = projected.shape
                V = projected.view(B, n, fn.heads, fn.dim_head).transpose(1, 2)
                V = V / V.norm(dim=-1, keepdim=True)
                eye = torch.eye(n)
                scale = fn.dim_head / (n * 0.01)
                for k in range(fn.heads):
                    A = eye + scale * V[:, k] @ V[:, k].mT
                    0.5 * torch.linalg.cholesky_ex(A).L.diagonal(dim1=-2, dim2=-1).log().sum(-1)
            kept.clear()
    for handle in handles:
        handle.remove()


def forward(module, images, products=None):
    with torch.inference_mode(), products or nullcontext():
        for batch in images.split(BATCH):
            module(batch)


def probe(model, images, **options):
    wp.probe(model, images, batch_size=BATCH, progress=False, **options)


def race(contestants, rounds):
    """Median seconds of each, taken in turn."""
    for run in contestants.values():
        run()
    seconds = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def contestants(model, images):
    """The forward pass, and the default metrics in both conventions, by either kind of products."""
    runs = {
        "forward": lambda: forward(model.module, images),
        "forward by oneDNN": lambda: forward(model.module, images, onednn.routed(model.module)),
    }
    for convention in ("official", "paper"):
        for which, fast in ((convention, True), (f"{convention}, torch's products", False)):
            options = {"convention": convention, "fast": fast}
            runs[which] = lambda options=options: probe(model, images, **options)
    return runs


def told(name, found, base="forward"):
    for which, seconds in found.items():
        if which != base:
            ratio = f"{seconds / found[base]:.3f} x the {base} pass"
            print(f"{name}, {which}: {ratio} ({seconds:.2f} s)", flush=True)


def whole(args):
    images = torch.randn(args.images, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    told("ViT-S/16", race(contestants(vit(), images), args.rounds))
    white = crate()
    plain = Plain(white.module)
    with torch.inference_mode():
        torch.testing.assert_close(
            plain(images[:2]), white.module(images[:2]), rtol=1e-4, atol=1e-4
        )
    rate = {"metrics": ["compression"], "convention": "official"}
    runs = contestants(white, images) | {
        "plain": lambda: forward(plain, images),
        "hook script": lambda: hook_script(white, images),
        "R^c alone": lambda: probe(white, images, fast=False, **rate),
    }
    found = race(runs, args.rounds)
    told("CRATE-S", found)
    told("CRATE-S", {k: v for k, v in found.items() if "script" not in k}, "plain")
    added = found["hook script"] - found["forward"]
    ours = found["R^c alone"] - found["forward"]
    print(f"R^c of the official convention: added time {added / ours:.1f} x less than logdets")


def metrics(args):
    """Each metric alone, of the first of these models that has what it needs."""
    images = torch.randn(args.images, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    labelled = TensorDataset(images, torch.arange(args.images) % 8)
    models = [crate(), vit(), crate("tost_small")]
    runs = {m.name: lambda m=m: forward(m.module, images) for m in models}
    measured = {}
    for name in catalogue():
        for model in models:
            try:
                probe(model, Subset(labelled, range(16)), metrics=[name])
            except ProbeError:
                continue
            measured[name] = model.name
            runs[name] = lambda m=model, name=name: probe(m, labelled, metrics=[name], fast=False)
            break
    found = race(runs, max(3, args.rounds // 2))
    cost = {name: found[name] / found[of] - 1 for name, of in measured.items()}
    for name in sorted(cost, key=cost.get):
        default = "on" if catalogue()[name].default else "off"
        print(f"| `{name}` | {100 * cost[name]:.1f}% | {default} | {measured[name]} |")
    print("not measured:", ", ".join(set(catalogue()) - set(measured)) or "none")


def memory(_):
    """Peak memory in a process of its own for each number of images."""
    code = (
        "import resource, sys, torch, whitebox_probe as wp\n"
        "from torch.utils.data import Dataset\n"
        "class Images(Dataset):\n"
        "    def __len__(self): return int(sys.argv[1])\n"
        "    def __getitem__(self, i):\n"
        "        if i >= len(self): raise IndexError\n"
        "        return torch.randn(1, 28, 28, generator=torch.Generator().manual_seed(i))\n"
        "model = wp.load('crate-tiny-fmnist')\n"
        "wp.probe(model, Images(), batch_size=32, progress=False)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", code, str(n)]).split()[-1])
        for n in (256, 4096)
    ]
    print(f"peak memory of 4,096 images: {peaks[1] / peaks[0]:.3f} x that of 256")


def on_gpu(args):
    images = torch.randn(1024, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for model in (vit("vit_base_patch16_224"), crate("crate_base")):
        model.module.cuda()

        def bare(model=model):
            with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
                for batch in images.split(256):
                    model.module(batch.cuda())
            torch.cuda.synchronize()

        def probed(model=model):
            wp.probe(model, images, batch_size=256, dtype="bfloat16", device="cuda", progress=False)
            torch.cuda.synchronize()

        found = race({"forward": bare, "probe": probed}, args.rounds)
        rate = len(images) / found["probe"]
        print(f"{model.name}: {found['probe'] / found['forward']:.3f} x, {rate:.0f} images/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", action="store_true")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {platform.machine()}, {arguments.threads} threads")
    if arguments.device != "cpu":
        on_gpu(arguments)
    elif arguments.metrics:
        metrics(arguments)
    elif arguments.memory:
        memory(arguments)
    else:
        whole(arguments)
