"""How alike layers are, within a model or between two."""

from typing import TYPE_CHECKING, Any

import numpy as np

from whitebox_probe._core.digits import number
from whitebox_probe.reporting import charts
from whitebox_probe.reporting.section import Block, Chart, Control, Part, Prose, Section, Sheet
from whitebox_probe.results.similarity import Similarity

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

# Name -> the values at no and at full colour, and what it is.
_KINDS = {
    "cka": (0.0, 1.0, "linear CKA, unbiased"),
    "overlap": (0.0, 1.0, "share of leading subspaces in common"),
    "procrustes": (2.0, 0.0, "distance after the best rotation"),
}


def _make(material: "Material") -> Part | None:
    if not material.similarities:
        return None
    blocks: list[Block] = []
    for i, similarity in enumerate(material.similarities, start=1):
        blocks.append(_chart(material, similarity, i))
        for name in _KINDS:
            if np.isnan(getattr(similarity, name)).all():
                told = f"{name}: there are too few samples ({similarity.count}) for it."
                blocks.append(Prose(told, "gap"))
    return Part("Similarity of layers", blocks)


def _chart(material: "Material", similarity: Similarity, i: int) -> Chart:
    first, second = (material.names[n] for n in (similarity.first, similarity.second))
    sheets = {}
    for name, (low, high, about) in _KINDS.items():
        rows: list[dict[str, Any]] = []
        for (y, x), value in np.ndenumerate(getattr(similarity, name)):
            where = f"{first}, layer {y + 1}; {second}, layer {x + 1}"
            made = {"x": x + 1, "y": y + 1, "told": number(float(value)), "where": where}
            rows.append(made | {"shade": charts.shade(float(value), low, high)})
        params = {"lo": low, "hi": high, "ctitle": about}
        params |= {"xtitle": f"layer of {second}", "ytitle": f"layer of {first}"}
        sheets[name] = Sheet(rows, params, note=f"{similarity.count} samples.")
    names = [(name, f"{name}: {about}") for name, (_, _, about) in _KINDS.items()]
    return Chart(
        name=f"similarity-{i}" if i > 1 else "similarity",
        label=f"How alike the layers of {first} and {second} are",
        spec=charts.heatmap(side=290),
        sheets=sheets,
        by=["kind"],
        controls=[Control("select", "kind", "Measure", names, "cka")],
        table=[("y", f"layer of {first}"), ("x", f"layer of {second}"), ("told", "value")],
    )


SECTION = Section(order=58, make=_make)
