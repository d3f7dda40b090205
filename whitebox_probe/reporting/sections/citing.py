"""How to cite: the package, the papers of the measures, and who made the checkpoints."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from whitebox_probe.reporting import cited
from whitebox_probe.reporting.section import Block, Code, Part, Prose, Section, Table

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material


def _make(material: "Material") -> Part:
    blocks: list[Block] = [
        Prose("Please cite the package, and the papers of the measures that you report."),
        Code(cited.package(), "BibTeX of the package"),
    ]
    rows = list(_measures(material))
    if rows:
        blocks.append(Table("Papers of the measures shown", ["measure", "source"], rows))
    checkpoints = [
        [name, told] for name in _checkpoints(material) if (told := cited.checkpoint(name))
    ]
    if checkpoints:
        blocks.append(Table("The checkpoints", ["checkpoint", "to cite"], checkpoints))
    return Part("How to cite", blocks)


def _measures(material: "Material") -> Iterator[list[str]]:
    frames = [r.run.measures for r in material.results]
    for metric in dict.fromkeys(
        str(m.get("metric") or n) for told in frames for n, m in told.items()
    ):
        yield [metric, cited.measure(metric) or "no paper is named in its documentation"]


def _checkpoints(material: "Material") -> list[str]:
    told = [r.run.checkpoint for r in material.results]
    for audit in material.audits:
        of = audit.settings.get("models", {}).values()
        told += [about.get("checkpoint", {}) for about in of]
    names = [str(each.get("name") or "") for each in told]
    return [name for name in dict.fromkeys(names) if name]


SECTION = Section(order=90, make=_make)
