"""Two processes with one thread each against one process with one thread, on the same samples.

    python benchmarks/many_processes.py --samples 512

Both are measured in turn within one run: the first process alone while the others wait, then all of
them together. Printed are the medians, their ratio, and how far the two results are apart. Start-up
is left out; needs as many idle cores as processes. The ratio of processor time (of the busiest
process) is what the split itself allows, whatever else the machine does.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

import numpy as np
import torch
from torch import distributed as dist

import whitebox_probe as wp


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="crate-small-in1k", help="its architecture is measured")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def measure(args):
    """Run by each process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    first = dist.get_rank() == 0
    model = wp.load(args.model, weights="random")
    size = model.preprocess.size
    channels = {"L": 1}.get(model.preprocess.mode, 3)
    random = torch.Generator().manual_seed(0)
    images = torch.randn(args.samples, channels, size, size, generator=random)
    options = {"batch_size": args.batch_size, "progress": False}
    wp.probe(model, images[: args.batch_size * args.processes], **options)  # warm
    seconds, busy = {"one": [], "many": []}, {"one": [], "many": []}
    for _ in range(args.rounds):
        for who in seconds:
            dist.barrier()
            start, used = time.perf_counter(), time.process_time()
            if who == "many":
                shared = wp.probe(model, images, **options)
            elif first:
                alone = wp.probe(model, images, distributed=False, **options)
            most = torch.tensor(time.process_time() - used)
            dist.all_reduce(most, dist.ReduceOp.MAX)
            busy[who].append(float(most))
            seconds[who].append(time.perf_counter() - start)
    if first:
        one, many = (statistics.median(each) for each in seconds.values())
        cpu_one, cpu_many = (statistics.median(each) for each in busy.values())
        both = [r.frame.set_index(["metric", "site", "layer"])["mean"] for r in (alone, shared)]
        apart = np.nanmax(np.abs(both[1] / both[0] - 1))
        print(f"{args.model}, {args.samples} samples, batch {args.batch_size}, {machine()}")
        print(f"one process:   {one:7.2f} s  {args.samples / one:7.1f} samples/s")
        print(f"{args.processes} processes:   {many:7.2f} s  {args.samples / many:7.1f} samples/s")
        print(f"speed-up:      {one / many:7.2f}x (medians of {args.rounds}, alternating)")
        print(f"by processor time: {cpu_one / cpu_many:.2f}x")
        print(f"largest relative difference of a mean: {apart:.1e}")
    dist.destroy_process_group()


def machine():
    return f"torch {torch.__version__}, {os.cpu_count()} cores"


def main():
    args = parse()
    if "RANK" in os.environ:
        measure(args)
        return
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={args.processes}"]
    words = [sys.executable, *launch, __file__, *sys.argv[1:]]
    # The package of this checkout, where it is not installed.
    paths = [os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    sys.exit(subprocess.run(words, env=env, check=False).returncode)


if __name__ == "__main__":
    main()
