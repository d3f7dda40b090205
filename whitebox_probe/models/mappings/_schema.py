"""The JSON schema of a mapping's YAML file."""

from typing import Any

from whitebox_probe.sites import SITES

_TEXT = {"type": "string", "minLength": 1}
_PATH = {"type": "string", "pattern": r"^[\w.{}*+]*$"}
MOST = 1 << 20
"""Of tokens, heads, widths and the like: far more than any network has."""
_COUNT = {"type": "integer", "minimum": 0, "maximum": MOST}
_SIZE = {**_COUNT, "minimum": 1}
_NAMED = {"type": "string", "pattern": r"^[A-Za-z_][\w.]*$"}
# A number, or the path of one; of a tensor its rows are counted.
_NUMBER, _SIZE_OR_PATH = ({"if": _NAMED, "else": each} for each in (_COUNT, _SIZE))
_AT_SITE = {"type": "string", "pattern": r"^[\w.{}*+]*:(input|output)(:[^:]+)?$"}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "about": _TEXT,
        "reference": _TEXT,
        "matches": {  # class -> where its layers are kept; paths start there
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": r"^[A-Za-z_]\w*(\.\w+)+$"},
            "additionalProperties": _PATH,
        },
        "where": {  # path -> what stands there
            "type": "object",
            "additionalProperties": {"type": ["boolean", "integer", "string", "null"]},
        },
        "run": _PATH,
        "batch_first": _PATH,
        "sites": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"enum": list(SITES)},
            "additionalProperties": _AT_SITE,
        },
        "last": {
            "type": "object",
            "propertyNames": {"enum": list(SITES)},
            "additionalProperties": _AT_SITE,
        },
        "optional": {"type": "array", "items": {"enum": list(SITES)}},
        "second": _AT_SITE,
        "context": _AT_SITE,
        "after": {"type": "array", "items": _PATH, "minItems": 2, "maxItems": 2},
        "attention": {
            "type": "object",
            "properties": {"module": _PATH, "weight": _PATH, "bias": _PATH, "out": _PATH},
            "required": ["module", "weight"],
            "additionalProperties": False,
        },
        "subspaces": {"type": "object", "additionalProperties": _TEXT},
        "operators": {
            "type": "object",
            "properties": {name: {"type": ["number", "string"]} for name in ("D", "lam", "eta")},
            "additionalProperties": False,
        },
        "prenorm": _PATH,
        "layers": _SIZE,
        "first_layer": _COUNT,
        "heads": _SIZE_OR_PATH,
        "dim_head": _SIZE_OR_PATH,
        "dim": _SIZE_OR_PATH,
        "prefix_tokens": _NUMBER,
        "class_token": _COUNT,
        "grid": {"type": "array", "items": _SIZE, "minItems": 2, "maxItems": 2},
        "patch": _SIZE_OR_PATH,
        "causal": {"anyOf": [{"type": "boolean"}, _PATH]},
    },
    "required": ["sites"],
    "additionalProperties": False,
}
