"""A few samples seen from inside: where heads look, and what tokens are like."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.errors import ProbeError
from whitebox_probe.reporting import charts
from whitebox_probe.reporting.section import (
    Block,
    Chart,
    Control,
    Fold,
    Part,
    Picture,
    Prose,
    Section,
    Sheet,
)
from whitebox_probe.results.attention_maps import SITE, maps_of
from whitebox_probe.results.view import View

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

MOST = 60_000
"""Weights of attention in a chart."""
_DPI = 150


def _make(material: "Material") -> Part | None:
    if not material.views:
        return None
    blocks: list[Block] = []
    for i, view in enumerate(material.views, start=1):
        name = material.names[view.model]
        if len(material.views) > 1:
            blocks.append(Prose(f"{name}: {view.samples} samples."))
        if view.images is not None and view.grid is not None and _layers(view):
            blocks += _attention(view, name, i)
        blocks += _pictures(view, name)
    return Part("Samples from inside", blocks)


def _layers(view: View) -> list[int]:
    return sorted(layer for site, layer in view.sites if site == SITE)


def _attention(view: View, name: str, i: int) -> Iterator[Block]:
    layers = _layers(view)
    maps = {
        layer: view.in_grid(maps_of(view, layer, None)) for layer in layers
    }  # (B, K, rows, columns)
    each = sum(m[0].size for m in maps.values())
    shown = min(view.samples, MOST // each)
    if not shown:
        yield Prose(
            f"{name}: the attention of one sample is {each:,} weights, too many for a chart; "
            "the picture beneath has the last layer's.",
            "gap",
        )
        return
    sheets = {}
    for sample in range(shown):
        for layer in layers:
            rows = list(_rows(maps[layer][sample], layer))
            params = {"lo": 0, "hi": 1, "xtitle": "", "ytitle": ""}
            params["ctitle"] = "attention, over the largest of its head"
            sheets[f"{sample}|{layer}"] = Sheet(rows, params)
    heads = [f"head {n + 1}" for n in range(next(iter(maps.values())).shape[1])]
    samples = [(str(n), _sample(view, n)) for n in range(shown)]
    yield Chart(
        name=f"attention-{i}" if i > 1 else "attention",
        label=f"Where the heads of {name} look in one sample, one panel a head",
        spec=charts.heatmap(facet="head", order=heads, columns=6, side=104),
        sheets=sheets,
        by=["sample", "layer"],
        controls=[
            Control("select", "sample", "Sample", samples, "0"),
            Control(
                "slider",
                "layer",
                "Layer",
                [(n, f"{n} of {layers[-1]}") for n in layers],
                layers[-1],
            ),
        ],
        table=[("head", "head"), ("y", "row"), ("x", "column"), ("told", "attention")],
    )
    if shown < view.samples:
        yield Prose(
            f"The chart has {shown} of {view.samples} samples, as there would be too many weights.",
            "gap",
        )


def _sample(view: View, n: int) -> str:
    told = f"sample {view.ids[n]}" if n < len(view.ids) else f"sample {n + 1}"
    return f"{told}, {view.labels[n]}" if n < len(view.labels) else told


def _rows(maps: np.ndarray, layer: int) -> Iterator[dict[str, Any]]:
    """Each head's weights over the patches, the largest of a head in full colour."""
    for head, of in enumerate(maps, start=1):
        most = float(of.max())
        for (row, column), value in np.ndenumerate(of):
            yield {
                "head": f"head {head}",
                "x": column + 1,
                "y": row + 1,
                "told": f"{float(value):.3g}",
                "shade": charts.shade(float(value), 0.0, most),
                "where": f"layer {layer}, row {row + 1}, column {column + 1}",
            }


def _pictures(view: View, name: str) -> Iterator[Block]:
    """Every figure of the package that can be drawn of this view; of others, why not."""
    from whitebox_probe import plots
    from whitebox_probe.plots.kind import kind_of

    left: list[Block] = []
    for title, draw in plots.figures.items():
        kind = kind_of(draw)
        if kind is None or kind.takes != "view":
            continue
        try:
            figure = draw(view)
        except ProbeError as error:
            left.append(Prose(f"{title}: {error}"))
            continue
        about = (draw.__doc__ or title).strip().partition("\n")[0].rstrip(".")
        yield _picture(figure, f"{name}: {about}")
    if left:
        yield Fold("Pictures that could not be drawn, and why", left)


def _picture(figure: Any, about: str) -> Picture:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    wide, tall = figure.get_size_inches()
    return Picture(file.getvalue(), about, round(wide * 110), round(tall * 110), about)


SECTION = Section(order=60, make=_make)
