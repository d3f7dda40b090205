"""Verdicts on models: what they are called, the numbers that they depend on, and their table."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.results.folder import read_seal, save_sealed
from whitebox_probe.results.result import Result

SUPPORTED, NOT_SUPPORTED, CONTRADICTED = "supported", "not supported", "contradicted"
NOT_APPLICABLE, NOT_JUDGED = "not applicable", "not judged"
VERDICTS = (SUPPORTED, NOT_SUPPORTED, CONTRADICTED, NOT_APPLICABLE, NOT_JUDGED)
AUDIT, CURVES, SEAL = "audit.csv", "audit-curves.csv", "audit.json"
_FIX = "Make it with: whitebox-probe audit MODEL --out DIR, or wp.audit"
_TEXT = ("model", "claim", "text", "statistic", "null", "beyond_null", "verdict", "reason")
# The two tables are for other programs: what is read again stands, to the last digit, in the seal.


@dataclass(frozen=True)
class Thresholds:
    """All numbers that verdicts depend on.

    Attributes:
        rho: rank correlation with depth that a trend must reach, in size, to be called one.
        cosine: mean cosine that an update must reach to count as pointing along a direction.
        keeps: share of its first value that R must keep to count as not collapsed.
        rises: share of steps from layer to layer that must rise significantly for an objective to
            count as improving layer after layer.
        zeros: share of exact zeros that a model must reach somewhere for its l0 to mean anything.
    """

    rho: float = 0.5
    cosine: float = 0.1
    keeps: float = 0.8
    rises: float = 0.5
    zeros: float = 0.001


@dataclass(frozen=True, eq=False)
class Audit:
    """Verdicts on models.

    Attributes:
        frame: one row a model and claim: statistic, 95% interval, the null's, whether the model
            is beyond it (its interval apart from the null's, on the claim's side), verdict, reason.
        curves: the measure behind each claim against depth, with the null's mean.
        thresholds: that the verdicts used. settings: that the numbers used (eps, lam, basis, data,
            limit, seed), by name.
        rules: claim -> what it says, and when it is supported.
        results, nulls: model -> Result; empty for an audit that was read from disk.
    """

    frame: pd.DataFrame
    curves: pd.DataFrame
    thresholds: Thresholds
    settings: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    results: Mapping[str, Result] = field(default_factory=dict)
    nulls: Mapping[str, Result] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """By verdicts, curves, thresholds and settings."""
        if not isinstance(other, Audit):
            return NotImplemented
        mine, theirs = (
            (each.thresholds, json.dumps(each.settings, sort_keys=True, default=str))
            for each in (self, other)
        )
        return (
            mine == theirs and self.frame.equals(other.frame) and self.curves.equals(other.curves)
        )

    def __hash__(self) -> NoReturn:
        raise TypeError("an Audit is compared by content and has no hash")

    def save(self, folder: str | Path) -> Path:
        """Write audit.csv, audit-curves.csv and audit.json; returns the folder."""
        whole = {
            "thresholds": asdict(self.thresholds),
            "settings": dict(self.settings),
            "rules": dict(self.rules),
            "verdicts": _records(self.frame),
            "curves": _records(self.curves),
            "columns": {"verdicts": list(self.frame), "curves": list(self.curves)},
        }
        writers: dict[str, Callable[[Path], Any]] = {
            AUDIT: lambda path: self.frame.to_csv(path, index=False),
            CURVES: lambda path: self.curves.to_csv(path, index=False),
        }
        return save_sealed(Path(folder), writers, SEAL, whole, free=[AUDIT, CURVES])

    @classmethod
    def load(cls, folder: str | Path) -> "Audit":
        """Read what `save` wrote; the results behind it are saved and loaded by themselves.

        Raises: ResultError when the folder holds no whole audit.
        """
        folder = Path(folder)
        whole = read_seal(folder, SEAL, what="audit", fix=_FIX)
        try:
            thresholds = Thresholds(**whole["thresholds"])
            frame, curves = (
                _frame(whole[name], whole["columns"][name]) for name in ("verdicts", "curves")
            )
            if not set(frame["verdict"]) <= set(VERDICTS):
                raise ValueError("it holds verdicts that are not known")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultError(f"the audit in {folder} cannot be read", str(error), _FIX) from error
        settings, rules = (dict(whole.get(name, {})) for name in ("settings", "rules"))
        return cls(frame, curves, thresholds, settings, rules)

    def table(self) -> pd.DataFrame:
        """One row a claim, one column a model: the verdict, and the statistic with its interval."""
        told = self.frame.assign(told=[_told(row) for row in self.frame.to_dict("records")])
        order = list(dict.fromkeys(told["claim"]))
        wide = told.pivot(index="claim", columns="model", values="told").loc[order]
        return wide[list(dict.fromkeys(told["model"]))]

    def _repr_html_(self) -> str:
        """The table of verdicts."""
        return str(self.table().to_html(escape=True))

    def to_latex(self) -> str:
        """The table of verdicts, for a paper (booktabs)."""
        return str(self.table().to_latex(escape=True))


def _told(row: Mapping[Any, Any]) -> str:
    """The verdict, with the statistic and its interval where there is one."""
    if np.isnan(row["value"]):
        return str(row["verdict"])
    interval = f"[{row['ci_low']:.3g}, {row['ci_high']:.3g}]"
    return f"{row['verdict']}: {row['value']:.3g} {interval}"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them, NaN as null."""
    rows = frame.to_dict("records")
    return [{str(k): None if v != v else v for k, v in row.items()} for row in rows]


def _frame(records: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """What `_records` was made of."""
    frame = pd.DataFrame(records, columns=columns)
    for name in frame.columns:
        if name not in _TEXT and name != "layer":
            frame[name] = frame[name].astype("float64")
    return frame
