"""From the results of models, and of their nulls, to a verdict on each claim."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from whitebox_probe._core.errors import ResultError
from whitebox_probe.auditing.claim import Claim, Statistic, claims
from whitebox_probe.auditing.verdicts import Audit, Thresholds
from whitebox_probe.results.result import Result

RANDOM_WEIGHTS = "random weights"


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
    rules = {c.name: {"claim": c.text, "rule": c.revised or c.rule} for c in claims().values()}
    frame = pd.DataFrame(rows)
    return Audit(frame, whole, t, settings or {}, rules, dict(models), dict(nulls))


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
