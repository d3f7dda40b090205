"""Draw the curve of every measure on the shipped pair, for its page.

    python docs/curves.py            # all of them: some minutes
    python docs/curves.py gini l0    # or some

Run it when a measure is added or its numbers move: a test notices a measure without a picture.
Nothing is fetched.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import whitebox_probe as wp
from whitebox_probe.metrics.catalogue import catalogue
from whitebox_probe.metrics.measure import Measure, SampleMeasure
from whitebox_probe.metrics.tokens import MEAN
from whitebox_probe.models.registry import build
from whitebox_probe.probing.means import mean_updates, with_means

HERE = Path(__file__).parent
PICTURES = HERE / "figures" / "measures"
MODELS = ("crate-tiny-fmnist", "crate-tiny-fmnist-init", "vit-tiny-fmnist")
DATA = "fashion-mnist"
LIMIT = 100
DPI = 110
COLUMNS = 3
"""How many curves stand in a line, of a measure with several rows."""


def rows_of(measure: type[Measure]) -> tuple[str, ...]:
    """The rows of a measure in the table: its name where it has one value a sample."""
    return (measure.name,) if issubclass(measure, SampleMeasure) else measure.rows


def models_for(measure: type[Measure]) -> list[wp.ProbeModel]:
    """The shipped models; for a measure of memberships, which they lack, a ToST without training.

    What the attention adds on average is measured first where a measure asks for it.
    """
    shipped = [wp.load(name) for name in MODELS]
    if measure.name == "variational_compression":
        torch.manual_seed(0)
        sizes = {"patch_size": 4, "channels": 1, "classes": 10, "dim": 96, "depth": 8, "heads": 4}
        network = build("tost", sizes, source="docs/curves.py")
        return [wp.wrap(network, name="ToST, random weights", preprocess=shipped[0].preprocess)]
    if MEAN not in getattr(measure, "needs_operators", ()):
        return shipped
    return [with_means(each, mean_updates(each, DATA, limit=LIMIT)) for each in shipped]


def measured(measure: type[Measure]) -> list[wp.Result]:
    """What these have of a measure: models that lack what it needs are left out."""
    lacks = "D" in getattr(measure, "needs_operators", ())  # a ViT has no dictionary
    models = [each for each in models_for(measure) if not lacks or "D" in each.layer(1).operators]
    return [wp.probe(each, DATA, [measure.name], limit=LIMIT, progress=False) for each in models]


def drawn(results: Sequence[wp.Result], rows: Sequence[str]) -> plt.Figure:
    """One axes a row."""
    across = min(COLUMNS, len(rows))
    down = -(-len(rows) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(3.4 * max(across, 1.7), 2.7 * down), squeeze=False
    )
    for axis, row in zip(axes.flat, rows, strict=False):
        wp.plots.curves(*results, metric=row, ax=axis, legend=False)
    for axis in axes.flat[len(rows) :]:
        axis.remove()
    lines, names = axes.flat[0].get_legend_handles_labels()
    room = 0.3 / figure.get_figheight()
    figure.tight_layout(rect=(0, room, 1, 1))
    figure.legend(lines, names, loc="lower center", ncols=len(names), frameon=False, fontsize=8)
    return figure


def draw(names: Sequence[str]) -> None:
    """Draw those that are named, or all."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in names or catalogue():
        measure = catalogue()[name]
        results = measured(measure)
        file = PICTURES / f"{name}.png"
        drawn(results, rows_of(measure)).savefig(file, dpi=DPI, metadata={"Software": None})
        plt.close("all")
        print(file.name, f"{file.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    draw(sys.argv[1:])
