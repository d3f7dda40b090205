"""Print everything that is known of a checkpoint, an architecture, a metric or a data set.

For a network also its sizes, and the sites and bases that run --sites and --basis take. Nothing is
downloaded, but for the small configuration of an hf:NAME.
"""

import argparse
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe._core.lines import shown
from whitebox_probe.cli import _model, _shared

if TYPE_CHECKING:
    from whitebox_probe.checkpoints import Checkpoint
    from whitebox_probe.models.model import ProbeModel

HELP = "everything that is known of one checkpoint, metric or data set"
EXAMPLES = (
    "info crate-tiny-fmnist",
    "info timm:vit_small_patch16_224",
    "info crate-tiny-kjv",
    "info compression",
    "info fashion-mnist",
    "info model.py:make --mapping torch-encoder-prenorm",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "name",
        metavar="NAME",
        help="of a checkpoint (or timm:NAME, hf:NAME, model.py:make), an architecture, a metric, a "
        "mapping or a data set",
    )
    parser.add_argument(
        "--mapping",
        metavar="NAME",
        help="where the sites of what model.py:make makes are (list --mappings, or a .yaml file)",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        type=_shared.setting,
        default=[],
        metavar="KEY=VALUE",
        help="an argument of model.py:make, as depth=6; again for each",
    )


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from whitebox_probe import checkpoints

    if args.mapping is not None or args.settings or _model.is_python(args.name):
        _own(args)
        return
    if args.name in checkpoints.registry() or args.name.startswith(_shared.LIBRARIES):
        _checkpoint(_shared.named(args.name), args.name)
        return
    if args.name in checkpoints.architectures():
        family, arch = checkpoints.architecture(args.name)
        network = _network(family, arch, args.name)
        _print({"architecture": args.name, "family": family, "arguments": arch, **network})
        return
    from whitebox_probe.data.catalogue import reader_of
    from whitebox_probe.data.names import names
    from whitebox_probe.metrics.catalogue import catalogue
    from whitebox_probe.models.named import shipped

    if args.name in catalogue():
        _metric(args.name)
    elif (reader := reader_of(args.name)) is not None:
        facts = {"data": args.name, "what it is": reader.NAMES[args.name]}
        _print(facts | reader.about(args.name))
    elif args.name in shipped():
        _print({"mapping": args.name, **shipped()[args.name].fields})
    else:
        known = [*checkpoints.registry(), *checkpoints.architectures(), *catalogue(), *names()]
        known += shipped()
        raise ProbeError(
            f"nothing is called '{args.name}'",
            "it is no checkpoint, architecture, metric, mapping or data set",
            nearest(args.name, known),
        )


def _own(args: argparse.Namespace) -> None:
    """A network that a function of the user's makes: here it is built, and tried."""
    from whitebox_probe.models.load import load

    model = load(args.name, mapping=args.mapping, **_shared.settings(args.settings, load))
    _print({"made by": args.name, "family": model.anatomy.name, **_sizes(model)})


def _checkpoint(entry: "Checkpoint", name: str) -> None:
    from whitebox_probe import checkpoints

    path = checkpoints.locate(entry)
    facts = {key: value for key, value in asdict(entry).items() if value not in (None, "", (), {})}
    for reported in facts.pop("accuracy", ()):
        label = f"accuracy, {reported.get('dataset', '')} {reported.get('split', '')}".strip()
        facts[label] = f"{reported['top1']}% ({reported.get('source', '')})"
    for reported in facts.pop("loss", ()):
        label = f"loss, {reported['dataset']} {reported['split']}"
        values = [f"{reported['per_token']:.3f} nats a token"]
        if "per_byte" in reported:
            values.append(f"{reported['per_byte']:.3f} nats a byte")
        facts[label] = f"{', '.join(values)} ({reported['source']})"
    if "size" in facts:
        facts["size"] = f"{facts['size']:,} bytes"
    if "tested" in facts:
        facts["tested"] = {
            "weights": "the file itself was loaded and run",
            "format": "its format only: the file itself was not run",
        }[facts["tested"]]
    if name.startswith(_shared.TIMM):
        from whitebox_probe.models.registry import family_of_timm

        entry = replace(entry, family=family_of_timm(entry.name))
        facts["family"] = entry.family
    missing = checkpoints.by_hand(entry) or f"run: whitebox-probe fetch {name}"
    facts["file"] = str(path) if path else f"not here; {missing[0].lower()}{missing[1:]}"
    _print(facts | _network(entry.family, entry.arch, entry.name))


def _network(family: str, arch: Mapping[str, Any], name: str) -> dict[str, object]:
    """Sizes, sites and bases, from a network without memory: no weights are drawn or read."""
    import torch

    from whitebox_probe.models.model import ProbeModel
    from whitebox_probe.models.registry import build, family_named

    with torch.device("meta"):
        module = build(family, arch, source=name)
    return _sizes(ProbeModel(module, family_named(family).anatomy, name))


def _sizes(model: "ProbeModel") -> dict[str, object]:
    s = model.dims
    return {
        "sizes": f"{s.layers} layers, n = {s.tokens or 'any number of'} tokens, d = {s.dim}, "
        f"K = {s.heads} heads of p = {s.dim_head}",
        "parameters": f"{sum(p.numel() for p in model.module.parameters()):,}",
        "sites": ", ".join(model.sites),
        "bases": ", ".join(model.bases) + " (the first is used when none is named)",
    }


def _metric(name: str) -> None:
    from whitebox_probe.metrics.catalogue import measure_named
    from whitebox_probe.metrics.measure import SampleMeasure, TokenMeasure
    from whitebox_probe.metrics.tokens import HEADS

    metric: Any = measure_named(name)
    units = getattr(metric, "units", {})
    facts = {
        "metric": name,
        "formula": metric.formula,
        "unit": "; ".join([metric.unit, *(f"{row}: {unit}" for row, unit in units.items())]),
        "source": metric.source,
        "group": metric.group,
        "cost": metric.cost,
        "needs a basis U": "yes" if metric.needs_basis else "no",
        "on by default": "yes" if metric.default else "no",
    }
    if issubclass(metric, TokenMeasure):
        for convention, site in metric.site.items():
            facts[f"site, {convention} convention"] = site.replace(HEADS, "the heads' tokens")
    if issubclass(metric, SampleMeasure):
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
    print("\n".join(f"{key.ljust(width)}  {shown(value, 1000)}" for key, value in rows))
