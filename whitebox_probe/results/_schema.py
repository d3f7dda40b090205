"""The JSON schemas of what a saved result, comparison or audit says of itself."""

from typing import Any

_TEXT = {"type": "string", "maxLength": 1 << 16}
_NAME = {"type": "string", "maxLength": 1 << 12}
_SIZE = {"type": "integer", "minimum": 0, "maximum": 1 << 40}
_NUMBER = {"type": "number"}
_OBJECT = {"type": "object"}


def _or_none(one: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [one, {"type": "null"}]}


def _listed(one: dict[str, Any]) -> dict[str, Any]:
    """One value, or several in a list."""
    return {"anyOf": [one, {"type": "array", "items": one}]}


_TRUTH = _or_none({"type": "boolean"})
_SETTINGS = {
    "conventions": _listed(_NAME),
    "bases": _listed(_or_none(_NAME)),
    "orthonormal": _listed(_TRUTH),
    "prenorm": _listed(_TRUTH),
    "class_token": _listed(_TRUTH),
    "eps": _listed(_or_none({"type": "number", "exclusiveMinimum": 0})),
    "lam": _listed(_or_none(_NUMBER)),
    "null": _listed(_or_none(_NAME)),
    "metrics": {"type": "array", "items": _NAME},
    "seed": {"type": "integer", "minimum": 0},
    "measurements": {
        "type": "array",
        "items": {"type": "object", "properties": {"metric": _NAME, "site": _NAME}},
    },
    **dict.fromkeys(("dtype", "nonfinite", "on_error"), _NAME),
    **{key: {"type": "boolean"} for key in ("fast", "robustness")},
    "fit": _or_none(_OBJECT),
}
_BOUND = {
    "type": "array",
    "anyOf": [
        {"items": _NUMBER, "minItems": 2, "maxItems": 2},
        {
            "items": {
                "type": "object",
                "properties": {"low": _NUMBER, "high": _NUMBER},
                "required": ["low", "high"],
            }
        },
    ],
}
_MEASURE = {
    "type": "object",
    "properties": {
        "label": _TEXT,
        "unit": _NAME,
        "group": _NAME,
        "metric": _NAME,
        "better": _or_none(_NAME),
        "bases": {"type": "boolean"},
    },
    "required": ["label", "unit", "group", "bases"],
}
_MATRIX = {"type": "object", "properties": {"name": _NAME, "site": _NAME, "null": _or_none(_NAME)}}
_CHECKPOINT = {"name": _or_none(_NAME), "sha256": _or_none(_NAME), "initial_of": _or_none(_NAME)}
RUN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "model": _NAME,
        **dict.fromkeys(("layers", "dim", "heads", "dim_head", "tokens", "count", "prefix"), _SIZE),
        "data": {
            "type": "object",
            "properties": {"name": _TEXT, "fingerprint": _or_none(_NAME), "limit": _or_none(_SIZE)},
        },
        "settings": {
            "type": "object",
            "properties": _SETTINGS,
            "required": ["seed", "conventions", "bases"],  # what is read without a default
        },
        "family": _NAME,
        "checkpoint": {"type": "object", "properties": _CHECKPOINT},
        "network": {"type": "object", "properties": {"arch": _or_none(_OBJECT)}},
        "preprocess": _or_none(_OBJECT),
        "bounds": {"type": "object", "additionalProperties": _BOUND},
        "measures": {"type": "object", "additionalProperties": _MEASURE},
        "matrices": {"type": "object", "additionalProperties": _MATRIX},
        "nonfinite": _OBJECT,
        "thresholds": _or_none(_OBJECT),
        "labels": _or_none(_OBJECT),
        "execution": {
            "type": "object",
            "properties": {
                "batch_size": _or_none(_SIZE),
                "device": _NAME,
                "processes": _SIZE,
                "workers": _or_none(_SIZE),
            },
        },
        "seconds": _NUMBER,
        "created": _NAME,
        "versions": {"type": "object", "additionalProperties": _or_none(_NAME)},
        "null_of": _NAME,
        "null_line": {
            "anyOf": [
                {"type": "null"},
                {"enum": ["-", "--", "-.", ":", "solid", "dashed", "dashdot", "dotted"]},
                {
                    "type": "array",
                    "items": [_NUMBER, {"type": "array", "items": _NUMBER, "minItems": 2}],
                    "minItems": 2,
                    "maxItems": 2,
                },
            ]
        },
    },
}
FILES: dict[str, Any] = {
    "type": "object",
    "propertyNames": {"pattern": r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"},
    "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
COMPARISON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "notes": {"type": "array", "items": _TEXT},
        "units": {"type": "object", "additionalProperties": _NAME},
    },
}
