"""Measure the shipped CRATE and ViT, trained and untrained, on the shipped images, and draw it all.

Nothing is downloaded. Writes figures (PDF and PNG), tables (CSV) and the results themselves.
"""

import argparse
import time
from pathlib import Path

from whitebox_probe.cli import _shared

HELP = "the main job on the data and models that ship with the package"
EXAMPLES = ("demo --out figures", "demo --out figures --limit 200")
MODELS = ("crate-tiny-fmnist", "crate-tiny-fmnist-init", "vit-tiny-fmnist", "vit-tiny-fmnist-init")
DATA = "fashion-mnist"
SUMMARY = (
    ("coding_rate", "R, nats"),
    ("rate_reduction", "R - R^c, nats"),
    ("l0", "non-zero share"),
    ("hoyer", "Hoyer sparseness"),
    ("coherence_mean", "coherence, mean"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--out", type=Path, default=Path("figures"), help="folder to write to")
    parser.add_argument("--limit", type=int, help="use so many of the 2,000 images")
    parser.add_argument("--device", help="cpu, cuda, ... (default: cpu)")
    _shared.add_progress(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    start = time.perf_counter()
    from whitebox_probe import plots
    from whitebox_probe.engine import probe
    from whitebox_probe.models._loading import load
    from whitebox_probe.results import compare

    models = [load(name) for name in MODELS]
    common = {"limit": args.limit, "device": args.device, "progress": not args.quiet}
    official = [probe(m, DATA, convention="official", **common) for m in models]
    paper = [probe(m, DATA, orthonormal=True, **common) for m in models]
    written = []
    for convention, results in (("official", official), ("paper", paper)):
        folder = args.out / "results" / convention
        written += [result.save(folder / result.model) for result in results]
        written.append(compare(results).save(args.out / "tables" / convention))
    figures = {
        "compression": plots.compression(*official),
        "compression-paper": plots.compression(*paper),
        "coding-rate": plots.coding_rate(*paper),
        "rate-reduction": plots.rate_reduction(*paper),
        "sparsity": plots.sparsity(*paper),
        "sparsity-hoyer": plots.sparsity(*paper, metric="hoyer"),
        "coherence": plots.coherence(*paper),
        "subspace-overlap": plots.subspace_overlap(*paper),
    }
    paths = [path for stem, f in figures.items() for path in plots.save(f, args.out / stem)]
    print(f"\n{len(paper[0].samples)} images of {DATA}; mean [95% bootstrap interval]\n")
    print(_shared.summary(official, [("compression", "R^c official, nats")]))
    print()
    print(_shared.summary(paper, SUMMARY))
    print("\nfigures:\n  " + "\n  ".join(map(str, paths)))
    print("tables and results:\n  " + "\n  ".join(map(str, written)))
    print(f"\n{time.perf_counter() - start:.0f} s")
