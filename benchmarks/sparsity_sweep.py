"""Is the rise of the non-zero share in late layers real? A sweep over lam, eta, seed and width.

Trains small CRATEs by the package's recipe on a part of Fashion-MNIST, and measures each layer's
share of non-zero entries and R^c (official convention) before and after, on held-out images.

    python benchmarks/sparsity_sweep.py --out runs/sweep --report docs/sparsity-sweep.md

Points that are already in --out are not trained again.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

import whitebox_probe as wp
from whitebox_probe.training.files import STATE
from whitebox_probe.training.loop import accuracy, load_data, train
from whitebox_probe.training.recipe import Recipe, build

IMAGES = 500  # held-out images that the curves are measured on
POINTS = {
    "as shipped": {},
    "seed 1": {"seed": 1},
    "seed 2": {"seed": 2},
    "lam 0.02": {"lam": 0.02},
    "lam 0.3": {"lam": 0.3},
    "lam 1.0": {"lam": 1.0},
    "eta 0.02": {"eta": 0.02},
    "eta 0.3": {"eta": 0.3},
    "width 48": {"dim": 48},
    "width 192": {"dim": 192, "heads": 8},
}


def curves(recipe, weights, images):
    """Mean non-zero share and R^c of each layer."""
    module = build(recipe)
    module.load_state_dict(weights)
    model = wp.wrap(module, name="crate")
    result = wp.probe(model, images, ["l0", "compression"], convention="official", progress=False)
    return [result.curve(metric)["mean"].to_numpy() for metric in ("l0", "compression")]


def measure(name, recipe, folder, data_folder):
    """Train one point unless it is there, and measure it; returns a row of the report."""
    data = load_data(recipe, data_folder)
    run = folder / name.replace(" ", "-")
    if not (run / "final.safetensors").is_file():
        train(recipe, data, run, resume=(run / STATE).is_file(), progress=False)
    images = data.validation[:IMAGES]
    row = {"name": name}
    for stage in ("init", "final"):
        row[stage] = curves(recipe, load_file(run / f"{stage}.safetensors"), images)
    module = build(recipe)
    module.load_state_dict(load_file(run / "final.safetensors"))
    row["accuracy"] = accuracy(module, data.validation, data.validation_labels)
    return row


def line(label, values, digits):
    return f"| {label} | " + " | ".join(f"{v:.{digits}f}" for v in values) + " |"


def report(rows, recipe):
    """The tables, as Markdown."""
    depth = recipe.depth
    head = "| point | " + " | ".join(f"l = {i}" for i in range(1, depth + 1)) + " |\n"
    head += "|---|" + "---|" * depth
    parts = []
    for index, title, digits in ((0, "Share of non-zero entries", 3), (1, "R^c, nats", 1)):
        lines = []
        for row in rows:
            told = f"{row['name']}, {100 * row['accuracy']:.1f}%"
            lines.append(line(told, row["final"][index], digits))
            lines.append(line("· at initialisation", row["init"][index], digits))
        parts.append(f"### {title}\n\n{head}\n" + "\n".join(lines))
    summary = [
        "| point | validation accuracy | lowest at layer | rise from there to the last layer "
        "| the same at initialisation |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        share, before = row["final"][0], row["init"][0]
        low = int(share.argmin())
        summary.append(
            f"| {row['name']} | {100 * row['accuracy']:.1f}% | {low + 1} | "
            f"{share[-1] - share[low]:+.3f} | {before[-1] - before.min():+.3f} |"
        )
    return "### The rise\n\n" + "\n".join(summary) + "\n\n" + "\n\n".join(parts) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", type=Path, help="Markdown file for the tables")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--limit-train", type=int, default=20_000)
    parser.add_argument("--only", nargs="*", default=list(POINTS), choices=list(POINTS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    base = Recipe(epochs=args.epochs, limit_train=args.limit_train)
    rows = []
    for name in args.only:
        row = measure(name, replace(base, **POINTS[name]), args.out, args.data)
        print(name, f"{row['accuracy']:.4f}", row["final"][0].round(3), flush=True)
        rows.append(row)
    if args.report:
        args.report.write_text(report(rows, base))


if __name__ == "__main__":
    main()
