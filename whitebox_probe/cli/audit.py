"""Judge each claim of the sparse rate reduction principle on each model.

One row a claim: the statistic with its 95% interval, the same of random weights, and a
verdict: supported, not supported, contradicted, or not applicable. The rules are in audit.json.
Writes audit.csv, audit-curves.csv, audit.json and a figure of one page. Files of the same name in
--out are replaced.
"""

import argparse
from pathlib import Path

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.cli import _options, _shared

SETTINGS = ("limit", "basis", "eps", "lam", "nonfinite", "dtype", "fast", "seed")
HELP = "a verdict on each claim of the principle, for each model"
EXAMPLES = (
    "audit crate-tiny-fmnist vit-tiny-fmnist --data fashion-mnist --limit 500 --out audit",
    "audit crate-tiny-fmnist crate-tiny-fmnist-init --out audit-training",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="checkpoint names, or timm:NAME")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of tables and the figure")
    add(
        "--data",
        default="fashion-mnist",
        help="name (whitebox-probe list --data) or folder of images",
    )
    _options.add_settings(parser, *SETTINGS)
    add("--no-null", action="store_true", help="do not measure random weights beside each model")
    _options.add_execution(parser)
    add("--formats", type=_shared.names, default="pdf,png", metavar="A,B,...", help="of the figure")
    _shared.add_progress(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    options = _options.given(args)
    several = [name for name, value in options.items() if isinstance(value, list)]
    if several:
        raise ProbeError(
            f"--{several[0]} has several values", "a verdict is of one", "Name one, and audit again"
        )
    _shared.writable(args.out)
    for name in args.models:
        _shared.named(name)  # a wrong name is told before torch is loaded
    from whitebox_probe import plots
    from whitebox_probe.auditing.audit import audit
    from whitebox_probe.models.load import load

    models = [load(name, progress=not args.quiet) for name in args.models]
    found = audit(
        models,
        args.data,
        null=not args.no_null,
        progress=not args.quiet,
        **options,
    )
    found.save(args.out)
    for name, result in found.results.items():
        result.save(args.out / "results" / name.replace("/", "-"))
    paths = plots.save(plots.figures["audit"](found), args.out / "audit", args.formats)
    rows = [
        [
            row["claim"],
            row["model"],
            _interval(row["value"], row["ci_low"], row["ci_high"]),
            _interval(row["null_value"], row["null_ci_low"], row["null_ci_high"]),
            row["beyond_null"] or "-",
            row["verdict"],
        ]
        for row in found.frame.to_dict("records")
    ]
    header = ["claim", "model", "statistic", "random weights", "beyond them", "verdict"]
    print(_shared.table(rows, header))
    print(f"\nwhat each statistic is, and the rules: {args.out / 'audit.json'}")
    print("written:\n  " + "\n  ".join(map(str, [args.out / "audit.csv", *paths])))


def _interval(value: float, low: float, high: float) -> str:
    if value != value:  # NaN: there is none
        return "-"
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"
