"""A cell: one model on one data set with one choice of settings, and what tells it apart."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from whitebox_probe._core.hashing import digest_of

CELLS = "cells"
"""The folder, in that of a sweep, which holds a folder a cell."""
_LONGEST = 100
_DIGITS = 10


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is measured, in plain values that a file or another machine can hold.

    Attributes:
        model: arguments of `load`, and `name`. data: those of `wp.data`, and `name`.
        metrics, sites: as `probe` takes them. settings: every field of `Settings`.
        contents: digests of the files that `model` and `data` name.
        factors: what varies in the sweep -> its value here.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    metrics: tuple[str, ...] | None
    sites: Mapping[str, Any]
    settings: Mapping[str, Any]
    contents: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """A digest of all that its numbers depend on; names and places of files are none of it."""
        return digest_of(self.told())

    def told(self) -> dict[str, Any]:
        """All that its numbers depend on: a file that is named counts by what it holds."""
        model = {k: v for k, v in self.model.items() if k != "name"}
        data = {k: v for k, v in self.data.items() if k != "name"}
        model |= dict(self.contents.get("model", {}))
        data |= dict(self.contents.get("data", {}))
        if model.get("weights") == "pretrained":
            model.pop("seed", None)
        return {
            "model": model,
            "data": data,
            "metrics": None if self.metrics is None else list(self.metrics),
            "sites": dict(self.sites),
            "settings": dict(self.settings),
        }

    @property
    def name(self) -> str:
        """What tables and figures call it: its model, and what else varies."""
        rest = {k: v for k, v in self.factors.items() if k not in ("model", "data")}
        parts = [str(self.model["name"])]
        parts += [str(self.data["name"])] if "data" in self.factors else []
        return ", ".join([*parts, *(f"{k}={written(v)}" for k, v in rest.items())])

    def folder(self, out: Path) -> Path:
        """Where its result is: the folder that has its identity, under whichever name.

        What varies grows with a sweep's file, and with it the names of cells that are done.
        """
        mark = self.identity[:_DIGITS]
        found = sorted(path for path in (out / CELLS).glob(f"*-{mark}") if path.is_dir())
        words = re.sub(r"[^\w.=+]+", "-", self.name.replace(", ", "_")).strip("-.")
        return found[0] if found else out / CELLS / f"{words[:_LONGEST]}-{mark}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Cell":
        """The cell that `to_dict` gave."""
        metrics = told["metrics"]
        return cls(**{**told, "metrics": None if metrics is None else tuple(metrics)})


def written(value: Any) -> str:
    """A value as names have it; several of one pass are joined.

    >>> written(0.5), written([0.1, 0.5]), written(None), written(False)
    ('0.5', '0.1+0.5', 'none', 'False')
    """
    if isinstance(value, list | tuple):
        return "+".join(map(written, value))
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
