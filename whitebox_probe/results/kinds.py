"""What a folder holds, by the file that tells it: one thing each, or `report` would not know."""

from pathlib import Path

from whitebox_probe._core.errors import ProbeError
from whitebox_probe._core.gate import is_file
from whitebox_probe.results.folder import expect_own, holds_own

RESULT, COMPARISON, AUDIT, SWEEP = "a result", "a comparison", "an audit", "a sweep"
_TOLD_BY = {
    "run.json": RESULT,
    "arguments.json": "a run that is not finished",
    "comparison.json": COMPARISON,
    "audit.json": AUDIT,
    "similarity.csv": "a similarity",
    "cells.csv": SWEEP,
}
FILES = {
    RESULT: ("run.json", "table.csv", "table.parquet", "samples.parquet", "matrices.npz"),
    COMPARISON: ("comparison.json", "comparison.csv", "differences.csv"),
    AUDIT: (
        "audit.json",
        "audit.csv",
        "audit-robustness.csv",
        "audit-parts.csv",
        "audit-curves.csv",
    ),
}
"""What is written as one into a folder: the seal, and the other files."""
_OF = {RESULT: {"run.json", "arguments.json"}}


def expect_room(folder: Path, kind: str) -> None:
    """Check that a folder, if it is there, holds nothing but what it is to hold.

    Files of a user's own may lie in it, unless their names are those of what is to be written.

    Args: kind: one of those above, which may be replaced; "" for none.
    Raises: ProbeError.
    """
    own = _OF.get(kind, {name for name, told in _TOLD_BY.items() if told == kind})
    other = next((n for n in _TOLD_BY if n not in own and is_file(folder / n)), None)
    if other is not None:
        raise ProbeError(
            f"{folder} holds {_TOLD_BY[other]} ({other})",
            "a folder holds one thing: report would not know which",
            "Name another --out",
        )
    if kind in FILES:
        seal, *others = FILES[kind]
        expect_own(folder, seal, others)
    for name in sorted(own.difference(FILES.get(kind, own))):
        if is_file(folder / name):
            expect_own(folder, name, [])


def is_own(folder: Path, kind: str) -> bool:
    """Whether a folder holds something of a kind that this program wrote."""
    if kind not in FILES:
        return False
    seal, *others = FILES[kind]
    return holds_own(folder, seal, others)
