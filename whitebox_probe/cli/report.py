"""Put results on one page to hand over: a file that stands by itself, or Markdown.

RESULT is a folder that run, compare or audit wrote, or that holds a saved similarity: any number of
them. The page has curves that can be changed, verdicts with their reasons, matrices with a slider
of layers, where everything came from and how to make it again, and the numbers as CSV; it asks
nothing of any network. Folders of one training, such as runs/epoch-*, are shown over its steps.

--format md is a table for a pull request, printed if there is no --out.
"""

import argparse
import os

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.cli import _numbers, _shared

HELP = "one page of results to hand over, or Markdown"
EXAMPLES = (
    "report runs/crate runs/vit --out report.html",
    "report runs/crate runs/vit runs/audit --title 'CRATE and ViT' --out report.html",
    "report runs/epoch-01 runs/epoch-07 runs/epoch-15 --out training.html",
    "report runs/crate runs/vit --format md",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add(
        "results",
        nargs="+",
        type=_shared.path,
        metavar="RESULT",
        help="folders of results and audits",
    )
    add(
        "--out",
        type=_shared.place,
        metavar="FILE",
        help="file; its suffix, .html or .md, is the format",
    )
    add("--format", choices=("html", "md"), help="of the report (default: by --out)")
    add("--overwrite", action="store_true", help="replace the file that is there")
    add("--title", help="of the report")
    add(
        "--steps",
        type=_numbers.typed_numbers,
        metavar="A,B,...",
        help="training steps of the results, in their order (default: by their names)",
    )


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    if args.out is None and args.format != "md":
        raise ProbeError(
            "--out must be given", "a page is a file", "Name one, as report.html, or --format md"
        )
    if args.out is not None:
        if args.out.is_dir():
            raise ProbeError(f"{args.out} is a folder", "a report is a file", "Name another --out")
        if os.path.lexists(args.out) and not args.overwrite:
            what = "a file is there already" if args.out.exists() else "it is a link to nothing"
            raise ProbeError(f"{args.out} exists", what, "Name another --out, or add --overwrite")
        _shared.writable(args.out.parent)
    from whitebox_probe.reporting.material import gathered
    from whitebox_probe.reporting.report import markdown, report

    if args.out is None:
        print(markdown(gathered(args.results, steps=args.steps, title=args.title)), end="")
        return
    print(
        report(
            args.results,
            args.out,
            steps=args.steps,
            title=args.title,
            format=args.format,
            overwrite=args.overwrite,
        )
    )
