"""Put results side by side: one table, paired differences, and the figures they share.

The results must be on the same data in the same convention. Models of different sizes are drawn in
nats per token, and models of different depth against layer / number of layers. Samples are paired
one by one: the paired differences are printed over depth with interval, p and number of pairs, and
what could not be paired with the reason. An older comparison in --out is replaced.
"""

import argparse
import inspect
import itertools
from collections.abc import Mapping, Sequence
from os.path import realpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.cli import _json, _paired, _screen, _shared
from whitebox_probe.results import kinds

if TYPE_CHECKING:
    import pandas as pd

    from whitebox_probe.results.compare import Comparison
    from whitebox_probe.results.result import Result

_APART = ("convention", "eps", "lam")
"""Settings that a figure is drawn for each of, where a result has several."""
HELP = "put several results side by side, with paired differences"
EXAMPLES = (
    "compare runs/crate runs/vit --out runs/both",
    "compare runs/crate runs/vit --band std --format pdf,svg --table latex --out runs/both",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "results", nargs="+", type=_shared.path, metavar="DIR", help="folders that run --out wrote"
    )
    parser.add_argument(
        "--out",
        type=_shared.place,
        required=True,
        metavar="DIR",
        help="folder of tables and figures",
    )
    parser.add_argument(
        "--every-layer",
        action="store_true",
        help="print the differences of every layer "
        f"(default: of {_paired.DEPTHS} over the depth, if there are more than {_paired.ALL})",
    )
    _json.add_json(parser)
    _shared.add_figure_options(parser)
    _shared.add_tables(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    _shared.check_tables(args)
    # Not Path.resolve, which fails at a loop of links.
    if realpath(args.out) in map(realpath, args.results):
        raise ProbeError(
            f"{args.out} is one of the results that are compared",
            "a folder holds one thing: report would not know which",
            "Name another --out",
        )
    _shared.fillable(args.out, kinds.COMPARISON)
    with _shared.drawing(args):
        _compare(args)


def _compare(args: argparse.Namespace) -> None:
    from whitebox_probe.results.compare import compare
    from whitebox_probe.results.folder import saved_as_one

    results = _shared.results_in(args.results)
    comparison = compare(results)
    figures, left = _figures(results, args)
    from whitebox_probe import plots

    _shared.expect_own_files(args, kinds.COMPARISON, figures, "comparison")
    with saved_as_one(args.out) as new:
        drawn = [
            path
            for stem, figure in figures.items()
            for path in plots.save(figure, new / stem, args.formats)
        ]
        written = _shared.write_tables(args, comparison, "comparison", new)
        comparison.save(new)
    paths = [args.out / path.relative_to(new) for path in drawn]
    tables = [args.out / path.name for path in written]
    changed = _shared.changes(results, _shared_metrics(results))
    if args.json:
        document = _document(results, comparison, changed, [*tables, *paths], args.out)
        _json.tell(document | {"undrawn": left})
        return
    print(_shared.summary(changed))
    _tell_pairs(results, comparison, args)
    _shared.tell_if_few(results)
    for note in comparison.notes:
        print("\n" + _screen.wrapped(f"note: {note}"))
    _screen.say()
    _screen.say(f"every layer:        {args.out / 'comparison.csv'}")
    _screen.say(f"paired differences: {args.out / 'differences.csv'}")
    for path in tables:
        _screen.say(f"for a paper:        {path}")
    _shared.tell_files("figures", paths)
    for why, stems in left.items():
        _screen.say(f"not drawn, measured {why}: {', '.join(stems)}")


def _tell_pairs(
    results: list["Result"], comparison: "Comparison", args: argparse.Namespace
) -> None:
    """Print the paired differences, and what has none."""
    deep = len({r.run["layers"] for r in results}) > 1
    for block in _paired.blocks(comparison, relative=deep, every=args.every_layer):
        print("\n" + block)
    print("\n" + _screen.wrapped(_paired.NOTE))
    if _paired.cut(comparison) and not args.every_layer:
        print(_screen.wrapped("Other layers: --every-layer, or differences.csv."))
    several = len(results) > 2
    for each in _paired.unpaired(results, comparison):
        who = f" of {each['first']} and {each['second']}" if several else ""
        line = f"not paired{who}, {each['why']}: {', '.join(each['metrics'])}"
        print(_screen.wrapped(line, indent="  "))


def _document(
    results: list["Result"],
    comparison: "Comparison",
    changed: Any,
    files: list[Path],
    folder: Path,
) -> dict[str, Any]:
    return {
        "models": [result.model for result in results],
        "samples": {result.model: len(result.samples) for result in results},
        "changes": _json.records(changed),
        "layers": _json.records(comparison.frame),
        "differences": _json.records(comparison.differences),
        "unpaired": _paired.unpaired(results, comparison),
        "notes": [*comparison.notes, *filter(None, [_shared.few(results)])],
        "out": folder,
        "files": [folder / "comparison.csv", folder / "differences.csv", *files],
    }


def _shared_metrics(results: list["Result"]) -> list[str]:
    everywhere = set.intersection(*(set(r.frame["metric"]) for r in results))
    return [m for m in dict.fromkeys(results[0].frame["metric"]) if m in everywhere]


def _figures(
    results: list["Result"], args: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """File name -> figure, of all that the results share; and what is not drawn -> why.

    What was measured with several eps, lam or conventions has a figure for each.
    """
    from whitebox_probe import plots
    from whitebox_probe.plots import choose
    from whitebox_probe.results.forms import in_nats
    from whitebox_probe.results.table import written

    sizes = {r.run.sizes for r in results}
    band = None if args.band == "none" else args.band
    deep = args.relative_depth or len({r.run["layers"] for r in results}) > 1
    figures: dict[str, Any] = {}
    left: dict[str, list[str]] = {}
    kinds = choose.of_results()
    for stem, (name, metric) in choose.shared(results, _shared_metrics(results)).items():
        draw, own = plots.figures[name], (metric,) if metric else kinds[name].rows
        options: dict[str, Any] = {"band": band, "relative_depth": deep}
        options |= {"width": args.width} if args.width else {}
        if len(sizes) > 1 and any(in_nats(results[0], row) for row in own):
            options["normalise"] = "per_token"
        takes = inspect.signature(draw).parameters
        named = {"metric": metric} if metric else {}
        options = {k: v for k, v in options.items() if k in takes} | named
        for where in _choices(results, own):
            told = "".join(f"-{key}={written(value)}" for key, value in where.items())
            why = "".join(f"with several {key} in one result" for key in where if key not in takes)
            why = why or _several(results, own, kinds[name].matrices, where)
            if why:
                left.setdefault(why, []).append(stem + told)
            else:
                figures[stem + told] = draw(*results, **options, **where)
    return figures, left


def _rows(result: "Result", metrics: Sequence[str], where: Mapping[str, Any]) -> "pd.DataFrame":
    """The rows of a model's own tokens that a figure would be drawn of."""
    rows = result.frame[result.frame["metric"].isin(metrics)]
    rows = rows[rows["null"] == ""] if "null" in rows else rows
    for name, value in where.items():
        rows = rows[rows[name] == value]
    return rows


def _choices(results: list["Result"], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Settings to draw apart: those that a result has several of, at the values that all have."""
    import pandas as pd

    shared: dict[str, list[Any]] = {}
    for name in _APART:
        values = [_rows(r, metrics, {}).get(name, pd.Series()).dropna() for r in results]
        if any(each.nunique() > 1 for each in values):
            shared[name] = sorted(set.intersection(*map(set, values)))
    return [dict(zip(shared, each, strict=True)) for each in itertools.product(*shared.values())]


def _several(
    results: list["Result"],
    metrics: Sequence[str],
    matrices: Sequence[str],
    where: Mapping[str, Any],
) -> str:
    """Why results cannot share an axis; empty where they can.

    Per-head sites have a family's own name.
    """
    from whitebox_probe.results.table import several_values

    sites = set()
    for result in results:
        rows = _rows(result, metrics, where)
        sites |= {"heads" if site.startswith("heads") else site for site in rows["site"]}
        held = [dict(place) for place in result.run.matrices.values()]
        held = [place for place in held if place.get("name") in matrices and not place.get("null")]
        bases = {str(place.get("basis")) for place in held}
        several = [*several_values(rows), *(["basis"] if len(bases) > 1 else [])]
        if several:
            return f"with several {several[0]} in one result"
    return "at different sites" if len(sites) > 1 else ""
