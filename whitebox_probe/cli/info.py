"""Print everything that is known of a checkpoint, an architecture, a metric or a data set."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict

from whitebox_probe._core.errors import ProbeError, nearest

HELP = "everything that is known of one checkpoint, metric or data set"
EXAMPLES = ("info crate-tiny-fmnist", "info compression")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("name", help="of a checkpoint, an architecture, a metric or a data set")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from whitebox_probe import checkpoints

    if args.name in checkpoints.registry():
        _checkpoint(args.name)
        return
    if args.name in checkpoints.architectures():
        family, arch = checkpoints.architecture(args.name)
        _print({"architecture": args.name, "family": family, **arch})
        return
    from whitebox_probe.data.source import NAMES
    from whitebox_probe.metrics.base import catalogue

    if args.name in catalogue():
        _metric(args.name)
    elif args.name in NAMES:
        _print({"data": args.name, "what it is": NAMES[args.name]})
    else:
        known = [*checkpoints.registry(), *checkpoints.architectures(), *catalogue(), *NAMES]
        raise ProbeError(
            f"nothing is called '{args.name}'",
            "it is no checkpoint, architecture, metric or data set",
            nearest(args.name, known),
        )


def _checkpoint(name: str) -> None:
    from whitebox_probe import checkpoints

    entry = checkpoints.entry(name)
    path = checkpoints.locate(entry)
    facts = {key: value for key, value in asdict(entry).items() if value not in (None, "", (), {})}
    for reported in facts.pop("accuracy", ()):
        label = f"accuracy, {reported.get('dataset', '')} {reported.get('split', '')}".strip()
        facts[label] = f"{reported['top1']}% ({reported.get('source', '')})"
    facts["file"] = str(path) if path else f"not here; run: whitebox-probe fetch {name}"
    _print(facts)


def _metric(name: str) -> None:
    from whitebox_probe.metrics.base import HEADS, SampleMetric, metric_named

    metric = metric_named(name)
    facts = {
        "metric": name,
        "formula": metric.formula,
        "unit": metric.unit,
        "source": metric.source,
        "needs a basis U": "yes" if metric.needs_basis else "no",
        "on by default": "yes" if metric.default else "no",
    }
    if issubclass(metric, SampleMetric):
        for convention, site in metric.site.items():
            facts[f"site, {convention} convention"] = site.replace(HEADS, "the heads' tokens")
        facts["left unchanged by"] = ", ".join(sorted(metric.invariances)).replace("_", " ")
    else:
        facts["rows"] = ", ".join(metric.rows)
    _print(facts)
    print(f"\n{(metric.__doc__ or '').strip()}")


def _print(facts: Mapping[str, object]) -> None:
    rows = []
    for key, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k}={v}" for k, v in value.items())
        rows.append([key.replace("_", " "), str(value)])
    width = max(len(key) for key, _ in rows)
    print("\n".join(f"{key.ljust(width)}  {value}" for key, value in rows))
