"""Weights from inside a training as they ship, in half precision: what that costs, and the entries.

    python benchmarks/series.py RUN --epochs 1 8            # RUN: --out of whitebox_probe.training
    python benchmarks/series.py RUN --epochs 1 8 --write    # into the package and checkpoints.yaml

Of each epoch: test accuracy of the float32 weights and of the half-precision ones (which are loaded
into a float32 model), and the largest change of each measure at any layer, relative to its mean.
RUN's log is compared with the shipped one first, and its final weights with the shipped ones: the
series is of the run that made the shipped models if they are the same.
"""

import argparse
import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import whitebox_probe as wp
from whitebox_probe.data import fashion_mnist
from whitebox_probe.training.loop import accuracy, normalise
from whitebox_probe.training.recipe import Recipe, build

ROOT = Path(__file__).parents[1]
WEIGHTS = ROOT / "whitebox_probe" / "weights"
SAMPLES = 500
MOST = 1e-2  # of a measure's mean: more than that would show in a figure


def same_run(run, kind):
    """How far the run is the shipped one: epochs with the same numbers, and the final weights."""
    here, shipped = (
        json.loads(path.read_text())
        for path in (run / "log.json", WEIGHTS / f"{kind}-tiny-fmnist.log.json")
    )
    if here["recipe"] != shipped["recipe"] or here["data"] != shipped["data"]:
        raise SystemExit(f"{run} is of another recipe, or of other data")
    pairs = zip(here["epochs"], shipped["epochs"], strict=False)
    equal = [all(a[k] == b[k] for k in ("loss", "validation_accuracy")) for a, b in pairs]
    weights = {"init": bits(run / "init.safetensors") == bits(WEIGHTS / f"{kind}-tiny-fmnist-init")}
    if (run / "final.safetensors").is_file():
        weights["final"] = bits(run / "final.safetensors") == bits(WEIGHTS / f"{kind}-tiny-fmnist")
    print(f"{kind}: {sum(equal)} of {len(equal)} epochs have the shipped log's loss and accuracy")
    for stage, is_same in weights.items():
        print(f"  {stage}: {'the shipped weights bit for bit' if is_same else 'other weights'}")
    print(f"  torch {here['versions']['torch']}; shipped: {shipped['versions']['torch']}")


def bits(path):
    """The tensors of a file, as bytes."""
    path = path if path.suffix else path.with_name(f"{path.name}.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path).items()}


def half(weights):
    """The same weights in half precision; none may leave its range."""
    made = {name: tensor.half() for name, tensor in weights.items()}
    assert all(bool(tensor.isfinite().all()) for tensor in made.values())
    return made


def tested(recipe, weights, folder):
    """Accuracy on all test images, and on the shipped ones."""
    model = build(recipe)
    model.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    images, labels = fashion_mnist.read_split("test", folder)
    pixels, classes = normalise(images), torch.from_numpy(labels)
    own, own_classes = fashion_mnist.read_embedded()
    return (
        accuracy(model, pixels, classes),
        accuracy(model, normalise(own), torch.from_numpy(own_classes)),
    )


def measured(path, kind):
    model = wp.load(path, arch=f"{kind}-tiny-fmnist")
    return wp.probe(model, "fashion-mnist", limit=SAMPLES, progress=False).frame


def largest_changes(one, other):
    """Metric -> the largest change of a layer's mean, relative to the metric's mean over layers."""
    apart = (one["mean"] - other["mean"]).abs()
    scale = one["mean"].abs().groupby(one["metric"]).mean()
    return (apart.groupby(one["metric"]).max() / scale).sort_values(ascending=False)


def entry(kind, epoch, epochs, path, found):
    """The text of an entry of checkpoints.yaml, like that of the trained model."""
    registry = (ROOT / "checkpoints.yaml").read_text()
    name = f"{kind}-tiny-fmnist"
    like = registry.partition(f"  {name}:\n")[2].partition("\n\n")[0].splitlines()
    kept = {line.split(":")[0].strip(): line for line in like}
    where = [f"test, all {10_000:,}", f"test, the shipped {2_000:,}"]
    scores = [
        f'      - {{dataset: fashion-mnist, split: "{split}", top1: {100 * value:.2f}, '
        "source: measured by benchmarks/series.py}"
        for split, value in zip(where, found, strict=True)
    ]
    lines = [
        f"  {path.stem}:",
        kept["family"],
        kept["arch"],
        f"    source: {{kind: packaged, file: weights/{path.name}}}",
        f"    sha256: {hashlib.sha256(path.read_bytes()).hexdigest()}",
        f"    size: {path.stat().st_size}",
        kept["preprocess"],
        kept["training_data"],
        "    accuracy:",
        *scores,
        *(kept[key] for key in ("licence", "citation", "reference", "tested")),
        f'    note: "{name} after epoch {epoch} of {epochs}, in half precision; from a second run '
        'of its recipe (docs/shipped-models.md)"',
    ]
    return "\n".join(lines) + "\n"


def ship(kind, epoch, epochs, weights, found):
    """Write the weights, and the entry behind that of the initialisation or an earlier epoch."""
    path = WEIGHTS / f"{kind}-tiny-fmnist-epoch{epoch:02d}.safetensors"
    save_file(weights, path)
    path.chmod(0o644)
    registry = ROOT / "checkpoints.yaml"
    blocks = registry.read_text().split("\n\n")
    blocks = [block for block in blocks if not block.startswith(f"  {path.stem}:")]
    names = [block.split(":")[0].strip() for block in blocks]
    before = f"{kind}-tiny-fmnist-epoch"
    mine = [
        i
        for i, name in enumerate(names)
        if name == f"{kind}-tiny-fmnist-init" or (name.startswith(before) and name < path.stem)
    ]
    blocks.insert(mine[-1] + 1, entry(kind, epoch, epochs, path, found).rstrip("\n"))
    registry.write_text("\n\n".join(blocks))
    print(f"  written: {path.name} and its entry. Now run docs/tables.py")


def main(args):
    log = json.loads((args.run / "log.json").read_text())
    recipe = Recipe(**log["recipe"])
    kind = recipe.kind
    same_run(args.run, kind)
    for epoch in args.epochs:
        file = args.run / f"epoch-{epoch:02d}.safetensors"
        weights = load_file(file)
        halved = half(weights)
        save_file(halved, args.run / f"half-{epoch:02d}.safetensors")
        single, short = (tested(recipe, w, args.data) for w in (weights, halved))
        changes = largest_changes(
            measured(file, kind), measured(args.run / f"half-{epoch:02d}.safetensors", kind)
        )
        told = [
            f"{100 * whole:.2f}% in {which} ({100 * part:.2f}% of the shipped 2,000)"
            for which, (whole, part) in (("float32", single), ("half precision", short))
        ]
        print(f"{kind} epoch {epoch}: accuracy {', '.join(told)}")
        print("  largest changes: " + ", ".join(f"{m} {v:.1e}" for m, v in changes[:5].items()))
        fits = abs(single[0] - short[0]) <= 5e-4 and changes.iloc[0] <= MOST
        print(f"  half precision {'is enough' if fits else 'is NOT enough'}")
        if args.write and fits:
            ship(kind, epoch, recipe.epochs, halved, short)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--epochs", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--write", action="store_true")
    main(parser.parse_args())
