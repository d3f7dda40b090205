"""What a folder holds, by the file that tells it, and how a file of ours is known."""

from typing import Any

RESULT, COMPARISON, AUDIT, SWEEP = "a result", "a comparison", "an audit", "a sweep"
SIMILARITY, UNFINISHED = "a similarity", "a run that is not finished"
TOLD_BY = {
    "run.json": RESULT,
    "arguments.json": UNFINISHED,
    "comparison.json": COMPARISON,
    "audit.json": AUDIT,
    "similarity.csv": SIMILARITY,  # of versions without a seal too
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
    SIMILARITY: ("similarity.json", "similarity.csv"),
}
"""What is written as one into a folder: the seal, and the other files."""
COLUMNS = {
    "table.csv": {"model", "layer", "site", "metric", "mean"},
    "comparison.csv": {"model", "layer", "site", "metric", "mean"},
    "audit.csv": {"model", "claim", "verdict"},
    "similarity.csv": {"first", "second", "first_layer", "second_layer"},
}
"""Columns by which tables of ours are known in every version, also without their seal."""
TOGETHER = {RESULT: {"run.json", "arguments.json"}}
"""Files by which a folder is of a kind, where there are several."""


def _with(*keys: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": [*keys, *properties], "properties": properties}


_ROW = _with("model", "claim", "verdict")
OWN: dict[str, dict[str, Any]] = {
    "run.json": _with(
        *("model", "data", "layers", "dim", "heads", "dim_head", "tokens", "count"),
        *("bounds", "seconds", "created", "versions"),
    ),
    "arguments.json": _with(
        *("metrics", "weights", "sites", "data", "limit", "seed", "dtype"),
        *("convention", "basis", "orthonormal", "prenorm", "class_token", "eps", "lam"),
    ),
    "audit.json": _with(
        thresholds={"type": "object"},
        rules={"type": "object"},
        verdicts={"type": "array", "items": _ROW, "minItems": 1},
    ),
    "comparison.json": _with(
        "format", notes={"type": "array"}, files=_with("comparison.csv", "differences.csv")
    ),
    "cell.json": _with("format", "identity", cell={"type": "object"}, execution={"type": "object"}),
}
"""File -> the schema that it has followed in every version, and nobody else's does by chance.

Those that tell digests of other files, and their own, are known by these too.
"""
