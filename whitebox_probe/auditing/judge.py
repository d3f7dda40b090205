"""From the results of models, and of their nulls, to a verdict on each claim: `Audit`."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.auditing.claim import VERDICTS, Claim, Statistic, Thresholds, claims
from whitebox_probe.results.folder import read_seal, save_sealed
from whitebox_probe.results.result import Result

RANDOM_WEIGHTS = "random weights"
AUDIT, CURVES, SEAL = "audit.csv", "audit-curves.csv", "audit.json"
_FIX = "Make it with: whitebox-probe audit MODEL --out DIR, or wp.audit"
_TEXT = ("model", "claim", "text", "statistic", "null", "beyond_null", "verdict", "reason")
# The two tables are for other programs: what is read again stands, to the last digit, in the seal.


@dataclass(frozen=True, eq=False)
class Audit:
    """Verdicts on models.

    Attributes:
        frame: one row a model and claim: statistic, 95% interval, the null's, whether the model
            is beyond it (its interval apart from the null's, on the claim's side), verdict, reason.
        curves: the measure behind each claim against depth, with the null's mean.
        thresholds: that the verdicts used. settings: that the numbers used (eps, lam, basis, data,
            limit, seed), by name.
        results, nulls: model -> Result; empty for an audit that was read from disk.
    """

    frame: pd.DataFrame
    curves: pd.DataFrame
    thresholds: Thresholds
    settings: Mapping[str, Any] = field(default_factory=dict)
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
            "rules": {
                c.name: {"claim": c.text, "rule": c.revised or c.rule} for c in claims().values()
            },
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
        return cls(frame, curves, thresholds, dict(whole.get("settings", {})))

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


def judge(
    models: Mapping[str, Result],
    nulls: Mapping[str, Result],
    *,
    thresholds: Thresholds | None = None,
    settings: Mapping[str, Any] | None = None,
    of: Sequence[Claim] | None = None,
) -> Audit:
    """Compute the verdicts.

    Args:
        models: name -> what was measured. nulls: name -> the same of random weights, where there
            are any. of: the claims, all when not given.

    Raises: ResultError when there is no model.
    """
    if not models:
        raise ResultError("there is nothing to judge", "no model was given", "Pass one or more")
    t = thresholds or Thresholds()
    rows, curves = [], []
    for name, result in models.items():
        null = nulls.get(name)
        for claim in claims().values() if of is None else of:
            found = claim.take(result, t)
            other = claim.take(null, t) if null is not None and not found.missing else Statistic()
            rows.append(_row(claim, name, found, other, t, having_null=null is not None))
            if not found.missing:
                curves.append(_curve(claim, name, result, null))
    whole = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame()
    return Audit(pd.DataFrame(rows), whole, t, settings or {}, dict(models), dict(nulls))


def _row(
    claim: Claim,
    name: str,
    found: Statistic,
    other: Statistic,
    t: Thresholds,
    *,
    having_null: bool,
) -> dict[str, Any]:
    return {
        "model": name,
        "claim": claim.name,
        "text": claim.text,
        "statistic": claim.statistic,
        "value": found.value,
        "ci_low": found.low,
        "ci_high": found.high,
        "second": found.second,
        "null": RANDOM_WEIGHTS if having_null else "",
        "null_value": other.value,
        "null_ci_low": other.low,
        "null_ci_high": other.high,
        "beyond_null": "" if claim.revised else _beyond(claim, found, other),
        "verdict": claim.verdict(found, t),
        "reason": found.missing or claim.revised or claim.rule,
    }


def _beyond(claim: Claim, found: Statistic, null: Statistic) -> str:
    """Whether a model does it more than random weights do: the intervals are apart."""
    if np.isnan(found.value) or np.isnan(null.value):
        return ""
    apart = found.high < null.low if claim.wants == "low" else found.low > null.high
    return "yes" if apart else "no"


def _curve(claim: Claim, name: str, result: Result, null: Result | None) -> pd.DataFrame:
    mine = claim.curve(result)[["layer", "mean", "ci_low", "ci_high"]].copy()
    mine.insert(0, "claim", claim.name)
    mine.insert(1, "model", name)
    mine["null_mean"] = claim.curve(null)["mean"].to_numpy() if null is not None else float("nan")
    return mine
