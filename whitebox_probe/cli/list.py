"""List what the package knows: checkpoints, or architectures, metrics, data sets, figures."""

import argparse

from whitebox_probe._core import discover
from whitebox_probe.cli import _shared

HELP = "checkpoints, architectures, metrics, data sets, figures"
EXAMPLES = (
    "list",
    "list --architectures",
    "list --metrics",
    "list --data",
    "list --sites",
    "list --mappings",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--architectures", action="store_true", help="names for run --arch")
    what.add_argument("--metrics", action="store_true", help="measures, with formula and source")
    what.add_argument("--data", action="store_true", help="names for run --data")
    what.add_argument("--figures", action="store_true", help="names of the figures")
    what.add_argument("--mappings", action="store_true", help="names for run --mapping")
    what.add_argument("--sites", action="store_true", help="the named places in a layer")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    if args.metrics:
        _metrics()
    elif args.data:
        _data()
    elif args.figures:
        from whitebox_probe import plots

        rows = [[n, (f.__doc__ or "").splitlines()[0]] for n, f in plots.figures.items()]
        print(_shared.table(rows, ["figure", "what it shows"]))
    elif args.sites:
        from whitebox_probe.sites import SITES

        rows = [[s.name, s.shape, s.meaning] for s in SITES.values()]
        print(_shared.table(rows, ["site", "shape", "what it holds"]))
    elif args.mappings:
        from whitebox_probe.models.named import shipped

        rows = [[name, str(each.fields.get("about", ""))] for name, each in shipped().items()]
        print(_shared.table(rows, ["mapping", "of which modules"]))
    elif args.architectures:
        from whitebox_probe.checkpoints import architectures

        rows = [
            [name, family, ", ".join(f"{key}={value}" for key, value in arch.items())]
            for name, (family, arch) in architectures().items()
        ]
        print(_shared.table(rows, ["architecture", "family", "arguments"]))
    else:
        _checkpoints()


def _data() -> None:
    from whitebox_probe.data.catalogue import GROUP, kinds
    from whitebox_probe.data.names import Names, names

    print(_shared.table([[n, t] for n, t in names().items()], ["name", "what it is"]))
    others = [k for k in kinds().values() if not isinstance(k, Names)]
    rows = [[k.name, k.words, "--data and Python" if k.by_path else "Python"] for k in others]
    rows += [[name, "(another package's)", ""] for name in discover.plugins(GROUP)]
    print("\n" + _shared.table(rows, ["kind", "what is data too", "where"]))


def _checkpoints() -> None:
    from whitebox_probe.checkpoints import by_hand, locate, registry

    rows = []
    for checkpoint in registry().values():
        missing = "by hand" if by_hand(checkpoint) else "to fetch"
        rows.append(
            [
                checkpoint.name,
                checkpoint.family,
                "here" if locate(checkpoint) else missing,
                checkpoint.source["kind"],
                checkpoint.training_data or "",
                checkpoint.licence or "",
            ]
        )
    print(_shared.table(rows, ["checkpoint", "family", "file", "source", "trained on", "licence"]))
    print(
        "\nAny timm vision transformer is 'timm:NAME'; a language model of the Hugging Face hub is "
        "'hf:NAME'.\nMore of one: whitebox-probe info NAME"
    )


def _metrics() -> None:
    from whitebox_probe.metrics.catalogue import catalogue
    from whitebox_probe.metrics.measure import TokenMeasure
    from whitebox_probe.metrics.tokens import HEADS

    rows = []
    for metric in sorted(catalogue().values(), key=lambda m: (m.group, m.name)):
        site = "weights"
        if issubclass(metric, TokenMeasure):
            site = next(iter(metric.site.values())).replace(HEADS, "heads")
        default = "on" if metric.default else "off"
        cost = metric.cost + (" (over 10% of the forward)" if metric.heavy else "")
        rows.append([metric.name, metric.group, default, site, metric.formula, cost])
        rows[-1].append(metric.source)
    header = ["metric", "group", "default", "site", "formula", "cost", "source"]
    print(_shared.table(rows, header))
    print("\nMore of one: whitebox-probe info METRIC")
