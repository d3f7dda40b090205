"""Measure the shipped CRATE and ViT, trained and untrained, on the shipped images, and draw it all.

With --text: the shipped language models, a CRATE and a GPT-2, on the shipped text.

Nothing is downloaded. Writes figures (PDF and PNG), tables (CSV) and the results themselves, which
whitebox-probe compare and plot take. Figures of this program in --out are replaced.
"""

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.io import atomic_path
from whitebox_probe.cli import _screen, _shared
from whitebox_probe.results import kinds
from whitebox_probe.results.folder import is_own
from whitebox_probe.results.writing import as_csv

if TYPE_CHECKING:
    from whitebox_probe.auditing.verdicts import Audit

JUDGED = 64
"""Samples on which the verdicts at the end are given."""
HELP = "the main job on the data and models that ship with the package"
EXAMPLES = (
    "demo --out figures",
    "demo --out figures --limit 200",
    "demo --text --out figures-text",
)
IMAGES, TEXT = "fashion-mnist", "kjv"
MODELS = {
    IMAGES: (
        "crate-tiny-fmnist",
        "crate-tiny-fmnist-init",
        "vit-tiny-fmnist",
        "vit-tiny-fmnist-init",
    ),
    TEXT: ("crate-tiny-kjv", "crate-tiny-kjv-init", "gpt2-tiny-kjv", "gpt2-tiny-kjv-init"),
}
FIGURES = (
    "compression",
    "compression-paper",
    "coding-rate",
    "rate-reduction",
    "sparsity",
    "sparsity-hoyer",
    "coherence",
    "subspace-overlap",
)
SAMPLES = {IMAGES: "images", TEXT: "windows of text"}
SUMMARY = {
    "compression": "R^c, official [nats]",
    "coding_rate": "R [nats]",
    "rate_reduction": "R - R^c [nats]",
    "l0": "non-zero share",
    "hoyer": "Hoyer sparseness",
    "coherence_mean": "coherence, mean",
}
NOTES = """\
mean [95% interval over {samples}]; change: last layer minus first, sample by sample.
R^c, official: as the CRATE release measures it. R and R - R^c: the paper's formulas, on tokens \
after the layer's attention norm, with each head's basis orthonormalised. U is CRATE's own basis, \
and the key projections of the {other}.
Coherence is read from the weights: no interval. -init: the same model before training."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add(
        "--out",
        type=_shared.place,
        default=Path("figures"),
        metavar="DIR",
        help="folder to write to",
    )
    add("--text", action="store_true", help="language models on text, instead of images")
    add(
        "--limit",
        type=_shared.count,
        metavar="N",
        help="N of the 2,000 images or 200 windows, for a quick look (default: all)",
    )
    add("--device", help="cpu, cuda, cuda:1, mps, ... (default: cpu)")
    _shared.add_drawing(parser)
    _shared.add_progress(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    with _shared.drawing(args):
        _demo(args)


def _demo(args: argparse.Namespace) -> None:
    start = time.perf_counter()
    if args.limit == 1:
        raise ProbeError("--limit is 1", "one sample has no interval", "Use 2 or more")
    _shared.fillable(args.out, "")
    _shared.expect_own_files(args, "", FIGURES)
    if not is_own(args.out / "tables" / "official", kinds.COMPARISON):
        fix = "Move it away, or name another --out"
        _shared.expect_figures([args.out / "tables" / "summary.csv"], fix)
    from whitebox_probe.auditing.audit import audit
    from whitebox_probe.models.load import load
    from whitebox_probe.probing.plan import Request
    from whitebox_probe.probing.probe import probe
    from whitebox_probe.results.compare import compare

    data = TEXT if args.text else IMAGES
    models = [load(name) for name in MODELS[data]]
    common = {"limit": args.limit, "device": args.device, "progress": not args.quiet}
    # One pass a model: the release's convention, and the paper's with orthonormal bases.
    wanted = [Request(convention="official"), Request(convention="paper", orthonormal=True)]
    whole = [probe(m, data, wanted, **common) for m in models]
    official = [
        r.select(convention="official", basis=m.default_basis)
        for m, r in zip(models, whole, strict=True)
    ]
    paper = [
        r.select(convention="paper", basis=f"{m.default_basis}+qr")
        for m, r in zip(models, whole, strict=True)
    ]
    written = []
    for convention, results in (("official", official), ("paper", paper)):
        for result in results:
            folder = args.out / "results" / convention / result.model
            written.append(result.save(folder))
        tables = compare(results).save(args.out / "tables" / convention)
        written += [tables / "comparison.csv", tables / "differences.csv"]
    changed = _changes(official, paper)
    written.append(args.out / "tables" / "summary.csv")
    with atomic_path(written[-1]) as path:
        as_csv(changed)(path)
    paths = _draw(official, paper, args)
    samples = SAMPLES[data]
    print(f"\n{len(paper[0].samples)} {samples}, {data}, {paper[0].run['layers']} layers\n")
    print(_shared.summary(changed, SUMMARY))
    notes = NOTES.format(samples=samples, other="GPT-2" if args.text else "ViT")
    print("\n" + _screen.wrapped(notes))
    _shared.tell_if_few(paper)
    _screen.say()
    _shared.tell_files("figures", paths)
    _shared.tell_files("tables and results", written)
    trained = [model for model in models if not model.name.endswith("-init")]
    count = JUDGED if args.limit is None else min(args.limit, JUDGED)
    _screen.say()
    for line in _verdicts(audit(trained, data, **common | {"limit": count}), samples):
        print(_screen.wrapped(line, indent="  "))
    print(f"\n{time.perf_counter() - start:.0f} s")


def _verdicts(found: "Audit", samples: str) -> list[str]:
    """The verdicts in five lines: of each model what is supported, and what is not."""
    frame = found.frame
    names = list(dict.fromkeys(frame["model"]))
    count = int(frame["samples"].max())
    lines = [f"verdicts on {count} {samples} (whitebox-probe audit ... --explain all tells why):"]
    for name in names:
        rows = frame[(frame["model"] == name) & (frame["verdict"] != "not applicable")]
        of = {v: ", ".join(r["claim"]) for v, r in rows.groupby("verdict", sort=False)}
        yes = of.pop("supported", "nothing")
        lines.append(f"  {name}  supported: {yes}")
        rest = "; ".join(f"{verdict}: {which}" for verdict, which in of.items())
        lines.append(f"  {' ' * len(name)}  {rest}")
    return lines


def _changes(official: list[Any], paper: list[Any]) -> Any:
    """R^c in the official convention, everything else in the paper's."""
    import pandas as pd

    rest = [metric for metric in SUMMARY if metric != "compression"]
    tables = [_shared.changes(official, ["compression"]), _shared.changes(paper, rest)]
    return pd.concat(tables, ignore_index=True)


def _draw(official: list[Any], paper: list[Any], args: argparse.Namespace) -> list[Path]:
    from whitebox_probe import plots

    width: dict[str, Any] = {"width": args.width} if args.width else {}
    drawn = (
        plots.compression(*official, **width),
        plots.compression(*paper, **width),
        plots.coding_rate(*paper, **width),
        plots.rate_reduction(*paper, **width),
        plots.sparsity(*paper, **width),
        plots.sparsity(*paper, metric="hoyer", **width),
        plots.coherence(*paper, **width),
        plots.subspace_overlap(*paper, **width),
    )
    return [
        path
        for stem, figure in zip(FIGURES, drawn, strict=True)
        for path in plots.save(figure, args.out / stem, args.formats)
    ]
