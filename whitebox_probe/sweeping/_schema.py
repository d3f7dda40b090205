"""The JSON schema of a sweep's YAML file, its settings made from the fields of `Settings`."""

from dataclasses import fields
from typing import Any

from whitebox_probe.probing.settings import Execution, Settings

EXECUTION = ("batch_size", "workers", "device", "save_every")
SETTINGS = tuple(each.name for each in fields(Settings))
_TEXT = {"type": "string", "minLength": 1}
_ONE = {"type": ["string", "number", "boolean", "null"]}
_COUNT = {"type": "integer", "minimum": 1}
MOST_THREADS = 4096
_NAMES = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}
# A value, or several, one a cell; a list among them is measured in one pass.
_VALUES = {
    "anyOf": [
        _ONE,
        {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [_ONE, {"type": "array", "items": _ONE, "minItems": 1}]},
        },
    ]
}
MODEL = {
    "name": _TEXT,
    "model": _TEXT,
    "arch": _TEXT,
    "set": {"type": "object"},
    "weights": {"enum": ["pretrained", "random"]},
    "preprocess": _TEXT,
    "wrapper": _TEXT,
    "mapping": _TEXT,
}
DATA = {
    "name": _TEXT,
    "data": _TEXT,
    "column": _TEXT,
    "label": _TEXT,
    "mask": _TEXT,
    "separator": _TEXT,
    "windows": _TEXT,
    "pixels": {"type": "boolean"},
    "stream": {"type": "boolean"},
}
_SETTINGS = dict.fromkeys(SETTINGS, _VALUES)
_PART = {"model": _NAMES, "data": _NAMES, **_SETTINGS}


def _mapping(known: dict[str, Any], *needed: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": known,
        "required": list(needed),
        "additionalProperties": False,
    }


def _several(known: dict[str, Any], needed: str) -> dict[str, Any]:
    one = {"if": {"type": "object"}, "then": _mapping(known, needed), "else": _TEXT}
    return {"if": {"type": "array"}, "then": {"items": one, "minItems": 1}, "else": one}


SCHEMA: dict[str, Any] = _mapping(
    {
        "models": _several(MODEL, "model"),
        "data": _several(DATA, "data"),
        "metrics": _NAMES,
        "sites": {"type": "object", "additionalProperties": _NAMES},
        "settings": _mapping(_SETTINGS),
        "limit": _COUNT,
        "cells": {"type": "array", "items": _mapping(_PART), "minItems": 1},
        "exclude": {
            "type": "array",
            "items": {**_mapping(_PART), "minProperties": 1},
            "minItems": 1,
        },
        "execution": _mapping({name: {} for name in EXECUTION}),
        "engine": _TEXT,
        "workers": _COUNT,
        "threads": {**_COUNT, "maximum": MOST_THREADS},
        "ray": {"type": "object"},
        "slurm": {"type": "object"},
        "out": _TEXT,
    },
    "models",
)
assert set(EXECUTION) <= {each.name for each in fields(Execution)}
