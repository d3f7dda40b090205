"""What watching a training costs: time in the watch over time in the steps, and what it is made of.

    python benchmarks/watch.py                  # crate-tiny's recipe, at the default interval
    python benchmarks/watch.py --kind vit
    python benchmarks/watch.py --every 100
    python benchmarks/watch.py --device cuda
    python benchmarks/watch.py --device cuda --control   # are two equal trainings equal there?
    python benchmarks/watch.py --parts          # one measurement, by measure and number of samples

Two trainings by the shipped recipe go on in one process, a step of one and a step of the other in
turn, one of them watched: the ratio of their times is taken of the same minutes. The second number
is the share that was spent in `watcher.step()`, which the machine's noise does not move. At the end
the weights of both are compared bit for bit.
"""

import argparse
import platform
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

import whitebox_probe as wp
from whitebox_probe.data import fashion_mnist
from whitebox_probe.training.loop import normalise
from whitebox_probe.training.recipe import Recipe, build, optimizers, schedule

MEASURES = ("compression", "coding_rate", "l0", "hoyer")


class Training:
    """The recipe's steps on the shipped images, as `training/run.py` makes them."""

    def __init__(self, recipe, images, labels, steps):
        self.recipe, self.images, self.labels, self.steps = recipe, images, labels, steps
        self.net = build(recipe).train().to(images.device)
        self.optimizers = optimizers(self.net, recipe)
        self.base = [[g["lr"] for g in o.param_groups] for o in self.optimizers]

    def step(self, number):
        """One batch; seconds."""
        start = time.perf_counter()
        random = torch.Generator().manual_seed(number)
        batch = torch.randint(len(self.images), (self.recipe.batch_size,), generator=random)
        batch = batch.to(self.images.device)
        for optimizer, rates in zip(self.optimizers, self.base, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(number, self.steps, self.recipe)
        flip = (torch.rand(len(batch), generator=random) < 0.5).to(batch.device)
        images = self.images[batch]
        images = torch.where(flip[:, None, None, None], images.flip(3), images)
        loss = F.cross_entropy(self.net(images), self.labels[batch], label_smoothing=0.1)
        self.net.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        loss.item()
        return time.perf_counter() - start


def two_trainings(args):
    """A watched training and another, and whether their weights are the same at the end."""
    recipe = Recipe(kind=args.kind)
    pixels, labels = fashion_mnist.read_embedded()
    images = normalise(pixels).to(args.device)
    classes = torch.from_numpy(labels).to(args.device)
    alone, watched = (Training(recipe, images[:-16], classes[:-16], 6435) for _ in range(2))
    watcher = wp.watch(watched.net, images[-16:], every=args.every, limit=args.limit)
    bare, steps, watching = [], [], []
    alone.step(0), watched.step(0)  # first passes are slow
    watcher.start(1)
    for number in range(1, args.steps + 1):
        bare.append(alone.step(number))
        watcher.pace.run()  # the other training's step is none of its time
        steps.append(watched.step(number))
        start = time.perf_counter()
        if not args.control:
            watcher.step(number + 1)
        watching.append(time.perf_counter() - start)
    pairs = zip(alone.net.state_dict().values(), watched.net.state_dict().values(), strict=True)
    same = all(torch.equal(one, other) for one, other in pairs)
    found = watcher.pace
    print(
        f"{args.kind}: {(sum(steps) + sum(watching)) / sum(bare):.4f} x the training alone; in the "
        f"watch: {sum(watching) / sum(steps):.4f} of the steps' time; {len(watcher.results()) - 1} "
        f"measurements in {args.steps} steps, one in {found.interval} "
        f"(each {found.cost / found.step_seconds:.2f} of a step); "
        f"weights {'the same bit for bit' if same else 'DIFFER'}",
        flush=True,
    )


def parts(args):
    """One measurement over one step: by what is measured, and on how many samples."""
    recipe = Recipe(kind=args.kind)
    pixels, labels = fashion_mnist.read_embedded()
    images = normalise(pixels).to(args.device)
    classes = torch.from_numpy(labels).to(args.device)
    training = Training(recipe, images, classes, 6435)
    training.step(0)
    asked = [*((m,) for m in MEASURES), MEASURES, (*MEASURES, "effective_rank")]
    for samples in (8, 16, 32):
        watchers = {
            names: wp.watch(training.net, images[-64:], every=1, limit=samples, metrics=list(names))
            for names in (asked if samples == 16 else asked[-2:])
        }
        took = {names: [] for names in watchers}
        steps = []
        for number in range(args.rounds):
            steps.append(training.step(number))
            for names, watcher in watchers.items():
                watcher._timed()
                took[names].append(watcher.pace._costs[-1])
        step = statistics.median(steps)
        for names, seconds in took.items():
            print(
                f"{samples} samples, {' '.join(names)}: {statistics.median(seconds) / step:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("crate", "vit"), default="crate")
    parser.add_argument("--every", type=int)
    parser.add_argument("--limit", type=int, default=16)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--control", action="store_true", help="watch neither after the start")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--parts", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {platform.machine()}, {arguments.threads} threads")
    (parts if arguments.parts else two_trainings)(arguments)
