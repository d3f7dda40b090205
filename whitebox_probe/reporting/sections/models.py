"""The models that are compared: their sizes, and how many samples were measured."""

from typing import TYPE_CHECKING

from whitebox_probe.reporting.section import Block, Part, Prose, Section, Table
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.summary import samples_note

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material


def _make(material: "Material") -> Part | None:
    blocks: list[Block] = []
    if material.results:
        blocks.append(_models(material))
        note = samples_note(material.results)
        blocks += (
            [Prose(f"{note[:1].upper()}{note[1:]}.".replace("..", "."), "note")] if note else []
        )
    else:
        names = ", ".join(material.names.values())
        told = f"Of {names}; no result of a run is given, so sizes and data are not told here."
        blocks.append(Prose(told, "gap"))
    return Part("Models", blocks)


def _models(material: "Material") -> Table:
    head = ["model", "family", "layers", "d", "heads K", "p", "tokens n", "samples", "basis U"]
    rows = [
        [
            material.names[r.model],
            r.run.family or "not known",
            *map(str, (r.run.layers, r.run.dim, r.run.heads, r.run.dim_head, r.run.tokens)),
            str(len(uncopied(r, "samples")) or r.run.count),
            ", ".join(r.run.basis_labels) or "none",
        ]
        for r in material.results
    ]
    return Table("What is compared", head, rows, numbers=range(2, 8))


SECTION = Section(order=10, make=_make)
