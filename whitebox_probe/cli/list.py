"""List what the package knows: checkpoints, or architectures, metrics, data sets, figures."""

import argparse
from typing import Any

from whitebox_probe._core import discover
from whitebox_probe.cli import _json, _screen

HELP = "checkpoints, architectures, metrics, data sets, figures"
EXAMPLES = (
    "list",
    "list --architectures",
    "list --metrics",
    "list --data",
    "list --sites",
    "list --mappings",
    "list --metrics --json",
)
CHECKPOINTS = "checkpoints"
_WIDEST = 100  # columns of the table of metrics, whose formulas are long


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    what = parser.add_mutually_exclusive_group()
    for name, help_ in (
        ("architectures", "names for run --arch"),
        ("metrics", "measures, with formula and site"),
        ("data", "names for run --data"),
        ("figures", "names of the figures"),
        ("mappings", "names for run --mapping"),
        ("sites", "the named places in a layer"),
    ):
        what.add_argument(f"--{name}", dest="what", action="store_const", const=name, help=help_)
    _json.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    what = args.what or CHECKPOINTS
    found = _FOUND[what]()
    if args.json:
        _json.tell(found)
    else:
        _SHOWN[what](found)


def _checkpoints() -> dict[str, Any]:
    from whitebox_probe.checkpoints import by_hand, locate, registry

    rows = []
    for checkpoint in registry().values():
        path = locate(checkpoint)
        rows.append(
            {
                "name": checkpoint.name,
                "family": checkpoint.family,
                "file": "here" if path else "by hand" if by_hand(checkpoint) else "to fetch",
                "path": path,
                "source": checkpoint.source["kind"],
                "trained_on": checkpoint.training_data,
                "licence": checkpoint.licence,
            }
        )
    return {CHECKPOINTS: rows}


def _architectures() -> dict[str, Any]:
    from whitebox_probe.checkpoints import architectures

    known = architectures().items()
    rows = [{"name": n, "family": family, "arguments": arch} for n, (family, arch) in known]
    return {"architectures": rows}


def _metrics() -> dict[str, Any]:
    from whitebox_probe.metrics.catalogue import catalogue
    from whitebox_probe.metrics.measure import TokenMeasure
    from whitebox_probe.metrics.tokens import HEADS

    rows = []
    for metric in sorted(catalogue().values(), key=lambda m: (m.group, m.name)):
        site = "weights"
        if issubclass(metric, TokenMeasure):
            site = next(iter(metric.site.values())).replace(HEADS, "heads")
        rows.append(
            {
                "name": metric.name,
                "group": metric.group,
                "default": metric.default,
                "heavy": metric.heavy,
                "site": site,
                "formula": metric.formula,
                "cost": metric.cost,
                "source": metric.source,
            }
        )
    return {"metrics": rows}


def _data() -> dict[str, Any]:
    from whitebox_probe.data.catalogue import GROUP, kinds
    from whitebox_probe.data.names import Names, names

    others = [k for k in kinds().values() if not isinstance(k, Names)]
    rows = [{"name": k.name, "about": k.words, "by_path": k.by_path} for k in others]
    rows += [
        {"name": name, "about": "(another package's)", "by_path": None}
        for name in discover.plugins(GROUP)
    ]
    return {"data": [{"name": n, "about": text} for n, text in names().items()], "kinds": rows}


def _figures() -> dict[str, Any]:
    from whitebox_probe import plots

    told = {name: (f.__doc__ or "").splitlines()[0] for name, f in plots.figures.items()}
    return {"figures": [{"name": name, "about": about} for name, about in told.items()]}


def _mappings() -> dict[str, Any]:
    from whitebox_probe.models.named import shipped

    known = shipped().items()
    return {"mappings": [{"name": n, "about": str(m.fields.get("about", ""))} for n, m in known]}


def _sites() -> dict[str, Any]:
    from whitebox_probe.sites import SITES

    rows = [{"name": s.name, "shape": s.shape, "about": s.meaning} for s in SITES.values()]
    return {"sites": rows}


def _show_checkpoints(found: dict[str, Any]) -> None:
    keys = ("name", "family", "file", "source", "trained_on", "licence")
    rows = [[row[key] or "" for key in keys] for row in found[CHECKPOINTS]]
    header = ["checkpoint", "family", "file", "source", "trained on", "licence"]
    print(_screen.table(rows, header, spare=("source", "licence")))
    told = (
        "Any timm vision transformer is 'timm:NAME'; a language model of the Hugging Face hub is "
        "'hf:NAME'.\nMore of one: whitebox-probe info NAME"
    )
    print("\n" + _screen.wrapped(told))


def _show_architectures(found: dict[str, Any]) -> None:
    rows = [
        [row["name"], row["family"], ", ".join(f"{k}={v}" for k, v in row["arguments"].items())]
        for row in found["architectures"]
    ]
    print(_screen.table(rows, ["architecture", "family", "arguments"]))


def _show_metrics(found: dict[str, Any]) -> None:
    rows = [
        [
            row["name"],
            row["group"],
            "on" if row["default"] else "",
            "heavy" if row["heavy"] else "",
            row["site"],
            row["formula"],
        ]
        for row in found["metrics"]
    ]
    header = ["metric", "group", "default", "cost", "site", "formula"]
    print(_screen.table(rows, header, most=_WIDEST, by="group", spare=("cost", "site")))
    told = (
        "default: measured when none is named. heavy: takes over 10% of the forward pass.\n"
        "Cost and source of one: whitebox-probe info METRIC; of all: whitebox-probe list "
        "--metrics --json"
    )
    print("\n" + _screen.wrapped(told))


def _show_data(found: dict[str, Any]) -> None:
    rows = [[row["name"], row["about"]] for row in found["data"]]
    print(_screen.table(rows, ["name", "what it is"]))
    where = {True: "--data and Python", False: "Python", None: ""}
    rows = [[row["name"], row["about"], where[row["by_path"]]] for row in found["kinds"]]
    print("\n" + _screen.table(rows, ["kind", "what is data too", "where"]))


def _show_figures(found: dict[str, Any]) -> None:
    rows = [[row["name"], row["about"]] for row in found["figures"]]
    print(_screen.table(rows, ["figure", "what it shows"]))


def _show_mappings(found: dict[str, Any]) -> None:
    rows = [[row["name"], row["about"]] for row in found["mappings"]]
    print(_screen.table(rows, ["mapping", "of which modules"]))


def _show_sites(found: dict[str, Any]) -> None:
    rows = [[row["name"], row["shape"], row["about"]] for row in found["sites"]]
    print(_screen.table(rows, ["site", "shape", "what it holds"]))


_FOUND = {
    CHECKPOINTS: _checkpoints,
    "architectures": _architectures,
    "metrics": _metrics,
    "data": _data,
    "figures": _figures,
    "mappings": _mappings,
    "sites": _sites,
}
_SHOWN = {
    CHECKPOINTS: _show_checkpoints,
    "architectures": _show_architectures,
    "metrics": _show_metrics,
    "data": _show_data,
    "figures": _show_figures,
    "mappings": _show_mappings,
    "sites": _show_sites,
}
