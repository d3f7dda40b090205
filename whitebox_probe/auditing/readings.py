"""A result as claims read it: each curve found at once, however many there are.

`Result.curve` looks through the whole table each time; an audit asks some thousand times.
"""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.results.held import uncopied
from whitebox_probe.results.result import Result
from whitebox_probe.results.run import Run
from whitebox_probe.results.table import SETTINGS, no_value, written
from whitebox_probe.stats import by_content, count_contents

_COLUMNS = ["layer", "mean", "ci_low", "ci_high", "count"]
_TOLD = tuple(name for name in SETTINGS if name != "null")


@dataclass(frozen=True)
class _Curve:
    """The rows of one curve, by layer."""

    site: str
    settings: Mapping[str, Any]
    rows: list[tuple[int, float, float, float, int, str]]


class Readings:
    """The curves of a result, of the model's own tokens and subspaces.

    Attributes: run: of the result. count: of its samples, each content once.
    """

    def __init__(self, result: Result) -> None:
        self.run: Run = result.run
        self._samples, self._contents = result.samples, result.contents()
        self.count = count_contents(len(self._samples), self._contents)
        if self.count == len(self._samples):  # no copies to look for in each of many values
            self._contents = None
        # By place: looking for names among thousands takes longer than their values.
        self._places = {name: i for i, name in enumerate(self._samples.columns)}
        self._values: dict[tuple[int, ...], np.ndarray] = {}
        self._curves: dict[str, list[_Curve]] = {}
        frame = uncopied(result, "frame")
        found: dict[tuple[Any, ...], _Curve] = {}
        columns = [frame[name].tolist() for name in ("metric", "site", "null", *_TOLD)]
        numbers = [frame[name].tolist() for name in _COLUMNS]
        keys = result.keys().tolist()
        for (metric, site, null, *told), row, key in zip(
            zip(*columns, strict=True), zip(*numbers, strict=True), keys, strict=True
        ):
            if null:
                continue
            at = (metric, site, *(written(value) for value in told))
            if at not in found:
                settings = dict(zip(_TOLD, told, strict=True))
                found[at] = _Curve(site, settings, [])
                self._curves.setdefault(metric, []).append(found[at])
            found[at].rows.append((*row, key))
        for curve in found.values():
            curve.rows.sort()

    def first(self, count: int) -> "Readings":
        """The same of its first samples; curves, with their intervals, stay those of all."""
        few = copy.copy(self)
        few._samples = self._samples.iloc[:count]
        few._contents = None if self._contents is None else self._contents[:count]
        few.count = count_contents(len(few._samples), few._contents)
        few._values = {}
        return few

    def values(self, metric: str, site: str | None, where: Mapping[str, Any]) -> np.ndarray:
        """Values a sample of a measure, (samples, layers); one row a content (`by_content`).

        Claims and the settings around them ask for the same ones: they are held, to read alone.

        Raises: ResultError as `curve` does, and for a measure that has none.
        """
        names = [row[-1] for row in self._one(metric, site, where).rows]
        if not all(name in self._places for name in names):
            raise ResultError(
                f"'{metric}' has no value a sample", "it is read from weights", "Use its curve"
            )
        places = tuple(self._places[name] for name in names)
        if places not in self._values:
            columns = self._samples.iloc[:, list(places)].to_numpy()
            self._values[places] = by_content(columns, self._contents)
            self._values[places].flags.writeable = False
        return self._values[places]

    def curve(self, metric: str, site: str | None, where: Mapping[str, Any]) -> pd.DataFrame:
        """A measure against depth: layer, mean and its interval.

        Raises: ResultError when it was not measured so, or in several ways.
        """
        rows = [row[:4] for row in self._one(metric, site, where).rows]
        return pd.DataFrame(rows, columns=_COLUMNS[:4])

    def counts(self, metric: str, site: str | None, where: Mapping[str, Any]) -> np.ndarray:
        """Of how many samples, or pairs of heads, each layer's mean is taken: (layers,).

        Raises: ResultError as `curve` does.
        """
        return np.array([row[4] for row in self._one(metric, site, where).rows])

    def _one(self, metric: str, site: str | None, where: Mapping[str, Any]) -> _Curve:
        fits = [
            curve
            for curve in self._curves.get(metric, [])
            if site in (None, curve.site)
            and all(_is(curve.settings[k], v) for k, v in where.items())
        ]
        if len(fits) != 1:
            told = ", ".join(f"{name}={written(value)}" for name, value in where.items())
            raise ResultError(
                f"{len(fits) or 'no'} curves of '{metric}' at {site or 'its site'} have {told}",
                "a claim is about one",
                "Measure what its requests ask for",
            )
        return fits[0]


def _is(found: Any, wanted: Any) -> bool:
    """Whether a row was taken with a setting, or does not depend on it."""
    if no_value(found):
        return True
    if isinstance(wanted, float):
        return math.isclose(found, wanted, rel_tol=1e-9)
    return bool(found == wanted)
