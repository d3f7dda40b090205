"""Draw one figure from saved results.

--metric takes any measure of the table (l0, hoyer, coding_rate, ...) and draws it against depth,
one curve a result; coherence and subspace_overlap are drawn as heatmaps, one row a result.
"""

import argparse
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.cli import _shared

HELP = "a figure from saved results"
EXAMPLES = (
    "plot runs/crate runs/vit --metric compression --out compression",
    "plot runs/crate --metric hoyer --band std --out hoyer.pdf",
    "plot runs/crate runs/vit --metric coherence --out coherence.png",
)
HEATMAPS = ("coherence", "subspace_overlap")
_OTHER_FORMATS = (".jpg", ".jpeg", ".eps", ".ps", ".tif", ".tiff", ".gif", ".webp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("results", nargs="+", type=Path, metavar="DIR", help="folders that run --out wrote")
    add(
        "--metric",
        "--figure",
        dest="metric",
        required=True,
        help="a measure of the table, or a figure of whitebox-probe list --figures",
    )
    add(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="file; a suffix .pdf, .png or .svg is the format, without one --formats says which",
    )
    add("--site", help="which one, if the metric was measured at several")
    _shared.add_figure_options(parser)
    add("--per-token", action="store_true", help="divide nats by the number of tokens")
    add(
        "--width",
        choices=("column", "text"),
        help="of a paper's column (3.4 inches) or text (6.8 inches); heatmaps take the text's, "
        "curves the column's, when it is not given",
    )
    add("--title", help="above the axes")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    suffix = args.out.suffix.lower()
    if suffix in _OTHER_FORMATS:
        raise ProbeError(
            f"figures cannot be saved as {suffix[1:]}",
            "the format is not known",
            f"Use one of: {', '.join(_shared.FORMATS)}",
        )
    _shared.writable(args.out.parent)
    from whitebox_probe import plots
    from whitebox_probe.results.result import Result

    results = [Result.load(folder) for folder in args.results]
    named: dict[str, Any] = {"title": args.title}
    if args.width is not None:
        named["width"] = args.width
    if args.metric in HEATMAPS:
        figure = plots.figures[args.metric](*results, **named)
    else:
        figure = _curves(results, args, named)
    known = suffix[1:] in _shared.FORMATS
    stem = args.out.with_suffix("") if known else args.out
    for path in plots.save(figure, stem, [suffix[1:]] if known else args.formats):
        print(path)


def _curves(results: list[Any], args: argparse.Namespace, options: dict[str, Any]) -> Any:
    """A measure against depth, by its own figure if it has one: that knows its symbol."""
    from whitebox_probe import plots

    measured = dict.fromkeys(m for r in results for m in r.frame["metric"])
    names = [*measured, *HEATMAPS, "sparsity"]
    if args.metric not in names:
        raise ProbeError(
            f"'{args.metric}' is not in these results",
            "it was not measured, or is no measure",
            nearest(args.metric, dict.fromkeys(names)),
        )
    options |= {
        "band": None if args.band == "none" else args.band,
        "relative_depth": args.relative_depth,
        "normalise": "per_token" if args.per_token else None,
        "site": args.site,
    }
    if args.metric in _shared.SPARSITY:
        return plots.figures["sparsity"](*results, metric=args.metric, **options)
    if args.metric in plots.figures:
        return plots.figures[args.metric](*results, **options)
    return plots.figures["curves"](*results, metric=args.metric, **options)
