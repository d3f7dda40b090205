"""Where every number came from, and the one command that makes it again."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from whitebox_probe.reporting import commands
from whitebox_probe.reporting.section import Block, Cell, Code, Fold, Part, Prose, Section, Table
from whitebox_probe.results.run import Run
from whitebox_probe.results.table import written

if TYPE_CHECKING:
    from whitebox_probe.reporting.material import Material

NOT_TOLD = "not told"
_CODES = ("SHA-256 of its file", "fingerprint of the data")


def _make(material: "Material") -> Part:
    blocks: list[Block] = []
    if material.results:
        names = [material.names[r.model] for r in material.results]
        runs = [r.run for r in material.results]
        rows: list[list[Cell | str]] = [
            [label, *(Cell(text, code=code) for text in told)] for label, code, told in _rows(runs)
        ]
        blocks.append(Table("Where the results come from", ["", *names], rows))
        for name, run in zip(names, runs, strict=True):
            whole = json.dumps(run.to_dict(), indent=2, sort_keys=True)
            blocks.append(
                Fold(
                    f"All of run.json: {name}", [Code(whole, f"run.json of {name}")], printed=False
                )
            )
    else:
        blocks.append(
            Prose(
                "No result of a run is given: which checkpoints and data these are is not told.",
                "gap",
            )
        )
    for i, audit in enumerate(material.audits, start=1):
        told = f" {i}" if len(material.audits) > 1 else ""
        whole = json.dumps(
            {"settings": dict(audit.settings), "thresholds": vars(audit.thresholds)},
            indent=2,
            sort_keys=True,
            default=str,
        )
        blocks.append(
            Fold(
                f"Settings and thresholds of the audit{told}", [Code(whole, f"Of the audit{told}")]
            )
        )
    command, gaps = commands.whole(material)
    if command:
        blocks.append(Code(command, "One command that makes it again"))
    blocks += [Prose(f"The command does not say all: {gap}.", "gap") for gap in dict.fromkeys(gaps)]
    return Part("Provenance", blocks)


def _rows(runs: list[Run]) -> Iterator[tuple[str, bool, list[str]]]:
    """(label, whether it is code, the text of each run)."""
    told: dict[str, Any] = {
        "checkpoint": lambda r: r.checkpoint.get("name") or f"{NOT_TOLD}: made in Python",
        "SHA-256 of its file": lambda r: r.checkpoint.get("sha256"),
        "network": lambda r: _pairs(r.network.get("arch") or {}),
        "preprocessing": lambda r: _pairs(r.preprocess or {}) or f"{NOT_TOLD}: data came prepared",
        "data": lambda r: r.data.get("name"),
        "fingerprint of the data": lambda r: r.data.get("fingerprint"),
        "samples": _samples,
        "seed": lambda r: r.settings.get("seed", ""),
        "convention": lambda r: _listed(r.settings.get("conventions")),
        "basis": lambda r: ", ".join(r.basis_labels),
        "eps": lambda r: _listed(r.settings.get("eps")),
        "lam": lambda r: _listed(r.settings.get("lam")),
        "precision of the pass": lambda r: r.settings.get("dtype"),
        "left out": _left_out,
        "device": lambda r: r.execution.get("device"),
        "measured": lambda r: f"{r.created}, in {r.seconds:.1f} s" if r.created else "",
        "versions": lambda r: ", ".join(f"{k} {v}" for k, v in sorted(r.versions.items())),
    }
    for label, of in told.items():
        found = ["" if (value := of(run)) is None else str(value) for run in runs]
        yield label, label in _CODES, [text or NOT_TOLD for text in found]


def _samples(run: Run) -> str:
    limit = run.data.get("limit")
    return str(run.count) + ("" if limit is None else f", drawn with limit {limit}")


def _left_out(run: Run) -> str:
    dropped = {k: v for k, v in run.nonfinite.items() if v}
    return f"samples that are not finite: {_pairs(dropped)}" if dropped else "none"


def _listed(values: Any) -> str:
    values = values if isinstance(values, list) else [values]
    return ", ".join(written(v) or "none" for v in values)


def _pairs(mapping: Any) -> str:
    return ", ".join(f"{k}={v}" for k, v in sorted(mapping.items()))


SECTION = Section(order=70, make=_make)
