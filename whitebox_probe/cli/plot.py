"""Draw one figure from saved results."""

import argparse
from pathlib import Path

from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.cli import _shared

HELP = "a figure from saved results"
EXAMPLES = (
    "plot runs/crate runs/vit --figure compression --out compression",
    "plot runs/crate --metric hoyer --band std --out hoyer.pdf",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("results", nargs="+", type=Path, help="folders that run --out wrote")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--figure", help="name of a figure: whitebox-probe list --figures")
    what.add_argument("--metric", help="any measure of the table, against depth")
    add("--out", type=Path, required=True, help="file; its suffix, if any, is the format")
    add(
        "--formats",
        type=_shared.names,
        default=["pdf", "png"],
        metavar="A,B",
        help="formats for an --out without suffix: pdf, png, svg",
    )
    add("--site", help="which one, if the metric was measured at several")
    add(
        "--band",
        choices=("ci", "std", "sem", "none"),
        default="ci",
        help="shaded: 95%% interval of the mean, std over samples, standard error",
    )
    add("--relative-depth", action="store_true", help="draw against layer / number of layers")
    add("--per-token", action="store_true", help="divide nats by the number of tokens")
    add("--width", choices=("column", "text"), default="column", help="of a paper's column or text")
    add("--title", help="above the axes")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from whitebox_probe import plots
    from whitebox_probe.results import Result

    if args.figure is not None and args.figure not in plots.figures:
        raise ProbeError(
            f"there is no figure '{args.figure}'",
            "no file of that name is in the package",
            nearest(args.figure, plots.figures),
        )
    results = [Result.load(folder) for folder in args.results]
    options = {
        "band": None if args.band == "none" else args.band,
        "relative_depth": args.relative_depth,
        "normalise": "per_token" if args.per_token else None,
        "site": args.site,
    }
    draw = plots.curves if args.figure is None else plots.figures[args.figure]
    if args.figure in ("coherence", "subspace_overlap"):
        options = {}
    elif args.metric is not None:
        options["metric"] = args.metric
    figure = draw(*results, **options, width=args.width, title=args.title)
    suffix = args.out.suffix[1:].lower()
    known = suffix in ("pdf", "png", "svg")
    stem = args.out.with_suffix("") if known else args.out
    for path in plots.save(figure, stem, [suffix] if known else args.formats):
        print(path)
