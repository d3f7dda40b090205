"""All numbers as files: what the tables of the results hold, to the last digit."""

from typing import TYPE_CHECKING

import pandas as pd

from whitebox_probe.auditing.verdicts import TABLES, file_of
from whitebox_probe.reporting.section import Block, File, Files, Part, Prose, Section
from whitebox_probe.results.compare import Comparison

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material


def _make(material: "Material") -> Part:
    blocks: list[Block] = [
        Prose(
            "To the last digit, as the package's own tables have them: one row a model, layer, "
            "measure and setting."
        )
    ]
    files: list[File] = []
    results = [
        each for r in material.results for each in (r, *material.nulls.get(r.model, {}).values())
    ]
    if results:
        frame = pd.concat([r.frame for r in results], ignore_index=True)
        files.append(_file("results.csv", "Save all numbers of the results (CSV)", frame))
    for i, comparison in enumerate(_comparisons(material), start=1):
        end = f"-{i}" if i > 1 else ""
        files.append(
            _file(
                f"differences{end}.csv", "Save the paired differences (CSV)", comparison.differences
            )
        )
        if not results:
            files.append(
                _file(f"comparison{end}.csv", "Save what is compared (CSV)", comparison.frame)
            )
    for i, audit in enumerate(material.audits, start=1):
        for name, table in zip(
            TABLES, (audit.frame, audit.robustness, audit.parts, audit.curves), strict=True
        ):
            end = f"{i}-" if i > 1 else ""
            files.append(_file(end + file_of(name), f"Save the audit's {name} (CSV)", table))
    for i, similarity in enumerate(material.similarities, start=1):
        end = f"-{i}" if i > 1 else ""
        files.append(_file(f"similarity{end}.csv", "Save the similarity (CSV)", similarity.frame()))
    return Part("Numbers", [*blocks, Files(files)])


def _comparisons(material: "Material") -> list[Comparison]:
    if material.comparisons:
        return list(material.comparisons)
    made = material.comparison
    return [made] if isinstance(made, Comparison) else []


def _file(name: str, label: str, frame: pd.DataFrame) -> File:
    return File(name, label, frame.to_csv(index=False, lineterminator="\n"))


SECTION = Section(order=80, make=_make)
