"""Put results side by side: one table, paired differences, and the figures they share."""

import argparse
from pathlib import Path

from whitebox_probe.cli import _shared

HELP = "put several results side by side"
EXAMPLES = ("compare runs/crate runs/vit --out runs/both",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("results", nargs="+", type=Path, help="folders that run --out wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder of tables and figures")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from whitebox_probe import plots
    from whitebox_probe.results import Result, compare

    results = [Result.load(folder) for folder in args.results]
    comparison = compare(results)
    sizes = {(r.run["tokens"], r.run["dim"], r.run["heads"], r.run["dim_head"]) for r in results}
    relative = len({r.run["layers"] for r in results}) > 1
    nats = {"normalise": "per_token"} if len(sizes) > 1 else {}
    shared = set.intersection(*(set(r.frame["metric"]) for r in results))
    figures = {
        metric: getattr(plots, metric)
        for metric in ("compression", "coding_rate", "rate_reduction", "sparse_rate_reduction")
        if metric in shared
    }
    if "l0" in shared:
        figures["sparsity"] = plots.sparsity
    paths = []
    for stem, draw in figures.items():
        options = {} if stem == "sparsity" else nats
        figure = draw(*results, relative_depth=relative, **options)
        paths += plots.save(figure, args.out / stem)
    if all("coherence" in r.matrices for r in results):
        paths += plots.save(plots.coherence(*results), args.out / "coherence")
    comparison.save(args.out)
    measures = [(m, m) for m in dict.fromkeys(results[0].frame["metric"]) if m in shared]
    print(_shared.summary(results, measures))
    print("\n" + "\n".join(map(str, [args.out / "comparison.csv", args.out / "differences.csv"])))
    print("\n".join(map(str, paths)))
