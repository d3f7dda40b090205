"""The JSON schema of checkpoints.yaml."""

from typing import Any

_TEXT = {"type": "string", "minLength": 1}
# A file's name becomes a path in the cache; these patterns keep it inside that folder.
_FILENAME = {"type": "string", "pattern": r"^[A-Za-z0-9_][A-Za-z0-9_.+-]*$"}
_RELATIVE = {"type": "string", "pattern": r"^(?!/)(?!.*(^|/)\.\.(/|$))[A-Za-z0-9_./+-]+$"}
# pip reads a word that starts with a dash as an option.
_REQUIREMENT = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.!+-]*$"}

SOURCES: dict[str, dict[str, Any]] = {
    "packaged": {"file": _RELATIVE},
    "url": {"url": {"type": "string", "pattern": "^https?://"}, "filename": _FILENAME},
    "gdrive": {"id": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}, "filename": _FILENAME},
    "huggingface": {
        "repo": {"type": "string", "pattern": r"^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?$"},
        "revision": _TEXT,
    },
    "timm": {"name": _FILENAME},
    "path": {"path": _TEXT},
    "wheel": {"package": _REQUIREMENT, "version": _REQUIREMENT, "member": _RELATIVE},
    "hand": {"filename": _FILENAME},
}
# Fields that a kind may have besides. `file`: left out where a repository is known and its files
# are not. `files`: other members of the wheel -> their sha256.
OPTIONAL: dict[str, dict[str, Any]] = {
    "huggingface": {"file": _RELATIVE},
    "wheel": {
        "files": {
            "type": "object",
            "propertyNames": _RELATIVE,
            "additionalProperties": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
        }
    },
}


def _source(kind: str) -> dict[str, Any]:
    """Once `kind` is known, exactly that kind's fields are asked for."""
    fields = SOURCES[kind]
    return {
        "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
        "then": {
            "properties": {"kind": {}, **fields, **OPTIONAL.get(kind, {})},
            "required": list(fields),
            "additionalProperties": False,
        },
    }


_TRIPLE = {"type": "array", "items": {"type": "number"}, "minItems": 1}
_OF_IMAGES = {
    "properties": {
        "size": {"type": "integer", "minimum": 1},
        "crop": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "mean": _TRIPLE,
        "std": {
            "type": "array",
            "items": {"type": "number", "exclusiveMinimum": 0},
            "minItems": 1,
        },
        "mode": {"enum": ["RGB", "L"]},
        "interpolation": {"enum": ["nearest", "bilinear", "bicubic"]},
    },
    "required": ["size", "mean", "std"],
    "additionalProperties": False,
}
# A .json is a file beside the weights; other names are transformers' own.
_OF_TEXT = {
    "properties": {
        "tokenizer": {"type": "string", "pattern": r"^(?!/)(?!.*\.\.)[A-Za-z0-9_./-]+$"},
        "length": {"type": "integer", "minimum": 1},
    },
    "required": ["tokenizer", "length"],
    "additionalProperties": False,
}
_ARCHITECTURE = {"family": _TEXT, "arch": {"type": "object", "minProperties": 1}}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "checkpoints": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z0-9][a-z0-9._-]*$"},
            "additionalProperties": {
                "type": "object",
                "properties": {
                    **_ARCHITECTURE,
                    "source": {
                        "type": "object",
                        "properties": {"kind": {"enum": list(SOURCES)}},
                        "required": ["kind"],
                        "allOf": [_source(kind) for kind in SOURCES],
                    },
                    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                    "size": {"type": "integer", "minimum": 1},
                    "wrapper": _TEXT,
                    "preprocess": {
                        "type": "object",
                        "if": {"required": ["tokenizer"]},
                        "then": _OF_TEXT,
                        "else": _OF_IMAGES,
                    },
                    "training_data": _TEXT,
                    "accuracy": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "dataset": _TEXT,
                                "split": _TEXT,
                                "top1": {"type": "number", "minimum": 0, "maximum": 100},
                                "source": _TEXT,
                            },
                            "required": ["dataset", "split", "top1", "source"],
                            "additionalProperties": False,
                        },
                    },
                    "loss": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "dataset": _TEXT,
                                "split": _TEXT,
                                "per_token": {"type": "number", "minimum": 0},
                                "per_byte": {"type": "number", "minimum": 0},
                                "source": _TEXT,
                            },
                            "required": ["dataset", "split", "per_token", "source"],
                            "additionalProperties": False,
                        },
                    },
                    "licence": _TEXT,
                    "citation": _TEXT,
                    "reference": _TEXT,
                    "tested": {"enum": ["weights", "format"]},
                    "note": _TEXT,
                    "initial_of": _TEXT,
                },
                "required": ["family", "arch", "source"],
                "additionalProperties": False,
            },
        },
        "architectures": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": _ARCHITECTURE,
                "required": ["family", "arch"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["checkpoints"],
    "additionalProperties": False,
}
