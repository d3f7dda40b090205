"""A GPU against the CPU: every measure of the shipped models, verdicts, and what a pass leaves.

    python benchmarks/gpu.py                 # all checks; exits 1 if one fails
    python benchmarks/gpu.py --only values   # one of them

The same weights and samples are measured on both, in float32, and set side by side. Speed on a GPU
is `overhead.py --device cuda` and `watch.py --device cuda`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

import numpy as np
import torch

import whitebox_probe as wp
from whitebox_probe.metrics.catalogue import catalogue

SHIPPED = {
    "crate-tiny-fmnist": "fashion-mnist",
    "vit-tiny-fmnist": "fashion-mnist",
    "crate-tiny-kjv": "kjv",
    "gpt2-tiny-kjv": "kjv",
}
KEYS = ["layer", "site", "metric", "basis", "convention"]
MEMORY = 320 * 2**20  # that the check of memory leaves, on a card of any size
BOUND = 2e-5  # of two devices' float32
DEVICE = "cuda"  # another to try the script without one


def all_measures(model):
    """Those that the model can be asked for."""
    names = []
    for name in sorted(catalogue()):
        try:
            wp.probe(model, DATA[model.name], [name], limit=4, progress=False)
        except wp.ProbeError:
            continue
        names.append(name)
    return names


DATA = dict(SHIPPED)


def apart(one, other):
    """The largest deviation of means by measure, relative to the measure's largest value."""
    both = one.frame.merge(other.frame, on=KEYS, suffixes=("", "_other"), how="outer")
    found = {}
    for metric, rows in both.groupby("metric"):
        values, others = rows["mean"].to_numpy(), rows["mean_other"].to_numpy()
        same_gaps = (np.isnan(values) == np.isnan(others)).all()
        largest = np.nanmax(np.abs(values)) or 1.0
        found[metric] = float(np.nanmax(np.abs(values - others)) / largest)
        if not same_gaps:
            found[metric] = np.inf
    return found


def values():
    """Every measure of the shipped models, twice, in other batches, and under TF32."""
    good = True
    for name in SHIPPED:
        model = wp.load(name)
        names = all_measures(model)
        options = {"limit": 64, "batch_size": 16, "progress": False}
        cpu = wp.probe(model, DATA[name], names, **options)
        again = wp.probe(model, DATA[name], names, device=DEVICE, **options)
        worst = sorted(apart(cpu, again).items(), key=lambda kv: -kv[1])
        bad = [(m, v) for m, v in worst if not v <= BOUND]
        good &= not bad
        print(f"values {name}: {len(worst)} measures, worst {worst[:4]}", flush=True)
        if bad:
            print(f"   ABOVE {BOUND}: {bad}")
        once = wp.probe(model, DATA[name], names, device=DEVICE, **options)
        other = wp.probe(model, DATA[name], names, device=DEVICE, **options | {"batch_size": 7})
        same = again.frame.equals(once.frame) and again.samples.equals(once.samples)
        moved = max(apart(again, other).values())
        print(f"   twice {'the same bit for bit' if same else 'DIFFERS'}; batch 7: {moved:.1e}")
        good &= same and moved <= BOUND
        default = wp.probe(model, DATA[name], device=DEVICE, **options)
        torch.backends.cuda.matmul.allow_tf32 = True
        loose = wp.probe(model, DATA[name], device=DEVICE, **options)
        kept = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        print(
            f"   with TF32 allowed by the user: {max(apart(default, loose).values()):.1e}; "
            f"the switch {'is as it was' if kept else 'WAS CHANGED'}"
        )
        good &= kept
    return good


def guests():
    """What a pass leaves behind on the GPU."""
    model = wp.load("crate-tiny-fmnist")
    model.module.to(DEVICE).train()
    images = torch.randn(4, 1, 28, 28, device=DEVICE)
    torch.cuda.manual_seed(3), torch.manual_seed(3)
    before = torch.cuda.get_rng_state(), torch.get_rng_state()
    flags = _flags()
    wp.probe(model, "fashion-mnist", limit=32, progress=False)
    with wp.record(model, sites=["z_half", "attn_weights"]) as rec:
        model.module(images)
    on = rec["z_half", 3].device.type
    wp.view(model, "fashion-mnist", limit=2)
    other = wp.load("vit-tiny-fmnist")
    wp.similarity(model, other, "fashion-mnist", limit=16, device=DEVICE, progress=False)
    fine = _flags() == flags and model.module.training
    fine &= torch.equal(before[0], torch.cuda.get_rng_state())
    print(
        f"guest: states and switches {'as before' if fine else 'CHANGED'}; recorded on {on}; "
        f"parameters on {next(model.module.parameters()).device.type}"
    )
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    for _ in range(3):
        wp.probe(model, "fashion-mnist", limit=64, progress=False)
    torch.cuda.synchronize()
    leak = torch.cuda.memory_allocated() - held
    print(f"guest: memory held after three probes {leak} bytes more")
    return fine and leak <= 2**20


def _flags():
    matmul = torch.backends.cuda.matmul
    return (
        matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        torch.cuda.current_device(),
        torch.get_num_threads(),
    )


def half():
    """bfloat16 and float16 forwards on the GPU against float32 on the CPU."""
    for name in ("crate-tiny-fmnist", "vit-tiny-fmnist", "gpt2-tiny-kjv"):
        model = wp.load(name)
        cpu = wp.probe(model, DATA[name], limit=64, progress=False)
        for dtype in ("bfloat16", "float16"):
            gpu = wp.probe(model, DATA[name], limit=64, dtype=dtype, device=DEVICE, progress=False)
            worst = max(apart(cpu, gpu).items(), key=lambda kv: kv[1])
            print(f"half {name} {dtype}: worst {worst[0]} {worst[1]:.1e}", flush=True)
    return True


def spread():
    """A model that accelerate puts on the GPU and the CPU at once."""
    import transformers
    from accelerate import dispatch_model

    config = transformers.GPT2Config(n_layer=4, n_embd=64, n_head=4, vocab_size=300, n_positions=64)
    torch.manual_seed(0)
    net = transformers.GPT2LMHeadModel(config).eval()
    tokens = torch.randint(0, 300, (8, 32))
    want = wp.probe(wp.wrap(net, name="net"), tokens, progress=False)
    places = {"transformer.wte": 0, "transformer.wpe": 0, "transformer.drop": 0}
    places |= {f"transformer.h.{i}": 0 if i < 2 else "cpu" for i in range(4)}
    places |= {"transformer.ln_f": 0, "lm_head": 0}
    got = wp.probe(
        wp.wrap(dispatch_model(net, places, main_device=0), name="net"), tokens, progress=False
    )
    worst = max(apart(want, got).values())
    print(f"spread over GPU and CPU by accelerate: worst {worst:.1e}")
    return worst <= BOUND


def verdicts():
    """The audit of the shipped pair on both."""
    options = {"limit": 48, "draws": 3, "progress": False}
    good = True
    for name in ("crate-tiny-fmnist", "vit-tiny-fmnist"):
        taken, found = {}, {}
        for device in ("cpu", DEVICE):
            start = time.perf_counter()
            audit = wp.audit(wp.load(name), "fashion-mnist", device=device, **options)
            taken[device] = time.perf_counter() - start
            found[device] = audit.frame
        same = found["cpu"]["verdict"].tolist() == found[DEVICE]["verdict"].tolist()
        good &= same
        print(
            f"verdicts {name}: {'the same' if same else 'DIFFER'}; "
            f"cpu {taken['cpu']:.1f} s, cuda {taken['cuda']:.1f} s",
            flush=True,
        )
        if not same:
            print(found["cpu"].to_string(), found[DEVICE].to_string())
    return good


def commands():
    """The command line: a GPU named, one that is not there, two processes on one."""
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for device, status in ((DEVICE, 0), ("cuda:7", 2)):
            words = ["run", "vit-tiny-fmnist", "--device", device, "--limit", "64"]
            program = [sys.executable, "-m", "whitebox_probe", *words, "--out", f"on-{status}"]
            start = time.perf_counter()
            done = subprocess.run(program, cwd=folder, capture_output=True, text=True, timeout=170)
            last = (done.stderr.strip().splitlines() or [""])[-1]
            right = done.returncode == status and "Traceback" not in done.stderr
            good &= right
            print(
                f"command {' '.join(words)}: exit {done.returncode}"
                f"{'' if right else ' NOT ' + str(status)}, {time.perf_counter() - start:.1f} s: "
                f"{last[:220]}",
                flush=True,
            )
        for count in (1, 2):
            out = Path(folder) / f"torchrun{count}"
            program = [
                sys.executable,
                "-m",
                "torch.distributed.run",
                "--standalone",
                f"--nproc-per-node={count}",
                "-m",
                "whitebox_probe",
                "run",
                "vit-tiny-fmnist",
                "--device",
                DEVICE,
                "--limit",
                "64",
                "--out",
                str(out),
            ]
            done = subprocess.run(program, capture_output=True, text=True, timeout=170)
            right = done.returncode == 0 and (out / "table.parquet").exists()
            good &= right
            print(f"torchrun, {count} on one GPU: exit {done.returncode}", flush=True)
            if not right:
                print(done.stderr[:1500])
        one, two = (wp.Result.load(Path(folder) / f"torchrun{n}") for n in (1, 2))
        worst = max(apart(one, two).values())
        print(f"torchrun: two against one {worst:.1e}")
        good &= worst <= BOUND
    return good


def memory():
    """A batch that the GPU has no memory for: told in a line, and a smaller one goes on."""
    model = wp.load("vit-tiny-fmnist")
    torch.cuda.empty_cache()
    whole = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(MEMORY / whole)
    try:
        wp.probe(model, "fashion-mnist", batch_size=2000, device=DEVICE, progress=False)
        told = "NOTHING"
    except wp.ProbeError as error:
        told = str(error)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    wp.probe(model, "fashion-mnist", limit=64, device=DEVICE, progress=False)
    print(f"memory: {told[:300]}")
    return "smaller batch_size" in told


CHECKS = {c.__name__: c for c in (values, guests, half, spread, verdicts, memory, commands)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=CHECKS, nargs="*", default=[*CHECKS])
    args = parser.parse_args()
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"torch {torch.__version__}, {card}, Python {sys.version.split()[0]}", flush=True)
    failed = []
    for name in args.only:
        try:
            if not CHECKS[name]():
                failed.append(name)
        except Exception as error:  # noqa: PERF203 - the other checks go on
            failed.append(f"{name} ({type(error).__name__}: {error})")
            traceback.print_exc()
    print(f"failed: {', '.join(failed) or 'none'}")
    sys.exit(1 if failed else 0)
