"""Draw one figure from saved results, or of samples inside a model.

--metric takes any measure of the table (l0, hoyer, coding_rate, ...) and draws it against depth,
one curve a result. --figure takes any figure (whitebox-probe list --figures): of what run wrote,
such as coherence; of what audit wrote, as audit and robustness; and with --model and --data of
what a model does with a few samples, such as attention, attention_matrix, tokens and text. What
else a figure takes is given with --option.
"""

import argparse
import inspect
from pathlib import Path
from typing import Any

from whitebox_probe._core.errors import ProbeError, SettingError, nearest
from whitebox_probe.cli import _completing, _numbers, _screen, _shared

HELP = "a figure from saved results"
EXAMPLES = (
    "plot runs/crate runs/vit --metric compression --out compression",
    "plot runs/crate --metric hoyer --band std --out hoyer.pdf",
    "plot runs/crate runs/vit --figure coherence --labels CRATE,ViT --out coherence.png",
    "plot runs/crate runs/vit --metric l0 --style paper.mplstyle --width text --out l0.pdf",
    "plot runs/epoch-01 runs/epoch-07 runs/epoch-15 --figure over_steps --metric l0 --out training",
    "plot --figure attention --model crate-tiny-fmnist --data fashion-mnist --out attention.png",
    "plot --figure text --model gpt2-tiny-kjv --data kjv --option value=received --out text.png",
    "plot runs/crate runs/vit --metric l0 --palette '#1b6ca8,#e07b39' --size 5,3 --out l0",
)
_WHICH = ("convention", "basis", "null", "eps", "lam")
_OF_THEIR_OWN = ("band", "site", "width", "size", "labels", "palette", "steps", "title", *_WHICH)
"""Keywords of figures that have an option; `_flag` says how it is spelled."""
_OTHER_FORMATS = (".jpg", ".jpeg", ".eps", ".ps", ".tif", ".tiff", ".gif", ".webp")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add(
        "results",
        nargs="*",
        type=_shared.path,
        metavar="DIR",
        help="folders that run or audit wrote",
    )
    _completing.by(add("--metric", help="a measure of the table"), "metrics")
    figure = "a figure (whitebox-probe list --figures; default: the measure's own)"
    _completing.by(add("--figure", help=figure), "figures")
    add(
        "--out",
        type=_shared.place,
        required=True,
        metavar="FILE",
        help="file; a suffix .pdf, .png, .svg or .pgf is the format, else --format says it; a "
        "figure of this program that is there is replaced, and any other file only with "
        "--overwrite",
    )
    add("--overwrite", action="store_true", help="replace a file that is no figure of ours")
    add("--site", help="which one, if the metric was measured at several")
    _shared.add_figure_options(parser)
    add("--per-token", action="store_true", help="divide nats by the number of tokens")
    add("--size", type=_pair, metavar="W,H", help="width and height in inches")
    add(
        "--labels",
        type=_shared.names,
        metavar="A,B,...",
        help="what the models are called, in the order of the folders",
    )
    add(
        "--palette",
        metavar="NAME|A,B,...",
        help="a colour map of matplotlib, or colours, in the order of the folders",
    )
    add(
        "--steps",
        type=_numbers.typed_numbers,
        metavar="A,B,...",
        help="training steps of the folders, in their order (default: by their names)",
    )
    add("--title", help="above the axes")
    add(
        "--option",
        dest="more",
        action="append",
        type=_shared.pair,
        default=[],
        metavar="KEY=VALUE",
        help="another keyword of the figure, as layer=6, query=3,4 or sort=false; again for each",
    )
    inside = parser.add_argument_group("a look inside a model, for figures of samples")
    kind = _shared.name_or_path
    told = "a checkpoint's name, or a file"
    model = inside.add_argument("--model", type=kind, metavar="NAME", help=told)
    _completing.by(model, "checkpoints", files=True)
    told = "name, folder or file of samples"
    data = inside.add_argument("--data", type=kind, metavar="NAME", help=told)
    _completing.by(data, "data", files=True)
    inside.add_argument(
        "--samples", type=_shared.count, default=4, metavar="N", help="how many (default: 4)"
    )
    inside.add_argument(
        "--seed", type=_numbers.typed_whole, default=0, help="which of them (default: 0)"
    )
    which = parser.add_argument_group(
        "which curve, where a measure was taken with several settings"
    )
    for name in ("convention", "basis", "null"):
        which.add_argument(f"--{name}", help="the one to draw")
    for name in ("eps", "lam"):
        which.add_argument(
            f"--{name}", type=_numbers.typed_number, metavar="X", help="the one to draw"
        )


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    if args.metric is None and args.figure is None:
        raise ProbeError(
            "nothing says what to draw", "neither --metric nor --figure is given", "Give one"
        )
    suffix = args.out.suffix.lower()
    if suffix in _OTHER_FORMATS:
        args.formats = [suffix[1:]]  # which is refused in the words of all commands
    _shared.writable(args.out.parent)
    if suffix[1:] in _shared.FORMATS:
        args.formats = [suffix[1:]]
    with _shared.drawing(args):
        if not args.overwrite:
            paths = [Path(f"{_stem(args)}.{form}") for form in args.formats]
            _shared.expect_figures(paths, "Name another --out, or add --overwrite")
        _draw(args)


def takes_option(name: str) -> bool:
    """Whether some figure takes a keyword of that name, with --option."""
    from whitebox_probe import plots

    return any(name in inspect.signature(draw).parameters for draw in plots.figures.values())


def _stem(args: argparse.Namespace) -> Path:
    known = args.out.suffix.lower()[1:] in _shared.FORMATS
    stem: Path = args.out.with_suffix("") if known else args.out
    return stem


def _draw(args: argparse.Namespace) -> None:
    from whitebox_probe import plots
    from whitebox_probe.plots.kind import kind_of

    kind = kind_of(plots.figures[args.figure]) if args.figure in plots.figures else None
    named: dict[str, Any] = {}
    if kind is not None and kind.takes == "view":
        given, name = [_view(args)], args.figure
    elif kind is not None and kind.takes in ("audit", "similarity"):
        given, name = [_alone(args, kind.takes)], args.figure
    else:
        given = _results(args)
        name, named = _chosen(args.metric, args.figure, given)
    draw = plots.figures[name]
    figure = draw(*given, **named, **_options(args, name, draw))
    _screen.say(*plots.save(figure, _stem(args), args.formats))


def _view(args: argparse.Namespace) -> Any:
    """Samples inside a model."""
    if args.results or not (args.model and args.data):
        raise ProbeError(
            f"there is nothing that the figure '{args.figure}' can be drawn of",
            "it looks inside a model, at samples of its own",
            "Give --model and --data, and no folder",
        )
    from whitebox_probe.cli import _model
    from whitebox_probe.models.load import load
    from whitebox_probe.probing.view import view

    _model.known(args.model, None)
    return view(load(args.model), args.data, limit=args.samples, seed=args.seed)


def _alone(args: argparse.Namespace, kind: str) -> Any:
    """The one audit or similarity of a folder."""
    _refuse_inside(args)
    if len(args.results) != 1:
        raise ProbeError(
            f"the figure '{args.figure}' is of one {kind}; {len(args.results)} folders are given",
            "it holds all of its models",
            "Give the one folder that it was saved in",
        )
    if kind == "audit":
        from whitebox_probe.auditing.verdicts import Audit

        return Audit.load(args.results[0])
    from whitebox_probe.results.similarity import Similarity

    return Similarity.load(args.results[0])


def _results(args: argparse.Namespace) -> list[Any]:
    """The results of the folders."""
    _refuse_inside(args)
    if not args.results:
        raise ProbeError(
            "there is nothing to draw", "no folder is given", "Give those that run --out wrote"
        )
    return _shared.results_in(args.results)


def _refuse_inside(args: argparse.Namespace) -> None:
    from whitebox_probe import plots
    from whitebox_probe.plots.kind import kind_of

    for name in ("model", "data"):
        if getattr(args, name) is not None:
            kinds = {figure: kind_of(draw) for figure, draw in plots.figures.items()}
            inside = [figure for figure, kind in kinds.items() if kind and kind.takes == "view"]
            raise ProbeError(
                f"--{name} is given, and '{args.figure or args.metric}' is drawn of folders",
                "it is no figure of samples",
                f"Leave out --{name}, or use --figure {', '.join(inside[:-1])} or {inside[-1]}",
            )


def _chosen(
    metric: str | None, figure: str | None, results: list[Any]
) -> tuple[str, dict[str, Any]]:
    """The figure, and the measure to name; either of the two options takes either's names."""
    from whitebox_probe import plots
    from whitebox_probe.plots import choose

    kinds = choose.of_results()
    measured = list(dict.fromkeys(m for r in results for m in r.frame["metric"]))
    if metric and figure:
        _refuse_other(figure, kinds)
        takes = "metric" in inspect.signature(plots.figures[figure]).parameters
        if not takes and metric not in kinds[figure].rows:
            raise ProbeError(
                f"the figure '{figure}' does not draw '{metric}'",
                "it draws what its name says",
                "Leave out --metric, or use --figure curves",
            )
        return figure, {"metric": metric} if takes else {}
    asked = metric or figure or ""
    if asked in measured:
        return choose.of_measure(asked, results)
    if asked in plots.figures:
        _refuse_other(asked, kinds)
        return asked, {}
    raise ProbeError(
        f"'{asked}' is not in these results" if metric else f"there is no figure '{asked}'",
        "it was not measured, or is no measure" if metric else "nor is it a measure of the results",
        nearest(asked, dict.fromkeys([*measured, *kinds] if metric else [*kinds, *measured])),
    )


def _refuse_other(figure: str, kinds: Any) -> None:
    from whitebox_probe import plots

    if figure in plots.figures and figure not in kinds:
        raise ProbeError(
            f"the figure '{figure}' is not drawn of saved results",
            f"it takes {plots.figures[figure].kind.takes}",  # type: ignore[attr-defined]
            f"Use one of: {', '.join(kinds)}",
        )
    if figure not in kinds:
        raise ProbeError(f"there is no figure '{figure}'", "it is unknown", nearest(figure, kinds))


def _options(args: argparse.Namespace, name: str, draw: Any) -> dict[str, Any]:
    """The options that were given, as the figure takes them."""
    given = {
        "band": None if args.band == "none" else args.band,
        "relative_depth": args.relative_depth or None,
        "normalise": "per_token" if args.per_token else None,
        "site": args.site,
        "width": args.width,
        "size": args.size,
        "labels": args.labels,
        "palette": _palette(args.palette),
        "steps": args.steps,
        "title": args.title,
    } | {name: getattr(args, name) for name in _WHICH}
    from whitebox_probe.plots._keywords import held_to, hints_of, read

    signature = inspect.signature(draw)
    takes, hints = signature.parameters, hints_of(signature, draw.__globals__)
    given = {key: value for key, value in given.items() if value is not None or key == "band"}
    if "band" not in takes:
        del given["band"]  # it has a default, which says nothing
    for key, value in args.more:
        if key in given:
            raise ProbeError(
                f"--option {key} is given, and its value stands already",
                "a keyword has one value",
                f"Leave it out, and use {_instead(key, value)}",
            )
        if key not in takes:
            raise ProbeError(
                f"the figure '{name}' takes no --option {key}",
                "it has no keyword of that name",
                nearest(key, [k for k in takes if k not in given]),
            )
        try:
            given[key] = held_to(name, key, read(value, hints[key]), hints[key])
        except SettingError as error:
            raise ProbeError(f"--option {error.what}", error.why, error.fix) from error
    for key in given:
        if key not in takes:
            raise ProbeError(
                f"the figure '{name}' takes no --{_flag(key)}",
                "it draws none" if key == "steps" else "it does not draw a measure against depth",
                f"Leave out --{_flag(key)}",
            )
    return given


def _flag(key: str) -> str:
    return {"normalise": "per-token"}.get(key, key.replace("_", "-"))


def _instead(key: str, value: str) -> str:
    """The option of its own that a keyword has; the other --option of one that has none."""
    if key in ("normalise", "relative_depth"):
        return f"--{_flag(key)}"
    if key in _OF_THEIR_OWN:
        return f"--{_flag(key)} {value.lower() if value in ('None', 'null') else value}"
    return f"one --option {key}"


def _palette(text: str | None) -> Any:
    return _shared.names(text) if text and ("," in text or text.startswith("#")) else text


def _pair(text: str) -> tuple[float, float]:
    """Two numbers, as an argparse type."""
    try:
        width, height = map(_numbers.number, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not W,H, as in 6.8,3") from None
    return width, height
