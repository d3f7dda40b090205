"""Judge each claim of the sparse rate reduction principle on each model.

A row a claim: its effect with its 95% interval, its p corrected over the claims, the range of
random weights, whether another setting overturns it, and a verdict: supported, not supported,
contradicted, depends on (a setting), or not applicable. MODEL is what `run` takes: a name,
timm:NAME, hf:NAME or a file; of several files of one training each is judged, in their order, with
--checkpoints; of several seeds of one recipe each, and their mean, with --seeds. --explain CLAIM
prints what was compared with what.

Writes audit.csv, audit-robustness.csv (every other setting), audit-parts.csv, audit-curves.csv,
audit.json (all of it, and what it depends on) and a figure of one page. An older audit in --out is
replaced.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.cli import _completing, _data, _json, _model, _options, _screen, _shared
from whitebox_probe.results import kinds as folders

if TYPE_CHECKING:
    from whitebox_probe.auditing.verdicts import Audit
    from whitebox_probe.models.model import ProbeModel

SETTINGS = (
    "basis", "prenorm", "class_token", "eps", "lam", "fit_limit", "nonfinite", "on_error", "dtype",
    "fast", "seed",
)  # fmt: skip
HELP = "a verdict on each claim of the principle, for each model"
EXAMPLES = (
    "audit crate-tiny-fmnist vit-tiny-fmnist --data fashion-mnist --limit 500 --out audit",
    "audit crate-tiny-kjv gpt2-tiny-kjv --data kjv --out audit-text",
    "audit crate-tiny-fmnist --out audit --explain compresses",
    "audit model_best.pth.tar --arch crate_small --preprocess imagenet --data imagenet/val "
    "--limit 500 --out audit",
    "audit --checkpoints ckpt-0.pt ckpt-1000.pt ckpt-9000.pt --out audit-training",
    "audit --seeds seed-1.pt seed-2.pt seed-3.pt --out audit-seeds",
)
_TINTS = {
    "supported": "bold green",
    "contradicted": "bold red",
    "depends on": "magenta",
    "not applicable": "dim",
}
_RESULTS = "results"
_SPARE = ("unit", "random weights", "robust")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    kinds = "checkpoint name, timm:NAME, hf:NAME, or a file"
    models = add("models", type=_shared.name_or_path, nargs="*", metavar="MODEL", help=kinds)
    steps = add(
        "--checkpoints",
        type=_shared.name_or_path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="files of one training, from first to last: claims are about training, and each step "
        "gets its verdicts",
    )
    seeds = add(
        "--seeds",
        type=_shared.name_or_path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="files of one recipe trained with several seeds: each gets its verdicts, and the mean "
        "effect over them an interval over seeds",
    )
    for each in (models, steps, seeds):
        _completing.by(each, "checkpoints", files=True)
    add(
        "--out",
        type=_shared.place,
        required=True,
        metavar="DIR",
        help="folder of tables and the figure",
    )
    explain = add(
        "--explain",
        action="append",
        default=[],
        metavar="CLAIM",
        help="print what was compared with what for a claim, or for all; again for each",
    )
    _completing.by(explain, "claims")
    _model.add_options(parser)
    _data.add_options(parser)
    verdicts = parser.add_argument_group("the verdicts")
    add = verdicts.add_argument
    told = "do not measure random weights beside each model"
    add("--no-null", dest="with_null", action="store_false", help=told)
    add("--draws", type=_shared.count, default=20, metavar="N", help="of random weights, N of them")
    add(
        "--null-limit",
        type=_shared.count,
        default=16,
        metavar="N",
        help="samples on which random weights are measured",
    )
    add(
        "--first-layer",
        type=_shared.count,
        default=2,
        metavar="N",
        help="where curves begin: what enters layer 1 is the embedding",
    )
    add(
        "--no-robustness",
        action="store_true",
        help="do not look at other settings (eps, norm, basis, lam, class token, first layer, "
        "orthonormal bases) around the usual one",
    )
    add(
        "--threshold",
        dest="thresholds",
        action="append",
        type=_shared.setting,
        default=[],
        metavar="NAME=VALUE",
        help="a number that verdicts depend on, as cosine=0.2; again for each (docs/measures.md)",
    )
    _options.add_settings(verdicts, *SETTINGS)
    _options.add_execution(parser)
    _shared.add_drawing(parser, width="the text's, and wider for more than four models")
    _shared.add_tables(parser)
    _shared.add_progress(parser)
    _json.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    options = _options.given(args)
    several = [name for name, value in options.items() if isinstance(value, list)]
    if several:
        raise ProbeError(
            f"--{several[0]} has several values", "a verdict is of one", "Name one, and audit again"
        )
    ways = {"MODELs": args.models, "--checkpoints": args.checkpoints, "--seeds": args.seeds}
    several = [name for name, files in ways.items() if files]
    if len(several) != 1:
        raise ProbeError(
            f"{' and '.join(several)} are given" if several else "no MODEL is given",
            "an audit is of models, of the checkpoints of one training, or of its seeds",
            "Name models, or files behind --checkpoints or --seeds",
        )
    if len(args.seeds) == 1:
        raise ProbeError(
            "--seeds has one file", "an interval over seeds is of two or more", "Name more"
        )
    _shared.fillable(args.out, folders.AUDIT)
    _shared.writable(args.out / _RESULTS)
    _shared.check_tables(args)
    for name in (*args.models, *args.checkpoints, *args.seeds):
        _model.known(name, args.arch)  # a wrong name is told before torch is loaded
    with _shared.drawing(args):
        _shared.expect_own_files(args, folders.AUDIT, ["audit"], "audit")
        _audit(args, options)


def _audit(args: argparse.Namespace, options: dict[str, Any]) -> None:
    from whitebox_probe import plots
    from whitebox_probe.auditing.audit import audit
    from whitebox_probe.auditing.claim import claims
    from whitebox_probe.auditing.thresholds import Thresholds
    from whitebox_probe.results.folder import saved_as_one

    explained = list(claims()) if "all" in args.explain else args.explain
    _expect_claims(explained, list(claims()))
    data = _data.given(args)
    found = audit(
        _models(args),
        data,
        null=args.with_null,
        draws=args.draws,
        null_limit=args.null_limit,
        first_layer=args.first_layer,
        robustness=not args.no_robustness,
        thresholds=Thresholds.of(**dict(args.thresholds)),
        progress=not args.quiet,
        **options,
    )
    page = plots.figures["audit"](found, width=args.width)
    with saved_as_one(args.out) as new:
        for name, result in found.results.items():
            result.save(new / _RESULTS / name.replace("/", "-"))
        paths = plots.save(page, new / "audit", args.formats)
        paths += _shared.write_tables(args, found, "audit", new)
        found.save(new)
    files = [args.out / "audit.csv", *(args.out / path.name for path in paths)]
    if args.json:
        _json.tell(_document(found, args, explained, files))
        return
    print(told(found))
    if args.seeds:
        print("\n" + told_together(found))
    for claim in explained:
        print("\n" + _screen.wrapped(found.explain(claim)))
    _screen.say()
    rules = args.out / "audit.json"
    _screen.say(f"what each effect is, and the rules: {rules}, or --explain CLAIM")
    _shared.tell_files("written", files)


def _document(
    found: "Audit", args: argparse.Namespace, explained: Sequence[str], files: Sequence[Path]
) -> dict[str, Any]:
    return {
        "models": list(dict.fromkeys(found.frame["model"])),
        "verdicts": _json.records(found.frame),
        "together": _json.records(found.together()) if args.seeds else [],
        "explained": {claim: found.explain(claim) for claim in explained},
        "out": args.out,
        "files": list(files),
    }


def _models(args: argparse.Namespace) -> "Sequence[ProbeModel]":
    """The models, those of --checkpoints and --seeds named by their files."""
    if args.models:
        return [_model.loaded(name, args, progress=not args.quiet) for name in args.models]
    files = args.checkpoints or args.seeds
    found = [_model.loaded(name, args, progress=not args.quiet) for name in files]
    names = [Path(name).stem if Path(name).is_file() else name for name in files]
    if len(set(names)) < len(names):  # trainings often keep files of one name in folders
        names = [str(Path(name).with_suffix("")) for name in files]
    return [replace(model, name=name) for model, name in zip(found, names, strict=True)]


def _expect_claims(names: Sequence[str], known: Sequence[str]) -> None:
    from whitebox_probe._core.errors import nearest

    for name in names:
        if name not in known:
            raise ProbeError(
                f"unknown claim '{name}'", "it is none of those judged", nearest(name, [*known])
            )


def told(found: "Audit") -> str:
    """The table of verdicts, and a sentence for each claim."""
    from whitebox_probe.stats import few_note

    rows = [_row(row) for row in found.frame.to_dict("records")]
    header = ["claim", "model", "effect [95%]", "unit", "p", "random weights", "robust", "verdict"]
    tints = {"verdict": _TINTS}
    lines = [_screen.table(rows, header, by="model", spare=_SPARE, tints=tints), ""]
    for row in found.frame.to_dict("records"):
        text = f"{row['text']}, {row['model']}: {row['verdict']}."
        text += f" {row['sentence'][:1].upper()}{row['sentence'][1:]}." if row["sentence"] else ""
        text += f" [{row['reason']}]" if row["reason"] else ""
        lines.append(_screen.wrapped(text, indent="    "))
    contents, name = min(zip(found.frame["samples"], found.frame["model"], strict=True))
    few = few_note(found.settings["count"][name], contents)
    return "\n".join([*lines, "", few] if few else lines)


def told_together(found: "Audit") -> str:
    """The table of mean effects over the seeds of one recipe, with intervals over seeds."""
    rows = [
        [
            row["claim"],
            f"{row['models']}",
            _interval(row["mean"], row["ci_low"], row["ci_high"]),
            row["unit"],
            f"{row['supported']}",
            f"{row['contradicted']}",
        ]
        for row in found.together().to_dict("records")
    ]
    header = ["claim", "seeds", "mean effect [95% over seeds]", "unit", "supported", "contradicted"]
    return _screen.table(rows, header, spare=("unit",))


def _row(row: dict[Any, Any]) -> list[str]:
    from whitebox_probe.auditing.verdicts import worded

    return [
        row["claim"],
        row["model"],
        _interval(row["value"], row["ci_low"], row["ci_high"]),
        row["unit"],
        "-" if row["p_holm"] != row["p_holm"] else f"{row['p_holm']:.2g}",
        _null(row),
        row["robust"].removeprefix("flips with ") or "-",
        worded(row),
    ]


def _null(row: dict[Any, Any]) -> str:
    """What random weights show; of the part of the effect that is compared, if it is a part."""
    told = _interval(row["null_mean"], row["null_low"], row["null_high"])
    apart = told != "-" and row["compared"] != row["value"]
    return f"of its own {row['compared']:.3g}: {told}" if apart else told


def _interval(value: float, low: float, high: float) -> str:
    from whitebox_probe._core.digits import number

    return number(value, low=low, high=high)
