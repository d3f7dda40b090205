"""Print everything that is known of a checkpoint, an architecture, a metric or a data set.

For a network also its sizes, and the sites and bases that run --sites and --basis take. Nothing is
downloaded, but for the small configuration of an hf:NAME.
"""

import argparse
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import ProbeError, nearest
from whitebox_probe.cli import _completing, _json, _model, _screen, _shared

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
    named = parser.add_argument(
        "name",
        type=_shared.name_or_path,
        metavar="NAME",
        help="of a checkpoint (or timm:NAME, hf:NAME, model.py:make), an architecture, a metric, a "
        "mapping or a data set",
    )
    _completing.by(named, "checkpoints", "architectures", "metrics", "data", "mappings")
    mapping = parser.add_argument(
        "--mapping",
        type=_shared.name_or_path,
        metavar="NAME",
        help="where the sites of what model.py:make makes are (list --mappings, or a .yaml file)",
    )
    _completing.by(mapping, "mappings", files=True)
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        type=_shared.setting,
        default=[],
        metavar="KEY=VALUE",
        help="an argument of model.py:make, as depth=6; again for each",
    )
    _json.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    facts = _facts(args)
    if args.json:
        _json.tell({re.sub(r"[, ]+", "_", key).lower(): value for key, value in facts.items()})
        return
    about = facts.pop("about", "") if "metric" in facts else ""
    print(_screen.pairs(_in_words(facts)))
    if about:
        print("\n" + _screen.wrapped(inspect.cleandoc(str(about))))


def _facts(args: argparse.Namespace) -> dict[str, Any]:
    """What is known, by name; what several words or numbers are is a list or a mapping.

    Raises: ProbeError for a name that nothing has.
    """
    from whitebox_probe import checkpoints

    name: str = args.name
    if args.mapping is not None or args.settings or _model.is_python(name):
        return _own(args)
    if name in checkpoints.registry() or name.startswith(_shared.LIBRARIES):
        return _checkpoint(_shared.named(name), name)
    if name in checkpoints.architectures():
        family, arch = checkpoints.architecture(name)
        facts = {"architecture": name, "family": family, "arguments": arch}
        return facts | _network(family, arch, name)
    from whitebox_probe.data.catalogue import reader_of
    from whitebox_probe.data.names import names
    from whitebox_probe.metrics.catalogue import catalogue
    from whitebox_probe.models.named import shipped

    if name in catalogue():
        return _metric(name)
    if (reader := reader_of(name)) is not None:
        return {"data": name, "what it is": reader.NAMES[name], **reader.about(name)}
    if name in shipped():
        return {"mapping": name, **shipped()[name].fields}
    known = [*checkpoints.registry(), *checkpoints.architectures(), *catalogue(), *names()]
    known += shipped()
    raise ProbeError(
        f"nothing is called '{name}'",
        "it is no checkpoint, architecture, metric, mapping or data set",
        nearest(name, known),
    )


def _own(args: argparse.Namespace) -> dict[str, Any]:
    """A network that a function of the user's makes: here it is built, and tried."""
    from whitebox_probe.models.load import load

    model = load(args.name, mapping=args.mapping, **_shared.settings(args.settings, load))
    return {"made by": args.name, "family": model.anatomy.name, **_sizes(model)}


def _checkpoint(entry: "Checkpoint", name: str) -> dict[str, Any]:
    from whitebox_probe import checkpoints

    path = checkpoints.locate(entry)
    facts = {key: value for key, value in asdict(entry).items() if value not in (None, "", (), {})}
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
    return facts | _network(entry.family, entry.arch, entry.name)


def _network(family: str, arch: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Sizes, sites and bases, from a network without memory: no weights are drawn or read."""
    import torch

    from whitebox_probe.models.model import ProbeModel
    from whitebox_probe.models.registry import build, family_named

    with torch.device("meta"):
        module = build(family, arch, source=name)
    return _sizes(ProbeModel(module, family_named(family).anatomy, name))


def _sizes(model: "ProbeModel") -> dict[str, Any]:
    s = model.dims
    return {
        "sizes": {"L": s.layers, "n": s.tokens, "d": s.dim, "K": s.heads, "p": s.dim_head},
        "parameters": sum(p.numel() for p in model.module.parameters()),
        "sites": list(model.sites),
        "bases": list(model.bases),
    }


def _metric(name: str) -> dict[str, Any]:
    from whitebox_probe.metrics.catalogue import measure_named
    from whitebox_probe.metrics.measure import SampleMeasure, TokenMeasure
    from whitebox_probe.metrics.tokens import HEADS

    metric: Any = measure_named(name)
    units = getattr(metric, "units", {})
    facts: dict[str, Any] = {
        "metric": name,
        "formula": metric.formula,
        "unit": "; ".join([metric.unit, *(f"{row}: {unit}" for row, unit in units.items())]),
        "source": metric.source,
        "group": metric.group,
        "cost": metric.cost,
        "needs a basis U": bool(metric.needs_basis),
        "on by default": bool(metric.default),
    }
    if issubclass(metric, TokenMeasure):
        for convention, site in metric.site.items():
            facts[f"site, {convention} convention"] = site.replace(HEADS, "the heads' tokens")
    facts["left unchanged by"] = [n.replace("_", " ") for n in sorted(metric.invariances)]
    if not issubclass(metric, SampleMeasure):
        facts["rows"] = list(metric.rows)
    if metric.misleads:
        facts["misleads"] = metric.misleads
    return facts | {"about": inspect.cleandoc(metric.__doc__ or "")}


def _accuracy(reported: Mapping[str, Any]) -> str:
    where = " ".join(reported[key] for key in ("dataset", "split") if key in reported)
    return f"{reported['top1']}%, {where} ({reported.get('source', '')})"


def _loss(reported: Mapping[str, Any]) -> str:
    values = [f"{reported['per_token']:.3f} nats a token"]
    if "per_byte" in reported:
        values.append(f"{reported['per_byte']:.3f} nats a byte")
    where = f"{reported['dataset']} {reported['split']}"
    return f"{', '.join(values)}, {where} ({reported['source']})"


_REPORTED = {"accuracy": _accuracy, "loss": _loss}


def _in_words(facts: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each fact as a line of text."""
    for key, value in facts.items():
        if key == "sizes":
            n = value["n"] or "any number of"
            text = f"{value['L']} layers, n = {n} tokens, d = {value['d']}, "
            text += f"K = {value['K']} heads of p = {value['p']}"
        elif key == "size":
            text = f"{value:,} bytes"
        elif key == "bases":
            text = f"{', '.join(value)} (the first is used when none is named)"
        elif key in _REPORTED:
            yield from ((key, _REPORTED[key](reported)) for reported in value)
            continue
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        elif isinstance(value, Mapping):
            text = ", ".join(f"{k}={v}" for k, v in value.items())
        elif isinstance(value, list):
            text = ", ".join(map(str, value))
        else:
            text = f"{value:,}" if isinstance(value, int) else str(value)
        yield key.replace("_", " "), text
