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
_KEY, _BASIS = ("model", "layer", "site", "metric"), ("basis", "convention")
_SETTINGS = ("prenorm", "class_token", "eps", "lam", "null")
_SPREAD = ("std", "sem", "ci_low", "ci_high")
_MEAN = ("mean", *_SPREAD, "count")
_TABLES = (
    (*_KEY, *_BASIS, *_MEAN),
    (*_KEY, *_BASIS, *_SETTINGS, *_MEAN),
    (*_KEY, *_BASIS, *_SETTINGS, *_MEAN, "note"),
)
_PER_TOKEN = ("relative_depth", "mean_per_token")
_PAIR, _DIFFERENCE = ("first", "second", "metric", "site"), ("difference", *_SPREAD)
_DEPTH, _BASES = ("layer", "relative_depth", "form"), ("first_basis", "second_basis", "convention")
_SET = (*_PAIR, *_BASES, *_SETTINGS, *_DEPTH, *_DIFFERENCE, "effect_size")
_JUDGED, _TOLD = ("model", "claim"), ("reason", "sentence")
_DRAWN = ("null_mean", "null_least", "null_most")
_AUDIT = ("text", "statistic", "unit", "value", "ci_low", "ci_high", "p", "p_holm", "tested")
_NULL = ("null", "null_draws", "null_mean", "null_low", "null_high", "null_p", "beyond_null")
COLUMNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "table.csv": _TABLES,
    "comparison.csv": (
        (*_TABLES[0], *_PER_TOKEN),
        *((*each, *_PER_TOKEN, "mean_per_entry", "mean_position") for each in _TABLES),
    ),
    "differences.csv": (
        (*_PAIR, "layer", *_DIFFERENCE, "count"),
        (*_PAIR, *_DEPTH, *_DIFFERENCE, "effect_size", "count"),
        (*_SET, "count"),
        (*_SET, "p", "count", "p_holm"),
    ),
    "audit.csv": ((*_JUDGED, *_AUDIT, "samples", "compared", *_NULL, "robust", "verdict", *_TOLD),),
    "audit-robustness.csv": ((*_JUDGED, "setting", "counts", "value", "p", "agrees", "why"),),
    "audit-parts.csv": ((*_JUDGED, "part", "value"),),
    "audit-curves.csv": (
        ("claim", "model", "layer", "mean", "ci_low", "ci_high", "unit", *_DRAWN),
    ),
    "similarity.csv": (
        ("first", "second", "first_layer", "second_layer", "cka", "overlap", "procrustes", "count"),
    ),
}
"""The columns that tables have had, version by version: so ours are known without their seal.

An audit's are today's: no version wrote one without its seal.
"""
NUMBERS = {
    *("layer", "first_layer", "second_layer", "count", "samples", "null_draws", "eps", "lam"),
    *("mean", *_SPREAD, *_PER_TOKEN, "mean_per_entry", "mean_position", "difference"),
    *("effect_size", "p", "p_holm", "value", "compared", "cka", "overlap", "procrustes"),
    *("null_mean", "null_low", "null_high", "null_p", "null_least", "null_most"),
}
"""Columns of these tables that hold numbers, or nothing."""
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
